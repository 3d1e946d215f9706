"""Writing rendered pictures: file names, formats and encodings."""

from __future__ import annotations

import io
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invcodec.errors import DamagedError, UsageError
from invcodec.metrics import over_white
from invcodec.mp4 import write_video
from invcodec.output import check_output, file_name_part, make_directory, written

from .progress import counted
from .values import standard_output

if TYPE_CHECKING:
    from invcodec.decoding.playback import Film
    from invcodec.decoding.video import Video, View

COLOUR_SUFFIXES = (".png", ".jpg", ".jpeg")
DEPTH_SUFFIXES = (".png", ".npy", ".tiff", ".tif")
VIDEO_SUFFIX = ".mp4"

_NUMBER = re.compile(r"%0?\d*d")


@dataclass(frozen=True)
class OutputPattern:
    """Where the pictures of a film are written.

    Attributes:
        name: a file name, which may contain a printf-style placeholder (%04d) for the picture's number.
        suffix: of the name, in lower case; decides the format.
        stdout: write to standard output instead.
    """

    name: str
    suffix: str
    stdout: bool = False

    @property
    def numbered(self) -> bool:
        return _NUMBER.search(self.name) is not None

    @property
    def is_video(self) -> bool:
        return self.suffix == VIDEO_SUFFIX

    def path(self, film: Film, index: int) -> Path:
        """File of a film's picture: numbered by frame if each picture shows a different frame, else from 0."""
        number = film.shots[index].number if film.by_frame else index
        return Path(_NUMBER.sub(lambda match: match[0] % number, self.name, count=1))

    def paths(self, film: Film) -> list[Path]:
        """All files that a film is written to."""
        return [self.path(film, i) for i in range(len(film.shots))] if self.numbered else [Path(self.name)]


def plan(
    output: str | None,
    video: Video,
    films: Sequence[Film],
    poses: Sequence[str],
    *,
    depth: bool,
    force: bool,
) -> list[OutputPattern]:
    """Where to write each film; refuses everything that would fail later.

    Args:
        output: the value of -o, or None for default names.
        poses: name of the pose of each film, which tells files apart.
        depth: whether depth is written instead of colour.
        force: overwrite existing files.

    Raises:
        UsageError: an unsuitable format, an existing file, or a name used twice.
    """
    patterns = []
    for film, pose in zip(films, poses, strict=True):
        pattern = _pattern(output, video, film, depth=depth)
        if len(films) > 1:
            if pattern.stdout:
                raise UsageError("-o -: only one pose can be written to standard output")
            stem = pattern.name.removesuffix(pattern.suffix)
            pattern = OutputPattern(f"{stem}-{file_name_part(pose)}{pattern.suffix}", pattern.suffix)
        patterns.append(pattern)
    if patterns[0].stdout:
        # Refuses a terminal before anything is rendered.
        standard_output()
    pairs = zip(patterns, films, strict=True)
    paths = [path for pattern, film in pairs if not pattern.stdout for path in pattern.paths(film)]
    if len(set(paths)) < len(paths):
        raise UsageError("two poses have the same name, so their files would overwrite each other; rename one")
    if output is not None and (output.endswith("/") or patterns[0].numbered):
        for folder in {path.parent for path in paths}:
            make_directory(folder)
    for path in paths:
        check_output(path, force)
    return patterns


def _pattern(output: str | None, video: Video, film: Film, *, depth: bool) -> OutputPattern:
    many = len(film.shots) > 1
    if output == "-":
        if many and depth:
            raise UsageError("-o -: only one depth picture can be written; choose a frame with --frame")
        return OutputPattern("-", VIDEO_SUFFIX if many else ".png", stdout=True)
    if output is None or output.endswith("/") or Path(output).is_dir():
        name = _default_name(video, film, depth=depth)
        return OutputPattern(str(Path(output or "") / name), Path(name).suffix)
    suffix = Path(output).suffix.lower()
    kinds = DEPTH_SUFFIXES if depth else (*COLOUR_SUFFIXES, VIDEO_SUFFIX)
    if suffix not in kinds:
        raise UsageError(f"{output}: unsupported format for {'depth' if depth else 'pictures'}; use {', '.join(kinds)}")
    pattern = OutputPattern(output, suffix)
    if pattern.is_video and pattern.numbered:
        raise UsageError(f"{output}: a video is one file; remove the number from its name")
    if many and not pattern.numbered and not pattern.is_video:
        choose = "select one with --frame, or " if film.by_frame else ""
        or_video = "" if depth else "a video (.mp4) or "
        raise UsageError(
            f"{output}: cannot hold {len(film.shots)} pictures; "
            f"{choose}use {or_video}a numbered name ({Path(output).stem}-%04d{suffix})"
        )
    return pattern


def _default_name(video: Video, film: Film, *, depth: bool) -> str:
    stem = video.path.stem
    numbers = [shot.number for shot in film.shots]
    if depth:
        return f"{stem}-{numbers[0]:06d}-depth.png" if len(numbers) == 1 else f"{stem}-%06d-depth.png"
    if min(numbers) == max(numbers):
        return f"{stem}-{numbers[0]:06d}{'.png' if len(numbers) == 1 else VIDEO_SUFFIX}"
    if (min(numbers), max(numbers)) == (video.frames[0].number, video.frames[-1].number):
        return f"{stem}{VIDEO_SUFFIX}"
    return f"{stem}-{min(numbers):06d}-{max(numbers):06d}{VIDEO_SUFFIX}"


class Pictures:
    """Renders films and writes their pictures.

    Args:
        depth: write depth instead of colour.
        force: overwrite existing files.

    Attributes:
        lost: an error for each picture that was lost to damage in the file so far.
    """

    def __init__(self, video: Video, *, depth: bool, force: bool) -> None:
        self.video = video
        self.depth = depth
        self.force = force
        self.lost: list[DamagedError] = []
        self._unit = depth_unit([camera.far for camera in video.cameras])

    def write(self, film: Film, pattern: OutputPattern) -> list[str]:
        """Render a film and write it; returns lines to print.

        Raises:
            DamagedError: none of its pictures could be rendered.
        """
        lost_before = len(self.lost)
        views = self._render(film)
        if pattern.is_video:
            made = self._write_video(film, pattern, views)
        else:
            made = []
            for index, view in views:
                data = self._encode(view, pattern.suffix)
                if pattern.stdout:
                    standard_output().write(data)
                else:
                    with written(pattern.path(film, index), self.force) as out:
                        out.file.write(data)
                made.append(str(pattern.path(film, index)))
        if not made:
            raise self.lost[lost_before]
        if pattern.stdout:
            return []
        line = made[0] if len(made) == 1 else f"{made[0]} to {made[-1]}"
        if self.depth and pattern.suffix == ".png":
            line += f"  ({self._unit_text})"
        return [line]

    def _render(self, film: Film) -> Iterator[tuple[int, View]]:
        """Yield all pictures that can be rendered, each with its index in the film."""
        with counted("rendering", len(film.shots)) as done:
            for index, shot in enumerate(film.shots):
                try:
                    yield index, self.video[shot.number].render(shot.camera)
                except DamagedError as error:
                    self.lost.append(error)
                done()

    def _write_video(self, film: Film, pattern: OutputPattern, views: Iterator[tuple[int, View]]) -> list[str]:
        rate, repeats = film.constant_rate()

        def images() -> Iterator[np.ndarray]:
            lost_before, shown, index = len(self.lost), 0, -1
            for index, view in views:
                image = over_white(view.rgb, view.alpha) if self.video.transparent else view.rgb
                # A lost picture is replaced by the previous one, or at the start by the next one.
                until = sum(repeats[: index + 1])
                yield from [image] * (until - shown)
                shown = until
            if index < 0:
                raise self.lost[lost_before]
            yield from [image] * (sum(repeats) - shown)

        if pattern.stdout:
            # An mp4's header is written last, which a pipe does not allow.
            with tempfile.TemporaryFile() as file:
                write_video(file, images(), rate)
                file.seek(0)
                shutil.copyfileobj(file, standard_output())
        else:
            with written(Path(pattern.name), self.force) as out:
                write_video(out.file, images(), rate)
        return [pattern.name]

    @property
    def _unit_text(self) -> str:
        return f"16-bit z-depth, 1 = {self._unit:g} world units, 0 = no surface"

    def _encode(self, view: View, suffix: str) -> bytes:
        if self.depth:
            return self._encode_depth(view.depth, suffix)
        file = io.BytesIO()
        if self.video.transparent and suffix == ".png":
            Image.fromarray(view.rgba).save(file, "PNG")
        elif suffix == ".png":
            Image.fromarray(view.rgb).save(file, "PNG")
        else:
            image = over_white(view.rgb, view.alpha) if self.video.transparent else view.rgb
            Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
        return file.getvalue()

    def _encode_depth(self, depth: np.ndarray, suffix: str) -> bytes:
        file = io.BytesIO()
        if suffix == ".npy":
            np.save(file, depth)
        elif suffix == ".png":
            info = PngInfo()
            info.add_text("Description", self._unit_text)
            levels = np.where(np.isfinite(depth), np.clip(np.rint(depth / self._unit), 1, 65535), 0)
            Image.fromarray(levels.astype(np.uint16)).save(file, "PNG", pnginfo=info)
        else:
            Image.fromarray(depth).save(file, "TIFF")
        return file.getvalue()


def depth_unit(bounds: Sequence[float | None]) -> float:
    """World units per step of a 16-bit depth picture: the smallest power of ten that covers twice the far bound.

    Args:
        bounds: each camera's far bound, or None.
    """
    far = max((bound for bound in bounds if bound is not None), default=None)
    return 1e-3 if far is None else 10.0 ** math.ceil(math.log10(2 * far / 65535))

"""What `decode` writes: names, formats and files of rendered pictures."""

from __future__ import annotations

import io
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invcodec.errors import DamagedError, UsageError
from invcodec.output import check_output
from invcodec.video import write_video

from .progress import counted

if TYPE_CHECKING:
    from invcodec.decoding.decoder import Decoder, View
    from invcodec.decoding.playback import Film

COLOUR_SUFFIXES = (".png", ".jpg", ".jpeg")
DEPTH_SUFFIXES = (".png", ".npy", ".tiff", ".tif")
VIDEO_SUFFIX = ".mp4"

_NUMBER = re.compile(r"%0?\d*d")


@dataclass(frozen=True)
class Target:
    """Where a film goes: a file name, perhaps with a place for the picture's number, or standard output."""

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
        """File of a film's picture: numbered by frame where each picture is another frame, else from 0."""
        number = film.shots[index].number if film.by_frame else index
        return Path(_NUMBER.sub(lambda match: match[0] % number, self.name, count=1))

    def paths(self, film: Film) -> list[Path]:
        return [self.path(film, i) for i in range(len(film.shots))] if self.numbered else [Path(self.name)]


def plan(
    output: str | None,
    decoder: Decoder,
    films: Sequence[Film],
    poses: Sequence[str],
    *,
    depth: bool,
    force: bool,
) -> list[Target]:
    """Where each film goes; everything that would fail later is refused here.

    Raises:
        UsageError: a format that cannot hold what was asked for, a file that exists, or a name used twice.
    """
    targets = []
    for film, pose in zip(films, poses, strict=True):
        target = _target(output, decoder, film, depth=depth)
        if len(films) > 1:
            if target.stdout:
                raise UsageError("-o -: standard output takes one pose at a time")
            stem = target.name.removesuffix(target.suffix)
            target = Target(f"{stem}-{pose.replace('/', '_')}{target.suffix}", target.suffix)
        targets.append(target)
    if targets[0].stdout and sys.stdout.isatty():
        raise UsageError("-o -: pictures are not written to a terminal; redirect it, or name a file")
    paths = [
        path for target, film in zip(targets, films, strict=True) if not target.stdout for path in target.paths(film)
    ]
    if len(set(paths)) < len(paths):
        raise UsageError("two poses have the same name, so their pictures would replace each other; rename one")
    if output is not None and (output.endswith("/") or targets[0].numbered):
        for folder in {path.parent for path in paths}:
            _make_folder(folder)
    for path in paths:
        check_output(path, force)
    return targets


def _target(output: str | None, decoder: Decoder, film: Film, *, depth: bool) -> Target:
    many = len(film.shots) > 1
    if output == "-":
        if many and depth:
            raise UsageError("-o -: holds one depth picture; choose a frame with --frame")
        return Target("-", VIDEO_SUFFIX if many else ".png", stdout=True)
    if output is None or output.endswith("/") or Path(output).is_dir():
        name = _default_name(decoder, film, depth=depth)
        return Target(str(Path(output or "") / name), Path(name).suffix)
    suffix = Path(output).suffix.lower()
    kinds = DEPTH_SUFFIXES if depth else (*COLOUR_SUFFIXES, VIDEO_SUFFIX)
    if suffix not in kinds:
        raise UsageError(f"{output}: {'depth' if depth else 'pictures'} can be written as {', '.join(kinds)}")
    target = Target(output, suffix)
    if target.is_video and target.numbered:
        raise UsageError(f"{output}: a video is one file; leave out the number")
    if many and not target.numbered and not target.is_video:
        if not film.by_frame:
            raise UsageError(
                f"{output}: holds one picture, and this path has {len(film.shots)}; "
                f"name {'' if depth else 'a video (.mp4) or '}pictures by number ({Path(output).stem}-%04d{suffix})"
            )
        hint = "" if depth else "a video (.mp4) or "
        raise UsageError(
            f"{output}: holds one picture, {len(film.shots)} were asked for; "
            f"choose one with --frame, or name {hint}pictures by number ({Path(output).stem}-%04d{suffix})"
        )
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made a directory ({error.strerror})") from None


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path to write to; what is written there takes the target's name once it is whole."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        if part.exists():
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _default_name(decoder: Decoder, film: Film, *, depth: bool) -> str:
    stem = decoder.reader.path.stem
    numbers = [shot.number for shot in film.shots]
    if depth:
        return f"{stem}-{numbers[0]:06d}-depth.png" if len(numbers) == 1 else f"{stem}-%06d-depth.png"
    if min(numbers) == max(numbers):
        return f"{stem}-{numbers[0]:06d}{'.png' if len(numbers) == 1 else VIDEO_SUFFIX}"
    if (min(numbers), max(numbers)) == (decoder.frames[0].number, decoder.frames[-1].number):
        return f"{stem}{VIDEO_SUFFIX}"
    return f"{stem}-{min(numbers):06d}-{max(numbers):06d}{VIDEO_SUFFIX}"


class Pictures:
    """Renders films and writes them.

    Attributes:
        lost: what could not be rendered because the file is damaged, so far.
    """

    def __init__(self, decoder: Decoder, *, depth: bool) -> None:
        self.decoder = decoder
        self.depth = depth
        self.lost: list[DamagedError] = []
        self._unit = depth_unit([camera.far for camera in decoder.cameras()])

    def write(self, film: Film, target: Target) -> list[str]:
        """Render a film into its target; returns what to tell the user.

        Raises:
            DamagedError: not one of its pictures could be rendered.
        """
        lost_before = len(self.lost)
        views = self._render(film)
        if target.is_video:
            made = self._write_video(film, target, views)
        else:
            made = []
            for index, view in views:
                data = self._encode(view, target.suffix)
                if target.stdout:
                    sys.stdout.buffer.write(data)
                else:
                    target.path(film, index).write_bytes(data)
                made.append(str(target.path(film, index)))
        if not made:
            raise self.lost[lost_before]
        if target.stdout:
            return []
        line = made[0] if len(made) == 1 else f"{made[0]} to {made[-1]}"
        if self.depth and target.suffix == ".png":
            line += f"  ({self._unit_text})"
        return [line]

    def _render(self, film: Film) -> Iterator[tuple[int, View]]:
        """All pictures that can be rendered, with their place in the film."""
        with counted("rendering", len(film.shots)) as bar:
            for index, shot in enumerate(film.shots):
                try:
                    yield index, self.decoder.render(shot.number, shot.camera)
                except DamagedError as error:
                    self.lost.append(error)
                if bar:
                    bar.advance(bar.task_ids[0])

    def _write_video(self, film: Film, target: Target, views: Iterator[tuple[int, View]]) -> list[str]:
        rate, repeats = film.constant_rate()
        shown = 0

        def images() -> Iterator[np.ndarray]:
            nonlocal shown
            index = -1
            for index, view in views:
                image = _opaque(view) if self.decoder.transparent else view.rgb
                # A picture that is lost leaves the one before it on screen; at the start, the one after it.
                until = sum(repeats[: index + 1])
                yield from [image] * (until - shown)
                shown = until
            if index >= 0:
                yield from [image] * (sum(repeats) - shown)

        if target.stdout:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "film.mp4"
                if write_video(path, images(), rate):
                    sys.stdout.buffer.write(path.read_bytes())
        else:
            with _beside(Path(target.name)) as path:
                write_video(path, images(), rate)
        return [target.name] if shown else []

    @property
    def _unit_text(self) -> str:
        return f"16-bit z-depth, 1 = {self._unit:g} world units, 0 = nothing there"

    def _encode(self, view: View, suffix: str) -> bytes:
        if self.depth:
            return self._encode_depth(view.depth, suffix)
        file = io.BytesIO()
        if self.decoder.transparent and suffix == ".png":
            alpha = np.rint(view.alpha * 255).astype(np.uint8)
            Image.fromarray(np.dstack([view.rgb, alpha])).save(file, "PNG")
        elif suffix == ".png":
            Image.fromarray(view.rgb).save(file, "PNG")
        else:
            image = _opaque(view) if self.decoder.transparent else view.rgb
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
    """World units per step of a 16-bit depth picture: the power of ten that fits twice the rig's far bound."""
    far = max((bound for bound in bounds if bound is not None), default=None)
    return 1e-3 if far is None else 10.0 ** math.ceil(math.log10(2 * far / 65535))


def _opaque(view: View) -> np.ndarray:
    """A picture `[H, W, 3]` uint8 over white."""
    alpha = view.alpha[..., None]
    return np.rint(view.rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)

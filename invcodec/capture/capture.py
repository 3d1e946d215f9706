"""A multi-view video on disk: its cameras, and its frames one at a time."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from invcodec.capture import offsets, points
from invcodec.capture.coverage import OPAQUE, Coverage, coverage, plain_border
from invcodec.capture.image import area_downscale, check_file, has_alpha, image_size, read_image
from invcodec.capture.layouts import uncalibrated
from invcodec.capture.layouts.listing import CameraFiles, Layout, Listing
from invcodec.capture.layouts.registry import is_capture, recognise
from invcodec.capture.video import probe, read_video
from invcodec.errors import CaptureError, InvWarning
from invcodec.geometry.camera import Camera
from invcodec.geometry.convention import Convention
from invcodec.geometry.rig import MIN_TRAINING_CAMERAS, training_cameras
from invcodec.limits import MAX_IMAGE_SIDE, MAX_NAME_BYTES
from invcodec.names import Alpha, Source
from invcodec.places import exists, is_remote, located, reaching, relative, sizes

_MOST_MISSING = 0.4
"""Of the frames of a capture, a camera may lack this share: the cameras ran apart, or numbers mean something else."""


@dataclass(frozen=True)
class Frame:
    """The images of all cameras at one time.

    Attributes:
        number: frame number in the capture.
        time: in seconds, exact.
        images: for each camera `[H, W, 3]` uint8, or `[H, W, 4]` with straight alpha; None if it has none at this time.
        masks: for each camera `[H, W]` bool (False: ignore the pixel), or None.
    """

    number: int
    time: Fraction
    images: Sequence[np.ndarray | None]
    masks: Sequence[np.ndarray | None]


@dataclass(frozen=True)
class Capture:
    """A validated multi-view video, ready to be read frame by frame.

    Attributes:
        folder: the folder that holds it; the file, if it is a single video.
        layout: name of its layout.
        convention: in which its poses were read; None without a calibration.
        source: what its frames are stored as.
        cameras: in order, at the size of the images that `frames` yields.
        files: the files of each camera.
        fps: frames per second.
        numbers: frame numbers that `frames` yields.
        available: all frame numbers in the folder.
        gaps: those of which a camera has no image, for each camera.
        source_size: width and height of the first camera before downscaling.
        downscale: the factor that `frames` shrinks images by.
        alpha: what pixels mean that alpha, or a mask where no image has alpha, leaves empty: "mask": they are ignored;
            "matte": the background is transparent; "ignore": nothing.
        coverage: what is empty.
        outside: whether it may name files outside its folder.
        flat: whether it is one camera's pictures, and not a scene that several cameras see.
        points: `[N, 3]` reconstructed points of the scene, if the folder holds any.
    """

    folder: Path
    layout: str
    convention: Convention | None
    source: Source
    cameras: tuple[Camera, ...]
    files: tuple[CameraFiles, ...]
    fps: Fraction
    numbers: range
    available: range
    gaps: tuple[frozenset[int], ...]
    source_size: tuple[int, int]
    downscale: int
    alpha: Alpha
    coverage: Coverage
    outside: bool
    flat: bool
    points: np.ndarray | None = field(repr=False, compare=False)

    @property
    def transparent(self) -> bool:
        """Whether the images that `frames` yields have alpha, over a transparent background."""
        return self.alpha == "matte"

    @property
    def training(self) -> list[int]:
        """Indices of the cameras that are not held out."""
        return training_cameras(self.cameras)

    def absolute(self) -> Capture:
        """The same with absolute paths, for processes that run elsewhere."""

        def moved(files: CameraFiles) -> CameraFiles:
            return replace(
                files,
                video=files.video and files.video.absolute(),
                images={number: path.absolute() for number, path in files.images.items()},
                masks={number: path.absolute() for number, path in files.masks.items()},
            )

        return replace(self, folder=self.folder.absolute(), files=tuple(map(moved, self.files)))

    def time(self, number: int) -> Fraction:
        """The time of a frame number in seconds."""
        return number / self.fps

    def last_seen(self, number: int) -> int:
        """The frame number up to `number` from which on every camera has been seen that was seen before."""
        before = [number]
        for gaps in self.gaps:
            seen = (each for each in range(number, self.numbers.start - 1, -1) if each not in gaps)
            before.append(next(seen, number))
        return min(before)

    def frames(self, start: int | None = None, stop: int | None = None) -> Generator[Frame]:
        """Yield frames in order, from number `start` on and before `stop`, reading one frame ahead.

        Raises:
            CaptureError: an image is unreadable or unlike the others.
        """
        numbers = range(self.numbers.start if start is None else start, self.numbers.stop if stop is None else stop)
        with ExitStack() as stack:
            if not numbers:
                return
            _ = self.borders  # Found before any other thread asks for them.
            every = range(len(self.files))
            readers = [self._images(files, numbers) for files in self.files]
            for reader in readers:
                stack.callback(_close, reader)
            pool = stack.enter_context(ThreadPoolExecutor(1))
            each = stack.enter_context(ThreadPoolExecutor(min(len(readers), os.cpu_count() or 1)))

            def read(number: int) -> Frame:
                pictures = each.map(lambda camera, reader: self._picture(camera, number, next(reader)), every, readers)
                images, masks = zip(*pictures, strict=True)
                return Frame(number, self.time(number), list(images), list(masks))

            ahead: Future[Frame] = pool.submit(read, numbers[0])
            for number in numbers:
                frame = ahead.result()
                if number != numbers[-1]:
                    ahead = pool.submit(read, number + 1)
                yield frame

    def _images(self, files: CameraFiles, numbers: range) -> Generator[np.ndarray | None]:
        if files.video is not None:
            threads = max(1, (os.cpu_count() or 1) // len(self.files))
            rate = _video_rate(self.files)
            yield from read_video(probe(files.video), numbers, rate, files.start, threads=threads)
            return
        for number in numbers:
            if number not in files.images:
                yield None
                continue
            image = read_image(files.images[number])
            if image.shape[2] == 4 and self.coverage.told_by != "alpha" and self.alpha != "ignore":
                raise CaptureError(
                    f"{files.images[number]}: has transparency, but the first images do not; "
                    "--alpha ignore does without it"
                )
            if image.shape[1::-1] != (files.camera.width, files.camera.height):
                raise CaptureError(
                    f"{files.images[number]}: is {image.shape[1]}x{image.shape[0]}, "
                    f"expected {files.camera.width}x{files.camera.height}"
                )
            yield image

    def _picture(
        self, camera: int, number: int, image: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Image and mask of a camera, as in `Frame`, from the image `[H, W, 3 or 4]` as it was read."""
        if image is None:
            return None, None
        files, border = self.files[camera], self.borders[camera]
        path = files.masks.get(number, files.masks.get(None))
        if self.alpha == "matte":
            if self.coverage.told_by == "masks":
                alpha = np.full(image.shape[:2], 255, np.uint8) if path is None else read_mask(path, files.camera)
                image, path = np.dstack([image[..., :3], alpha]), None
            elif image.shape[2] == 3:
                image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
            return area_downscale(image, self.downscale), pixel_mask(path, files.camera, self.downscale)
        mask = pixel_mask(None if self.alpha == "ignore" else path, files.camera, self.downscale)
        empty = [border] if border is not None else []
        if self.alpha == "mask" and image.shape[2] == 4:
            empty.append(image[..., 3] < OPAQUE)
        for each in empty:
            covered = ~_any_in_block(each, self.downscale)
            mask = covered if mask is None else mask & covered
        return area_downscale(image[..., :3], self.downscale), mask

    @cached_property
    def borders(self) -> list[np.ndarray | None]:
        """For each camera the pixels `[H, W]` bool of a black or white border, before downscaling, or None.

        They are those of its first image, and ignored in all unless `alpha` is not "mask".
        """
        if self.alpha != "mask":
            return [None] * len(self.files)

        def border(files: CameraFiles, gaps: frozenset[int]) -> np.ndarray | None:
            first = next((number for number in self.numbers if number not in gaps), self.numbers.stop)
            with closing(self._images(files, range(first, self.numbers.stop)[:1])) as images:
                image = next(images, None)
            return None if image is None else plain_border(image[..., :3])

        with ThreadPoolExecutor(min(len(self.files), os.cpu_count() or 1)) as pool:
            return list(pool.map(border, self.files, self.gaps))

    def apart(self, files: CameraFiles) -> float:
        """How far a camera's frames are from the times that their numbers stand for, in frames of its video."""
        if files.video is None:
            return 0.0
        place = files.start * probe(files.video).fps
        return float(abs(place - round(place)))

    def motion(self, camera: str, number: int) -> np.ndarray | None:
        """Ground-truth motion mask `[H, W]` bool of a camera's image, or None if there is no `gt_<camera>/mask`."""
        path = self.folder / f"gt_{camera}" / "mask" / f"{number:04d}.png"
        if not path.is_file():
            return None
        return _any_in_block(read_image(path)[..., 0] >= 128, self.downscale)

    def fingerprint(self) -> bytes:
        """16-byte hash of the cameras and the first frame's pixels; detects that an encode resumes another capture."""
        total = hashlib.sha256()
        for camera in self.cameras:
            total.update(repr(sorted(camera.to_dict().items())).encode())
        first = replace(self, numbers=self.available[:1])
        with closing(first.frames()) as frames:
            for image in next(frames).images:
                total.update(b"" if image is None else image.tobytes())
        return total.digest()[:16]

    def inventory(self) -> bytes:
        """16-byte hash of the sizes in bytes of the files that hold the chosen frames, which reads none of them."""
        total = hashlib.sha256()
        for files in self.files:
            chosen = [files.images[number] for number in self.numbers if number in files.images]
            total.update(repr(sizes([files.video] if files.video else chosen)).encode())
        return total.digest()[:16]


def open_capture(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    source: Source | None = None,
    frames: tuple[int | None, int | None] | None = None,
    downscale: int = 1,
    holdout: Sequence[str] | None = None,
    alpha: Alpha | None = None,
    outside: bool = False,
) -> Capture:
    """Recognise and validate a capture; no pixels are read yet but for alpha.

    Args:
        path: its folder, or one video file; or the URL of one of these, such as `s3://bucket/capture`.
        layout: name of a layout (`invcodec.names.layouts`); recognised if None.
        source: "images" or "videos"; if None, images where both exist.
        frames: first frame number and one past the last; None for either end.
        downscale: integer factor to shrink images by.
        holdout: names of cameras to hold out from training; if None, those that the capture marks as test.
        alpha: see `Capture`; if None, alpha is a matte where it leaves more empty than a border, and masks are masks.
        outside: allow files outside the folder, by path or symbolic link; one from elsewhere might reach for any.

    Raises:
        CaptureError: anything that would make an encode fail; names the file.

    Warns of cameras that have no image of some frames.
    """
    folder = located(path)
    with reaching(folder, CaptureError):
        name, found = recognise(folder, layout)
        capture = open_as(
            name,
            found,
            folder,
            source=source,
            frames=frames,
            downscale=downscale,
            holdout=holdout,
            alpha=alpha,
            outside=outside,
        )
    _check_gaps(capture)
    return capture


def open_as(
    name: str,
    found: Layout,
    folder: Path,
    *,
    source: Source | None = None,
    frames: tuple[int | None, int | None] | None = None,
    downscale: int = 1,
    holdout: Sequence[str] | None = None,
    alpha: Alpha | None = None,
    outside: bool = False,
) -> Capture:
    """As `open_capture`, with a layout, which is called `name`, and without regard to missing images."""
    listing = _listing(folder, found, source, outside)
    files, available, gaps, fps = _check_files(folder, listing)
    least = 1 if listing.flat else MIN_TRAINING_CAMERAS
    cameras = rig_cameras([f.camera for f in files], folder, downscale=downscale, holdout=holdout, least=least)
    first, stop = frames or (None, None)
    first = available.start if first is None else first
    stop = available.stop if stop is None else min(stop, available.stop)
    if not available.start <= first < stop:
        raise CaptureError(
            f"{folder}: no frames {first}:{'' if frames is None or frames[1] is None else frames[1]}; "
            f"it has frames {available.start}:{available.stop}"
        )
    first_files = files[0]
    numbers = range(first, stop)
    found_empty = _coverage(files, numbers)
    if alpha == "matte" and found_empty.told_by is None:
        raise CaptureError(f"{folder}: has no alpha and no masks, which a matte needs")
    if alpha is None:
        matte = found_empty.told_by == "alpha" and found_empty.empty == "background"
        alpha = "matte" if matte else "mask"
    return Capture(
        folder,
        name,
        found.convention,
        listing.source,
        cameras,
        files,
        fps,
        numbers,
        available,
        gaps,
        (first_files.camera.width, first_files.camera.height),
        downscale,
        alpha,
        found_empty,
        outside,
        listing.flat,
        points.read_points(folder, cameras),
    )


def videos_of(
    folder: Path, *, layout: str | None = None, outside: bool = False
) -> tuple[list[Path], list[Camera] | None]:
    """The videos of a capture and their cameras; or of a folder without a calibration, and None.

    Args:
        layout, outside: as of `open_capture`.

    Raises:
        CaptureError: as `open_capture`; but videos may be of any lengths.
    """
    bare = layout is None and folder.is_dir() and not is_capture(folder)
    found = uncalibrated.LAYOUT if bare else recognise(folder, layout)[1]
    listing = _listing(folder, found, "videos", outside)
    videos = [files.video for files in listing.cameras if files.video is not None]
    if bare:
        return videos, None
    sizes = [(probe(video).width, probe(video).height) for video in videos]
    return videos, [files.camera.scaled(*size) for files, size in zip(listing.cameras, sizes, strict=True)]


def _listing(folder: Path, layout: Layout, source: Source | None, outside: bool) -> Listing:
    """What a folder of this layout declares; its files are not checked yet, but for where they are."""
    described = [*layout.files(folder), *points.files(folder)]
    for file in described:
        check_file(file, "file")
    if not outside:
        _check_inside(folder, described)
    listing = layout.read(folder, source)
    if not listing.cameras:
        raise CaptureError(f"{folder}: declares no cameras")
    _check_names([files.camera.name for files in listing.cameras], folder)
    if not outside:
        for files in listing.cameras:
            _check_inside(folder, [*filter(None, [files.video]), *files.images.values(), *files.masks.values()])
    return listing


def pixel_mask(path: Path | None, camera: Camera, downscale: int) -> np.ndarray | None:
    """The mask `[H, W]` bool of a camera (False: ignore the pixel), or None if all of its pixels count.

    Args:
        path: the image of a mask, if there is one; black pixels are ignored.
        camera: at the size of its images, from which the mask is downscaled. Pixels that its lens cannot see are
            ignored.

    Raises:
        CaptureError: the image is not readable, or not of the camera's size.
    """
    seen = _seen(camera, downscale)
    if path is None:
        return seen
    # A pixel that is masked in part is masked: otherwise the masked colour would leak.
    unmasked = ~_any_in_block(read_mask(path, camera) < 128, downscale)
    return unmasked if seen is None else unmasked & seen


def read_mask(path: Path, camera: Camera) -> np.ndarray:
    """A mask `[H, W]` uint8 of a camera's images, black where they are to be ignored.

    Raises:
        CaptureError: the image is not readable, or not of the camera's size.
    """
    mask = read_image(path)[..., 0]
    if mask.shape[::-1] != (camera.width, camera.height):
        raise CaptureError(
            f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]}, its images are {camera.width}x{camera.height}"
        )
    return mask


def _coverage(files: Sequence[CameraFiles], numbers: range) -> Coverage:
    """What the first and the last image of each camera leave empty, of these frames."""

    def ends(each: CameraFiles) -> list[int]:
        there = [number for number in numbers if number in each.images]
        return sorted({*there[:1], *there[-1:]})

    def by_alpha(each: CameraFiles) -> list[np.ndarray]:
        images = (read_image(each.images[number]) for number in ends(each))
        return [image[..., 3] >= OPAQUE if image.shape[2] == 4 else np.ones(image.shape[:2], bool) for image in images]

    def by_masks(each: CameraFiles) -> list[np.ndarray]:
        size = each.camera.height, each.camera.width
        chosen = [numbers[0], numbers[-1]] if each.video is not None else ends(each)
        paths = [each.masks.get(number, each.masks.get(None)) for number in chosen]
        return [np.ones(size, bool) if path is None else read_mask(path, each.camera) >= 128 for path in paths]

    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as pool:
        if any(has_alpha(each.images[number]) for each in files for number in ends(each)[:1]):
            return coverage("alpha", pool.map(by_alpha, files))
        if any(each.masks for each in files):
            return coverage("masks", pool.map(by_masks, files))
    return Coverage()


@cache
def _seen(camera: Camera, downscale: int) -> np.ndarray | None:
    """Which pixels `[H, W]` bool of the downscaled camera its lens sees; None if all."""
    small = _downscaled(camera, downscale, Path())
    # What a lens sees is around its axis: all, if it sees the border.
    rows = [small.centres(range(row, row + 1)) for row in (0, small.height - 1)]
    columns = [[(x + 0.5, y + 0.5) for y in range(small.height)] for x in (0, small.width - 1)]
    if small.sees(np.concatenate([*rows, *columns])).all():
        return None
    # One by one, as the rays of all pixels would take a hundred times as much memory as the result.
    return np.stack([small.sees(small.centres(range(row, row + 1))) for row in range(small.height)])


def _close(reader: Generator[np.ndarray | None]) -> None:
    """Close a reader; after a second Ctrl-C its thread may still be running it, and then it ends by itself."""
    with suppress(ValueError):
        reader.close()


def _check_names(names: Sequence[str], where: Path) -> None:
    for name in names:
        # A file name that is not UTF-8 has surrogates, which are not printable.
        if not (name and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES):
            raise CaptureError(
                f"{where}: camera name {name!a} is not printable text of 1 to {MAX_NAME_BYTES} bytes; rename it"
            )
    if len(set(names)) != len(names):
        raise CaptureError(f"{where}: two cameras have the same name")


def rig_cameras(
    declared: Sequence[Camera],
    where: Path,
    *,
    downscale: int = 1,
    holdout: Sequence[str] | None = None,
    least: int = MIN_TRAINING_CAMERAS,
) -> tuple[Camera, ...]:
    """The declared cameras as they are encoded: downscaled, with the chosen ones held out.

    Args:
        declared: cameras at the size of their images.
        where: file or folder, for error messages.
        downscale, holdout: as in `open_capture`.
        least: how many cameras training needs.

    Raises:
        CaptureError: an unknown camera to hold out, or too few cameras or pixels left.
    """
    names = [camera.name for camera in declared]
    _check_names(names, where)
    for camera in declared:
        if max(size := (camera.width, camera.height)) > MAX_IMAGE_SIDE:
            raise CaptureError(
                f"{where}: camera '{camera.name}' is {size[0]}x{size[1]}, the limit is {MAX_IMAGE_SIDE} pixels per side"
            )
    cameras = [_downscaled(camera, downscale, where) for camera in declared]
    if holdout is not None:
        if unknown := [name for name in holdout if name not in names]:
            raise CaptureError(f"{where}: no camera '{unknown[0]}' to hold out; cameras are {', '.join(names)}")
        cameras = [replace(camera, held_out=camera.name in holdout) for camera in cameras]
    if (left := len(training_cameras(cameras))) < least:
        raise CaptureError(f"{where}: {left} camera(s) left to train on, at least {least} are needed")
    return tuple(cameras)


def _any_in_block(flags: np.ndarray, factor: int) -> np.ndarray:
    """Whether any flag of `[H, W]` bool is set in each `factor` x `factor` block, cropped like `area_downscale`."""
    height, width = (n // factor for n in flags.shape)
    blocks = flags[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.logical_or.reduce(blocks, (1, 3))


def _downscaled(camera: Camera, factor: int, folder: Path) -> Camera:
    """The camera of images shrunk by `area_downscale`, which crops to a multiple of the factor."""
    if factor < 1:
        raise CaptureError(f"{folder}: cannot downscale by {factor}; use an integer of 1 or more")
    width, height = camera.width // factor, camera.height // factor
    if min(width, height) < 8:
        raise CaptureError(f"{folder}: camera '{camera.name}' has fewer than 8 pixels per side at --downscale {factor}")
    return replace(
        camera, width=width, height=height,
        fx=camera.fx / factor, fy=camera.fy / factor, cx=camera.cx / factor, cy=camera.cy / factor,
    )  # fmt: skip


def _check_files(
    folder: Path, listing: Listing
) -> tuple[tuple[CameraFiles, ...], range, tuple[frozenset[int], ...], Fraction]:
    """Check declared sizes against the files; returns files, frame numbers, each camera's gaps, and frame rate."""
    checked = []
    spans: list[range] = []
    rate = _video_rate(listing.cameras)
    videos = [files.video for files in listing.cameras if files.video is not None]
    shifts = offsets.read(folder, videos) if videos and not listing.flat else None
    starts = offsets.starts(shifts, rate) if shifts else [Fraction(0)] * len(listing.cameras)
    for files, start in zip(listing.cameras, starts, strict=True):
        camera = files.camera
        if files.video is not None:
            info = probe(files.video)
            size, where = (info.width, info.height), files.video
            spans.append(range(info.length(rate, start)))
        else:
            numbers = sorted(files.images)
            where = files.images[numbers[0]]
            size = image_size(where)
            # In a store, each takes a request; there, all sizes are checked when pictures are read.
            for path in [] if is_remote(folder) else files.images.values():
                if (other := image_size(path)) != size:
                    raise CaptureError(f"{path}: is {other[0]}x{other[1]}, but {where.name} is {size[0]}x{size[1]}")
            spans.append(range(numbers[0], numbers[-1] + 1))
        for path in [] if is_remote(folder) else files.masks.values():
            check_file(path, "mask")
        if size != (camera.width, camera.height):
            same_shape = abs(size[0] * camera.height - size[1] * camera.width) <= 0.01 * size[0] * camera.height
            if not (listing.uncalibrated or (listing.rescale and same_shape)):
                turned = " (turned upright, as it says)" if size[::-1] == (camera.width, camera.height) else ""
                raise CaptureError(
                    f"{where}: is {size[0]}x{size[1]}{turned}, "
                    f"but its calibration is for {camera.width}x{camera.height}"
                )
            camera = camera.scaled(*size)
        checked.append(replace(files, camera=camera, start=start))
    if shifts:
        available = range(min(span.stop for span in spans))
        if not available:
            raise CaptureError(f"{folder}: by {offsets.FILE}, there is no time at which all videos have a frame")
    else:
        available = range(min(span.start for span in spans), max(span.stop for span in spans))
    least = (1 - _MOST_MISSING) * len(available)
    gaps = []
    for files in checked:
        there = len(files.images) if files.video is None else len(probe(files.video).stamps)
        # Numbers are not listed where a few pictures span far too many; a frame of a video is near two at most.
        if 2 * there >= least:
            gaps.append(_gaps(files, available, rate))
            there = len(available) - len(gaps[-1])
        if there < least:
            what = f"camera '{files.camera.name}'" if files.video is None else relative(files.video, folder)
            raise CaptureError(
                f"{folder}: {what} has only {there} of the frames {available.start}:{available.stop}; "
                "trim all cameras to the same frames"
                + ("" if files.video is None or shifts else ", or find when each began with 'invcodec sync'")
            )
    return tuple(checked), available, tuple(gaps), listing.fps or rate


def _gaps(files: CameraFiles, available: range, rate: Fraction) -> frozenset[int]:
    """The frame numbers of which a camera has no picture."""
    if files.video is None:
        return frozenset(available).difference(files.images)
    shown = probe(files.video).shown(available, rate, files.start)
    return frozenset(number for number, stamp in zip(available, shown, strict=True) if stamp is None)


def _check_gaps(capture: Capture) -> None:
    """Refuse frames that nothing could be learned of, and warn of missing images."""
    folder, cameras, gaps, numbers = capture.folder, capture.cameras, capture.gaps, capture.numbers
    of_none = frozenset.intersection(*(gaps[index] for index in capture.training))
    if nothing := [number for number in numbers if number in of_none]:
        raise CaptureError(
            f"{folder}: no camera to train on has an image of frame {nothing[0]}; leave it out with --frames"
        )
    missing = {camera.name: sum(n in gap for n in numbers) for camera, gap in zip(cameras, gaps, strict=True) if gap}
    if short := [f"{name} {count}" for name, count in missing.items() if count]:
        named = ", ".join(short[:4]) + (", ..." if len(short) > 4 else "")
        # Videos end at different times, and nothing says when they began.
        apart = capture.source == "videos" and any(capture.available[-1] in gap for gap in gaps)
        unknown = apart and not exists(folder / offsets.FILE)
        warnings.warn(
            f"{folder}: images are missing: {named} of {len(numbers)}; the other cameras' are used at these times"
            + (". If not all cameras were started together, 'invcodec sync' finds when each was" if unknown else ""),
            InvWarning,
            stacklevel=3,
        )


def _check_inside(folder: Path, paths: Iterable[Path]) -> None:
    root = folder.resolve()
    for path in paths:
        if not _resolved(path).is_relative_to(root):
            raise CaptureError(f"{path}: lies outside the capture's folder, {root}; --outside allows that")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError):
        raise CaptureError(f"{str(path)!r}: is not a possible file name") from None


def _video_rate(cameras: Sequence[CameraFiles]) -> Fraction:
    """Frames per second by which videos are numbered: the lowest of theirs, at which each has a frame at any time."""
    return min((probe(files.video).fps for files in cameras if files.video is not None), default=Fraction(1))

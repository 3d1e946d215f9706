"""Quality and size of a file, measured against the capture that it was made from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import NotRequired, TypedDict

import numpy as np
from PIL import Image

from invcodec.capture.capture import Capture, open_capture
from invcodec.decoding.video import Frame, Video
from invcodec.errors import CaptureError, DamagedError, UsageError
from invcodec.geometry.rig import camera_named
from invcodec.metrics import Fidelity, over_white, psnr, ssim_map
from invcodec.names import Alpha
from invcodec.output import file_name_part, written
from invcodec.training.change import differing, spread
from invcodec.training.pixels import held, validation_pixels

SCHEMA = 1
"""Version of `Evaluation`; raised when a field changes its meaning or is removed."""

MEASURES = {
    "psnr": "dB, 8-bit sRGB, over all pixels and channels of an image; mean over images",
    "ssim": "11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, L 255, mean over channels; mean over images",
}
"""How each figure is measured."""

_CHANGED = 8
"""A pixel is moving if its 3x3 mean in some channel differs by more than this (of 255) from the previous frame."""


class Figures(TypedDict):
    """Quality of one picture, or means over several; PSNR in dB.

    `_moving` and `_static` are over those pixels only. None where there are no such pixels, or where it is not known
    which pixels move; and of a picture that the capture does not have.
    """

    psnr: float | None
    ssim: float | None
    psnr_moving: float | None
    ssim_moving: float | None
    psnr_static: float | None
    ssim_static: float | None


_NOTHING = Figures(
    psnr=None, ssim=None, psnr_moving=None, ssim_moving=None, psnr_static=None, ssim_static=None
)  # fmt: skip


class MeanFigures(Figures):
    """Means over all pictures."""

    images: int
    """Number of pictures, of those with pixels to compare."""


class FrameEvaluation(TypedDict):
    """One frame."""

    number: int
    time: float
    """In seconds."""
    kind: str
    """"key" or "delta"."""
    bytes: int
    """Size of its record."""
    cameras: dict[str, Figures]
    """By the camera's name."""


class FileBytes(TypedDict):
    """Bytes in the file, records with their framing included."""

    file: int
    per_frame: float
    """The whole file's bytes, divided by its frames."""
    key: float | None
    """Mean of the keyframes; None if there are none."""
    delta: float | None
    """Mean of the other frames; None if there are none."""
    duration: float
    """In seconds."""
    bit_rate: float
    """Bits per second."""


class FrameValidation(TypedDict):
    """PSNR of one frame on the pixels that the encoder kept for validation, in dB."""

    number: int
    psnr: float | None
    """As measured now; None if masks leave no pixel."""
    psnr_moving: float | None
    """The same of those that changed since the frame before in the file; None if they are not known or too few."""
    stored: float | None
    """`psnr` as the encoder measured it; None if it did not."""
    stored_moving: float | None
    """`psnr_moving` as the encoder measured it."""


class Evaluation(TypedDict):
    """Result of `evaluate`, in types that JSON has."""

    schema: int
    """`SCHEMA`."""
    file: str
    capture: str
    measures: dict[str, str]
    """`MEASURES`."""
    set: str
    """Why these cameras: "held-out", "training" or "named"."""
    cameras: list[str]
    motion: str
    """How moving pixels were found: by the capture's "masks", or by "differences" between frames."""
    mean: MeanFigures
    frames: list[FrameEvaluation]
    bytes: FileBytes
    lost: list[int]
    """Frames that are damaged."""
    missing: list[int]
    """Frames of the file that the capture does not have."""
    validation: NotRequired[list[FrameValidation]]
    """Result of `validate`, where that was asked for."""


def open_original(video: Video, folder: str | os.PathLike[str], *, outside: bool = False) -> Capture:
    """The capture that a file was made from, opened as its encoder did, as far as the file says how.

    Args:
        outside: as of `invcodec.open_capture`.

    Raises:
        CaptureError: as `invcodec.open_capture`.
        UsageError: the file holds no frames.
    """
    if not len(video):
        raise UsageError(f"{video.name}: holds no frames")
    # What an encoder notes is in any form.
    origin = video.head.encoder.get("origin")
    noted = origin if isinstance(origin, Mapping) else {}
    as_read = {key: noted[key] for key in ("layout", "source") if isinstance(noted.get(key), str)}
    opaque: Alpha = "ignore" if noted.get("alpha") == "ignore" else "mask"
    return open_capture(
        folder,
        **as_read,
        frames=(video.frames[0].number, video.frames[-1].number + 1),
        downscale=video.head.downscale,
        alpha="matte" if video.transparent else opaque,
        outside=outside,
    )


def evaluate(
    video: Video,
    capture: Capture,
    cameras: Sequence[str] | None = None,
    *,
    save: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Compare a file with the capture that it was made from.

    Args:
        video: the file.
        capture: opened at the file's size (its `downscale`).
        cameras: names to compare; the held-out cameras if None, or if there are none, the training cameras.
        save: folder for pictures, captured on the left, decoded on the right.
        done: called after every frame.

    Raises:
        UsageError: unknown camera, or no frame that both have.
        CaptureError: the capture's images have another size.
        DamagedError: no frame can be decoded.
    """
    names, chosen = chosen_cameras(video, cameras)
    numbers = _common(video, capture)
    if not numbers:
        raise UsageError(f"{video.name} and {capture.folder} have no frame in common")
    capture = _only(capture, names, video)
    if save is not None:
        if len({file_name_part(name) for name in names}) < len(names):
            raise UsageError("two cameras have names that make the same file name; compare one of them, with --camera")
        save.mkdir(parents=True, exist_ok=True)
    rows: list[FrameEvaluation] = []
    lost: list[int] = []
    motion: set[str] = set()
    for captured in _captured(capture, numbers):
        motion.add(captured.motion)
        frame = video[captured.number]
        figures = {}
        try:
            for name, image, mask, moving in zip(names, captured.images, captured.masks, captured.moving, strict=True):
                if image is None:
                    figures[name] = _NOTHING
                    continue
                decoded = _decoded(frame, name)
                figures[name] = _figures(over_white(image), decoded, mask, moving)
                if save is not None:
                    pair = np.concatenate([over_white(image), decoded], 1)
                    path = save / f"{video.path.stem}-{frame.number:06d}-{file_name_part(name)}.png"
                    with written(path, force=True) as out:
                        Image.fromarray(pair).save(out.file, "PNG")
        except DamagedError:
            lost.append(frame.number)
        else:
            rows.append(
                {
                    "number": frame.number,
                    "time": float(frame.time),
                    "kind": frame.kind,
                    "bytes": frame.bytes,
                    "cameras": figures,
                }
            )
        done()
    if not rows:
        raise DamagedError(f"{video.name}: no frame could be decoded", frame=lost[0])
    return {
        "schema": SCHEMA,
        "file": video.name,
        "capture": str(capture.folder),
        "measures": MEASURES,
        "set": chosen,
        "cameras": names,
        "motion": "masks" if "masks" in motion else "differences",
        "mean": mean_figures([figures for row in rows for figures in row["cameras"].values()]),
        "frames": rows,
        "bytes": _bytes(video),
        "lost": lost,
        "missing": sorted({frame.number for frame in video} - numbers),
    }


@dataclass(frozen=True)
class Pair:
    """A picture of the capture, and the same of the file.

    Attributes:
        captured, decoded: `[H, W, 3]` uint8, over white if they are transparent.
        seconds: that decoding and rendering took.
    """

    captured: np.ndarray
    decoded: np.ndarray
    seconds: float


def pairs(video: Video, capture: Capture, cameras: Sequence[str], numbers: Sequence[int]) -> Iterator[Pair]:
    """The pictures that `evaluate` compares, of some frames and cameras: of each frame, all cameras in order.

    Args:
        video, capture: as for `evaluate`.
        cameras: their names.
        numbers: of frames of which the capture has these cameras' pictures.

    Raises:
        CaptureError: as for `evaluate`.
        DamagedError: a frame cannot be decoded.
    """
    capture = _only(capture, cameras, video)
    for number in numbers:
        with closing(replace(capture, numbers=range(number, number + 1)).frames()) as frames:
            images = next(frames).images
        for name, image in zip(cameras, images, strict=True):
            start = perf_counter()
            assert image is not None
            decoded = _decoded(video[number], name)
            yield Pair(over_white(image), decoded, perf_counter() - start)


def validate(video: Video, capture: Capture, *, done: Callable[[], None] = lambda: None) -> list[FrameValidation]:
    """Repeat the encoder's own measurement: PSNR on the pixels that it kept for validation, frame by frame.

    Args:
        video, capture, done: as for `evaluate`.

    Returns:
        One row per frame; frames that are damaged are left out.

    Raises:
        CaptureError: as for `evaluate`.
    """
    names = [camera.name for camera in video.cameras if not camera.held_out]
    capture = _only(capture, names, video)
    chosen = validation_pixels(capture.cameras)
    rows: list[FrameValidation] = []
    before: list[np.ndarray] | None = None
    for captured in _captured(capture, _common(video, capture)):
        frame = video[captured.number]
        seen = held(captured.images, before, capture.cameras, 4 if capture.transparent else 3)
        changed = None if before is None else _changed_for_encoder(before, seen)
        before = seen
        pairs, moving = [], []
        try:
            for index, (name, image, mask, pixels) in enumerate(
                zip(names, captured.images, captured.masks, chosen, strict=True)
            ):
                if image is None:
                    continue
                kept = pixels if mask is None else pixels[mask.reshape(-1)[pixels]]
                pairs.append([over_white(each).reshape(-1, 3)[kept] for each in (image, _decoded(frame, name))])
                if changed is not None:
                    moving.append(changed[index].reshape(-1)[kept])
            stored = frame.stats.fidelity
        except DamagedError:
            pass
        else:
            expected, found = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
            measured = Fidelity.measure(expected, found, np.concatenate(moving) if moving else None)
            rows.append(
                {
                    "number": frame.number,
                    "psnr": measured.psnr if len(expected) else None,
                    "psnr_moving": measured.psnr_moving,
                    "stored": stored.psnr if stored else None,
                    "stored_moving": stored.psnr_moving if stored else None,
                }
            )
        done()
    return rows


def _changed_for_encoder(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per camera, the pixels `[H, W]` bool that `invcodec.training.change` finds changed."""
    flat = [np.concatenate([image.reshape(-1, image.shape[-1]) for image in images]) for images in (after, before)]
    ends = np.cumsum([image.shape[0] * image.shape[1] for image in after])
    parts = np.split(differing(*flat), ends[:-1])
    return [spread(part.reshape(image.shape[:2]), 1) for part, image in zip(parts, after, strict=True)]


def _common(video: Video, capture: Capture) -> set[int]:
    """Numbers of the frames that both have."""
    return {frame.number for frame in video} & set(capture.numbers)


def _decoded(frame: Frame, camera: str) -> np.ndarray:
    """A frame as a camera sees it, over white if the file is transparent: `[H, W, 3]` uint8."""
    view = frame.render(camera)
    return over_white(view.rgba) if frame.video.transparent else view.rgb


def chosen_cameras(video: Video, cameras: Sequence[str] | None) -> tuple[list[str], str]:
    """Names of the cameras to compare, and why these: "held-out", "training" or "named".

    Args:
        cameras: names; the held-out cameras if None, or if there are none, the training cameras.

    Raises:
        UsageError: unknown camera.
    """
    rig = video.cameras
    if cameras:
        for name in cameras:
            camera_named(name, rig, video.name)
        return list(dict.fromkeys(cameras)), "named"
    held_out = [camera.name for camera in rig if camera.held_out]
    if held_out:
        return held_out, "held-out"
    return [camera.name for camera in rig], "training"


def _only(capture: Capture, names: Sequence[str], video: Video) -> Capture:
    """The capture reduced to these cameras, whose images must have the size that the file declares."""
    index = {camera.name: i for i, camera in enumerate(capture.cameras)}
    sizes = {camera.name: (camera.width, camera.height) for camera in video.cameras}
    for name in names:
        if name not in index:
            raise CaptureError(f"{capture.folder}: no camera '{name}', which {video.name} has")
        camera = capture.cameras[index[name]]
        if (camera.width, camera.height) != sizes[name]:
            raise CaptureError(
                f"{capture.folder}: camera '{name}' is {camera.width}x{camera.height}, "
                f"but {sizes[name][0]}x{sizes[name][1]} in {video.name}"
            )
    order = [index[name] for name in names]
    return replace(
        capture,
        cameras=tuple(capture.cameras[i] for i in order),
        files=tuple(capture.files[i] for i in order),
        gaps=tuple(capture.gaps[i] for i in order),
    )


@dataclass(frozen=True)
class _Captured:
    """A captured frame.

    Attributes:
        images: per camera, `[H, W, 3]` or `[H, W, 4]` uint8, or None if it has none.
        masks: per camera, the pixels that count, `[H, W]` bool, or None for all.
        moving: per camera, the pixels that move, `[H, W]` bool, or None if that is not known.
        motion: how moving pixels were found, "masks" or "differences".
    """

    number: int
    images: Sequence[np.ndarray | None]
    masks: Sequence[np.ndarray | None]
    moving: list[np.ndarray | None]
    motion: str


def _captured(capture: Capture, numbers: set[int]) -> Iterator[_Captured]:
    """The capture's frames of these numbers."""
    before: Sequence[np.ndarray | None] | None = None
    with closing(capture.frames(min(numbers))) as frames:
        for frame in frames:
            if frame.number in numbers:
                moving = [capture.motion(camera.name, frame.number) for camera in capture.cameras]
                motion = "masks" if any(mask is not None for mask in moving) else "differences"
                if motion == "differences" and before is not None:
                    pairs = zip(before, frame.images, strict=True)
                    moving = [None if a is None or b is None else _changed(a, b) for a, b in pairs]
                yield _Captured(frame.number, frame.images, frame.masks, moving, motion)
            if frame.number >= max(numbers):
                return
            before = frame.images


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which pixels of `[H, W, C]` uint8 moved, `[H, W]` bool."""
    difference = after.astype(np.float32) - before
    padded = np.pad(difference, ((1, 1), (1, 1), (0, 0)), "edge")
    height, width = difference.shape[:2]
    mean = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return np.abs(mean).max(-1) > _CHANGED


def _figures(captured: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None, moving: np.ndarray | None) -> Figures:
    keep = np.ones(captured.shape[:2], bool) if mask is None else mask
    similarity = ssim_map(captured, decoded)

    def over(region: np.ndarray | None) -> tuple[float | None, float | None]:
        if region is None or not region.any():
            return None, None
        return psnr(captured, decoded, region), float(similarity[region].mean())

    psnr_all, ssim_all = over(keep)
    psnr_moving, ssim_moving = over(None if moving is None else keep & moving)
    psnr_static, ssim_static = over(None if moving is None else keep & ~moving)
    return {
        "psnr": psnr_all,
        "ssim": ssim_all,
        "psnr_moving": psnr_moving,
        "ssim_moving": ssim_moving,
        "psnr_static": psnr_static,
        "ssim_static": ssim_static,
    }


def mean_figures(pictures: Sequence[Figures]) -> MeanFigures:
    """Means over pictures, each figure over those that have it."""

    def over(values: Iterator[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return {
        "images": sum(each["psnr"] is not None for each in pictures),
        "psnr": over(each["psnr"] for each in pictures),
        "ssim": over(each["ssim"] for each in pictures),
        "psnr_moving": over(each["psnr_moving"] for each in pictures),
        "ssim_moving": over(each["ssim_moving"] for each in pictures),
        "psnr_static": over(each["psnr_static"] for each in pictures),
        "ssim_static": over(each["ssim_static"] for each in pictures),
    }


def _bytes(video: Video) -> FileBytes:
    sizes = {kind: [frame.bytes for frame in video if frame.kind == kind] for kind in ("key", "delta")}
    duration = float(video.duration)
    return {
        "file": video.size,
        "per_frame": video.size / len(video),
        "key": float(np.mean(sizes["key"])) if sizes["key"] else None,
        "delta": float(np.mean(sizes["delta"])) if sizes["delta"] else None,
        "duration": duration,
        "bit_rate": 8 * video.size / duration,
    }

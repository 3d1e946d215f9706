"""How good a file is: its pictures against the captured ones, and its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invcodec.capture.capture import Capture
from invcodec.container.reader import Reader
from invcodec.decoding.decoder import Decoder
from invcodec.errors import CaptureError, DamagedError, UsageError
from invcodec.geometry.camera import Camera
from invcodec.metrics import over_white, psnr, ssim_map, to_8_bit
from invcodec.training.pixels import validation_pixels

SCHEMA = 1
"""Version of what `evaluate` returns; raised when a field changes its meaning or goes away."""

MEASURES = {
    "psnr": "dB, 8-bit sRGB, over all pixels and channels of an image; mean over images",
    "ssim": "11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, L 255, mean over channels; mean over images",
}
"""How each figure is measured."""

_CHANGED = 8
"""A pixel moves if its 3x3 mean in some channel differs by more than this (of 255) from the frame before."""


def evaluate(
    decoder: Decoder,
    capture: Capture,
    cameras: Sequence[str] | None = None,
    *,
    save: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compare a file with the capture it was made from.

    Args:
        decoder: the file.
        capture: opened at the file's size (its `downscale`).
        cameras: names to compare; held-out cameras if None, or where there are none, the training cameras.
        save: folder for pictures, the captured one left, the decoded one right.
        done: called after every frame.

    Returns:
        Plain types: `schema`, `measures`; `cameras` and which `set` they are (held-out, training, named); how
        `motion` was found (masks, differences); `mean` over all images; `frames`, each with its number, time,
        kind, bytes, and figures by camera; `bytes`; numbers of frames `lost` to damage; and `missing`, which the
        capture does not have. Figures are psnr and ssim, and both with `_moving` and `_static` over those pixels
        (None where there are none).

    Raises:
        UsageError: unknown camera, or no frame that both have.
        CaptureError: the capture's images have another size.
    """
    names, chosen = _choose(decoder, cameras)
    numbers = {entry.number for entry in decoder.frames} & set(capture.numbers)
    if not numbers:
        raise UsageError(f"{decoder.reader.name} and {capture.folder} have no frame in common")
    capture = _only(capture, names, decoder)
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    lost: list[int] = []
    motion: set[str] = set()
    for number, images, masks, moving, kind in _frames(capture, numbers):
        motion.add(kind)
        entry = decoder.entry(number)
        rig = {camera.name: camera for camera in decoder.cameras(number)}
        figures = {}
        try:
            for name, image, mask, moves in zip(names, images, masks, moving, strict=True):
                decoded = _decoded(decoder, number, rig[name])
                figures[name] = _figures(over_white(image), decoded, mask, moves)
                if save is not None:
                    pair = np.concatenate([over_white(image), decoded], 1)
                    Image.fromarray(pair).save(save / f"{decoder.reader.path.stem}-{number:06d}-{name}.png")
        except DamagedError:
            lost.append(number)
        else:
            rows.append(
                {
                    "number": number,
                    "time": float(entry.time),
                    "kind": entry.kind,
                    "bytes": entry.length,
                    "cameras": figures,
                }
            )
        done()
    if not rows:
        raise DamagedError(f"{decoder.reader.name}: no frame could be decoded", frame=lost[0])
    return {
        "schema": SCHEMA,
        "file": decoder.reader.name,
        "capture": str(capture.folder),
        "measures": MEASURES,
        "set": chosen,
        "cameras": names,
        "motion": "masks" if "masks" in motion else "differences",
        "mean": _mean([figures for row in rows for figures in row["cameras"].values()]),
        "frames": rows,
        "bytes": _bytes(decoder),
        "lost": lost,
        "missing": sorted({entry.number for entry in decoder.frames} - numbers),
    }


def validate(
    decoder: Decoder, capture: Capture, *, done: Callable[[], None] = lambda: None
) -> list[dict[str, float | int | None]]:
    """Measure what the encoder measured: PSNR on the validation pixels of each frame.

    Args:
        decoder, capture, done: as for `evaluate`.

    Returns:
        For each frame its number, the `psnr` found, and the one that is `stored` in the file (None: none is).
    """
    names = [camera.name for camera in decoder.cameras() if not camera.held_out]
    numbers = {entry.number for entry in decoder.frames} & set(capture.numbers)
    capture = _only(capture, names, decoder)
    chosen = validation_pixels(capture.cameras)
    rows: list[dict[str, float | int | None]] = []
    for number, images, masks, _, _ in _frames(capture, numbers):
        rig = {camera.name: camera for camera in decoder.cameras(number)}
        pairs = []
        for name, image, mask, pixels in zip(names, images, masks, chosen, strict=True):
            kept = pixels if mask is None else pixels[mask.reshape(-1)[pixels]]
            decoded = _decoded(decoder, number, rig[name])
            pairs.append([over_white(each).reshape(-1, 3)[kept] for each in (image, decoded)])
        captured, decoded = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        assert isinstance(decoder.reader, Reader)
        stored = decoder.reader.frame(decoder.entry(number))[0].stats.psnr
        rows.append(
            {
                "number": number,
                "psnr": psnr(captured, decoded) if len(captured) else None,
                "stored": stored,
            }
        )
        done()
    return rows


def _decoded(decoder: Decoder, number: int, camera: Camera) -> np.ndarray:
    """A frame as a camera sees it, over white where the file is transparent: `[H, W, 3]` uint8."""
    view = decoder.render(number, camera)
    return over_white(np.dstack([view.rgb, to_8_bit(view.alpha)])) if decoder.transparent else view.rgb


def _choose(decoder: Decoder, cameras: Sequence[str] | None) -> tuple[list[str], str]:
    rig = decoder.cameras()
    if cameras:
        known = [camera.name for camera in rig]
        for name in cameras:
            if name not in known:
                raise UsageError(f"{decoder.reader.name}: no camera '{name}'; cameras are {', '.join(known)}")
        return list(dict.fromkeys(cameras)), "named"
    held_out = [camera.name for camera in rig if camera.held_out]
    if held_out:
        return held_out, "held-out"
    return [camera.name for camera in rig], "training"


def _only(capture: Capture, names: Sequence[str], decoder: Decoder) -> Capture:
    """The capture with these cameras alone, which must look as they do in the file."""
    index = {camera.name: i for i, camera in enumerate(capture.cameras)}
    sizes = {camera.name: (camera.width, camera.height) for camera in decoder.cameras()}
    for name in names:
        if name not in index:
            raise CaptureError(f"{capture.folder}: no camera '{name}', which {decoder.reader.name} has")
        camera: Camera = capture.cameras[index[name]]
        if (camera.width, camera.height) != sizes[name]:
            raise CaptureError(
                f"{capture.folder}: camera '{name}' is {camera.width}x{camera.height} there, "
                f"and {sizes[name][0]}x{sizes[name][1]} in {decoder.reader.name}"
            )
    order = [index[name] for name in names]
    return replace(
        capture,
        cameras=tuple(capture.cameras[i] for i in order),
        files=tuple(capture.files[i] for i in order),
    )


def _frames(
    capture: Capture, numbers: set[int]
) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray | None], list[np.ndarray | None], str]]:
    """Frame number, images, masks, what moves in each image, and how that is known."""
    before: list[np.ndarray] | None = None
    with closing(capture.frames(min(numbers))) as frames:
        for frame in frames:
            if frame.number in numbers:
                moving = [capture.motion(camera.name, frame.number) for camera in capture.cameras]
                kind = "masks" if any(mask is not None for mask in moving) else "differences"
                if kind == "differences" and before is not None:
                    moving = [_changed(a, b) for a, b in zip(before, frame.images, strict=True)]
                yield frame.number, frame.images, frame.masks, moving, kind
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


def _figures(
    captured: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None, moving: np.ndarray | None
) -> dict[str, float | None]:
    keep = np.ones(captured.shape[:2], bool) if mask is None else mask
    similarity = ssim_map(captured, decoded)
    regions = {"": keep}
    if moving is not None:
        regions |= {"_moving": keep & moving, "_static": keep & ~moving}
    figures: dict[str, float | None] = {}
    for suffix in ("", "_moving", "_static"):
        region = regions.get(suffix)
        some = region is not None and bool(region.any())
        figures[f"psnr{suffix}"] = psnr(captured, decoded, region) if some else None
        figures[f"ssim{suffix}"] = float(similarity[region].mean()) if some else None
    return figures


def _mean(figures: Sequence[dict[str, float | None]]) -> dict[str, float | int | None]:
    mean: dict[str, float | int | None] = {"images": len(figures)}
    for key in figures[0]:
        values = [value for each in figures if (value := each[key]) is not None]
        mean[key] = float(np.mean(values)) if values else None
    return mean


def _bytes(decoder: Decoder) -> dict[str, float | int | None]:
    """Bytes in the file, records with their framing included."""
    entries = decoder.frames
    size = decoder.reader.size
    duration = entries[-1].time - entries[0].time + 1 / decoder.head.frame_rate
    sizes = {kind: [e.length for e in entries if e.kind == kind] for kind in ("key", "delta")}
    return {
        "file": size,
        "per_frame": size / len(entries),
        "key": float(np.mean(sizes["key"])) if sizes["key"] else None,
        "delta": float(np.mean(sizes["delta"])) if sizes["delta"] else None,
        "duration": float(duration),
        "bit_rate": 8 * size / float(duration),
    }

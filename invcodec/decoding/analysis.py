"""What lies in which layer: frames that share their first layers with one frame and the rest with another.

INV (arXiv 2302.01532) found that an MLP divides by itself: first layers hold structure, later ones colour. Here that is
measured on a file alone, without its capture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from invcodec.decoding.evaluation import chosen_cameras
from invcodec.decoding.video import Video, View
from invcodec.errors import UsageError
from invcodec.field.profile import TensorKey
from invcodec.metrics import over_white, psnr
from invcodec.render.networks import Layer

SCHEMA = 1
"""Version of `Analysis`; raised when a field changes its meaning or is removed."""

MEASURES = {
    "psnr": "dB, 8-bit sRGB, against the frame as the file shows it; mean over cameras",
    "depth_error": "mean absolute difference of inverse z-depths (0 where there is nothing), as a share of the frame's "
    "mean inverse depth; mean over cameras",
    "moved": "Euclidean norm of the change of a layer's weights, as a share of the norm of the weights; without "
    "tensors that hold integers, such as occupancy",
}
"""How each figure is measured."""


class Likeness(TypedDict):
    """How near a picture is to a frame."""

    psnr: float
    depth_error: float | None
    """None if the frame shows nothing."""


class Hybrid(TypedDict):
    """A picture of networks whose first layers are those of one frame and the rest those of another."""

    layers: int
    """How many layers are those of the first frame."""
    first: Likeness
    """To the frame that the first layers come from."""
    second: Likeness
    """To the frame that the rest comes from."""


class LayerMoved(TypedDict):
    """One layer."""

    name: str
    group: str
    """"structure" or "colour", as the file declares it."""
    weights: int
    """Number of weights, those of all networks together."""
    moved: float
    """From the first frame to the second."""


class FrameMoved(TypedDict):
    """One frame."""

    number: int
    moved: list[float]
    """Of each layer, since the frame before in the file."""


class Analysis(TypedDict):
    """Result of `analyze`, in types that JSON has."""

    schema: int
    """`SCHEMA`."""
    file: str
    measures: dict[str, str]
    """`MEASURES`."""
    frames: list[int]
    """Number of the frame that the first layers come from, and of the one that the rest comes from."""
    cameras: list[str]
    layers: list[LayerMoved]
    """From input to output."""
    hybrids: list[Hybrid]
    """With none of the first frame's layers, with one, and so on up to all of them."""
    path: NotRequired[list[FrameMoved]]
    """Every frame after the earlier one up to the later one, where that was asked for."""


def analyze(
    video: Video,
    first: int,
    second: int,
    cameras: Sequence[str] | None = None,
    *,
    path: bool = False,
    done: Callable[[], None] = lambda: None,
) -> Analysis:
    """Measure what lies in which layer of a file's networks.

    For each number of layers s, the first s layers of one frame are joined with the rest of another, and the pictures
    and depths of that hybrid are compared with those of both frames.

    Args:
        video: the file.
        first: number of the frame that the first layers come from.
        second: number of the frame that the rest comes from.
        cameras: names to compare; the held-out cameras if None, or if there are none, the training cameras.
        path: also how far each layer moved in each frame from the one to the other.
        done: called after every hybrid.

    Raises:
        UsageError: no such frame or camera, or twice the same frame.
        DamagedError: a frame is damaged.
    """
    if first == second:
        raise UsageError(f"{video.name}: frames {first} and {second} are the same; name two")
    names, _ = chosen_cameras(video, cameras)
    layers = video.networks.layers
    views = [video[first].camera(name) for name in names]
    ours, others = (video.source.state_at(number).weights() for number in (first, second))
    pictures = [[video.render_weights(each, view) for view in views] for each in (ours, others)]
    hybrids: list[Hybrid] = []
    for count in range(len(layers) + 1):
        mixed = hybrid(ours, others, layers[:count])
        found = [video.render_weights(mixed, view) for view in views]
        hybrids.append(
            {
                "layers": count,
                "first": _likeness(found, pictures[0], transparent=video.transparent),
                "second": _likeness(found, pictures[1], transparent=video.transparent),
            }
        )
        done()
    result: Analysis = {
        "schema": SCHEMA,
        "file": video.name,
        "measures": MEASURES,
        "frames": [first, second],
        "cameras": names,
        "layers": [
            {
                "name": layer.name,
                "group": layer.group,
                "weights": sum(ours[key].size for key in layer.tensors),
                "moved": moved,
            }
            for layer, moved in zip(layers, _moved(video, ours, others), strict=True)
        ],
        "hybrids": hybrids,
    }
    if path:
        result["path"] = _path(video, min(first, second), max(first, second))
    return result


def hybrid(
    first: Mapping[TensorKey, np.ndarray], second: Mapping[TensorKey, np.ndarray], layers: Sequence[Layer]
) -> dict[TensorKey, np.ndarray]:
    """Weights of which those of some layers are those of a first frame, and all others those of a second."""
    return {**second, **{key: first[key] for layer in layers for key in layer.tensors}}


def _likeness(found: Sequence[View], frame: Sequence[View], *, transparent: bool) -> Likeness:
    def shown(view: View) -> np.ndarray:
        return over_white(view.rgba) if transparent else view.rgb

    pairs = list(zip(found, frame, strict=True))
    errors = [depth_error(a.depth, b.depth) for a, b in pairs]
    known = [error for error in errors if error is not None]
    return {
        "psnr": float(np.mean([psnr(shown(a), shown(b)) for a, b in pairs])),
        "depth_error": float(np.mean(known)) if known else None,
    }


def depth_error(found: np.ndarray, expected: np.ndarray) -> float | None:
    """Mean absolute difference of inverse depths, as a share of the mean inverse depth that was expected.

    Inverse depths compare what has a depth with what has none, and weigh near things more, as pictures do.

    Args:
        found, expected: `[H, W]`, positive or infinite.

    Returns:
        None if nothing is expected to have a depth.
    """
    near, wanted = (1 / depth.astype(np.float64) for depth in (found, expected))
    return float(np.abs(near - wanted).sum() / wanted.sum()) if wanted.any() else None


def _moved(video: Video, before: Mapping[TensorKey, np.ndarray], after: Mapping[TensorKey, np.ndarray]) -> list[float]:
    """How far each layer moved, relative to what it was."""
    specs = video.networks.tensors
    moved = []
    for layer in video.networks.layers:
        keys = [key for key in layer.tensors if not specs[key].exact]
        change = sum(float(((after[key].astype(np.float64) - before[key]) ** 2).sum()) for key in keys)
        size = sum(float((before[key].astype(np.float64) ** 2).sum()) for key in keys)
        moved.append((change / size) ** 0.5 if size else 0.0)
    return moved


def _path(video: Video, first: int, last: int) -> list[FrameMoved]:
    rows: list[FrameMoved] = []
    before: dict[TensorKey, np.ndarray] | None = None
    for frame in video[first : last + 1]:
        weights = video.source.state_at(frame.number).weights()
        if before is not None:
            rows.append({"number": frame.number, "moved": _moved(video, before, weights)})
        before = weights
    return rows

"""Cuts: whether a frame shows another scene than the one before it.

After a cut nothing of what was learned is of use, and the frame is trained as a first one. A change of light is not a
cut: the pictures before it still explain the ones after it, up to a gain and an offset of each channel.
"""

from __future__ import annotations

import numpy as np

from invcodec.metrics import over_white
from invcodec.training.pixels import FramePixels, Views

_BLOCKS = 32
"""Blocks along the longer side of a picture, at most; their means are compared. That averages noise, so that noisy
pictures of little contrast are not taken for different ones."""
_BLOCK_SAMPLES = 4
"""Pixels along each side of a block that are looked at: enough to average, whatever the size of the picture."""
_TILES = (4, 6)
"""Tiles of a picture, down and across, each with a gain and an offset of its own: the light of a lamp that is switched
varies over the picture."""
_ROUNDS = 3
"""Fits of a tile, each to the half of its blocks that the last one explained best: what moves must not bend the fit."""
_VISIBLE = 4.0
"""If less than this remains in most blocks, of 255, nothing is gained by starting again: it may be noise."""
_UNEXPLAINED = 0.7
"""Cut if more than this remains of what a single colour for each tile leaves. Cameras turned to another part of a room
left 0.75 to 1; lamps, exposure, white balance and shaking cameras 0 to 0.6, and so did objects in up to half of the
picture."""
_GLANCE = 1 << 16
"""Pixels that tell whether anything has to be fitted at all."""


def is_cut(views: Views, now: FramePixels, before: FramePixels) -> bool:
    """Whether most of the training pictures are not explained by those of the last frame."""
    some = slice(None, None, -(-len(now.colour) // _GLANCE))
    difference = np.abs(now.colour[some].astype(np.int16) - before.colour[some]).max(1)
    if np.median(difference) < _VISIBLE:
        return False
    (after, known), (earlier, known_before) = (_tiles(views, frame) for frame in (now, before))
    valid = known & known_before
    if not valid.any():
        return False
    remains = _remains(after, earlier, valid)
    return remains >= _VISIBLE and remains > _UNEXPLAINED * _remains(after, np.zeros_like(after), valid)


def _tiles(views: Views, frame: FramePixels) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours `[T, N, 3]` float32, 0 to 255, of the blocks of each tile, and `[T, N]` which of them are valid.

    Tiles have as many blocks as the largest one; the others are filled up with invalid ones.
    """
    tiles = []
    for index, camera in enumerate(views.cameras):
        part = slice(views.offsets[index], views.offsets[index + 1])
        colour = frame.colour[part].reshape(camera.height, camera.width, -1)
        valid = frame.valid_mask[part].reshape(camera.height, camera.width)
        apart = max(1, max(valid.shape) // (_BLOCKS * _BLOCK_SAMPLES))
        colour, valid = colour[::apart, ::apart], valid[::apart, ::apart]
        side = -(-max(valid.shape) // _BLOCKS)
        seen = valid[..., None].astype(np.float32)
        count = _sums(seen, side)
        means = _sums(over_white(colour) * seen, side) / np.maximum(count, 1)
        known = count[..., 0] > 0
        for rows in np.array_split(np.arange(len(known)), _TILES[0]):
            for columns in np.array_split(np.arange(known.shape[1]), _TILES[1]):
                place = np.ix_(rows, columns)
                tiles.append((means[place].reshape(-1, 3), known[place].reshape(-1)))
    most = max(len(known) for _, known in tiles)
    return (
        np.stack([np.pad(means, ((0, most - len(means)), (0, 0))) for means, _ in tiles]),
        np.stack([np.pad(known, (0, most - len(known))) for _, known in tiles]),
    )


def _sums(values: np.ndarray, side: int) -> np.ndarray:
    """Sums `[h, w, C]` over the blocks of an array `[H, W, C]`; the last ones may be smaller."""
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], side), axis)
    return values


def _remains(now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> float:
    """The median over blocks of what the last frame, with a gain and an offset for each tile and channel, leaves open.

    Gains are not negative: light adds. Least trimmed squares, from all blocks and from those that changed least
    (Rousseeuw and Van Driessen, Computing LTS regression for large data sets, 2006).

    Args:
        now, before: `[T, N, 3]`.
        valid: `[T, N]`.
    """
    starts = []
    for left in (np.zeros(valid.shape, np.float32), np.abs(now - before).max(-1)):
        for _ in range(_ROUNDS):
            left = np.where(valid, left, np.inf)
            share = (valid & (left <= np.median(left, 1, keepdims=True)))[..., None].astype(np.float32)
            share /= np.maximum(share.sum(1, keepdims=True), 1)
            mean_now, mean_before = (share * now).sum(1, keepdims=True), (share * before).sum(1, keepdims=True)
            about = before - mean_before
            spread, common = ((share * about * other).sum(1, keepdims=True) for other in (about, now - mean_now))
            gain = np.maximum(common, 0) / np.maximum(spread, 1)
            left = np.abs(now - mean_now - gain * about).max(-1)
        starts.append(left)
    middle = [np.median(np.where(valid, left, np.inf), 1, keepdims=True) for left in starts]
    return float(np.median(np.where(middle[0] <= middle[1], *starts)[valid]))

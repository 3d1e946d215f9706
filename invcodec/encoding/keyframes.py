"""Which frames of a file are keyframes, apart from those after a cut."""

from __future__ import annotations


def is_due(since: int, key_every: int | None) -> bool:
    """Whether the next frame has to be a keyframe.

    Args:
        since: frames from the last keyframe to it, 0 if there is none yet.
        key_every: most frames from one keyframe to the next, or None for no more than the first.
    """
    return since == 0 or (key_every is not None and since >= key_every)


def keyframes_among(frames: int, key_every: int | None, since: int = 0) -> int:
    """How many of the next `frames` frames are keyframes if there is no cut; see `is_due`."""
    if key_every is None:
        return min(frames, 1) if since == 0 else 0
    until = -since % key_every
    return -(-max(frames - until, 0) // key_every)

"""Which frames of a file are keyframes."""

from __future__ import annotations


def is_keyframe(index: int, key_every: int | None) -> bool:
    """Whether a file's frame `index`, counted from 0, is a keyframe; only the first one if `key_every` is None."""
    return index % key_every == 0 if key_every else index == 0


def keyframes_among(frames: int, key_every: int | None) -> int:
    """How many of a file's first `frames` frames are keyframes."""
    return -(-frames // key_every) if key_every else min(frames, 1)


def frames_to_keyframe(index: int, key_every: int) -> int:
    """Frames from frame `index` to the next keyframe, `key_every` if `index` is one itself."""
    return key_every - index % key_every

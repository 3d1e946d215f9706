"""Files whose frames have other integers than those of their source, frame by frame and without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.container.index import FrameEntry
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError
from invcodec.field.profile import TensorKey
from invcodec.version import __version__

Change = Callable[[FrameEntry], tuple[Mapping[TensorKey, np.ndarray], Mapping[TensorKey, int]]]
"""Gives the integers of a frame by tensor, and the quantisation parameters."""


def check_sound(reader: StateReader) -> None:
    """Refuse a file of which something is missing.

    Raises:
        DamagedError
    """
    if reader.status in ("damaged", "truncated"):
        raise DamagedError(f"{reader.name}: is {reader.status} ({reader.problems[0]}); repair it first")


def rewrite(
    reader: StateReader, kept: Sequence[FrameEntry], out: BinaryIO, notes: Mapping[str, Any], change: Change
) -> Sequence[FrameEntry]:
    """Write frames of a file with other integers.

    They keep their numbers, times and cameras, and their statistics but for PSNR, which no longer holds. Keyframes stay
    keyframes; another frame becomes one where it is the first, or where its quantisation parameters are others than
    those of the frame before.

    Args:
        reader: the source.
        kept: some of its frames, in order.
        out: writable binary file.
        notes: what the header says of how the file was made, in place of the source's notes.
        change: called for each frame, in order.
    """
    head = replace(reader.head, encoder={"name": "invcodec", "version": __version__, **notes})
    writer = Writer(out, head)
    before: State | None = None
    for entry in kept:
        frame, _ = reader.frame(entry)
        stats = replace(frame.stats, centidecibels=None, centidecibels_moving=None)
        cameras = frame.cameras
        if before is None:
            cameras = reader.cameras_at(entry.number)
            cameras = None if cameras == head.cameras else cameras
        levels, qps = change(entry)
        if before is None or entry.is_key or qps != before.qps:
            coded, before = encode_key(head, levels, qps)
            written = key_frame(before, frame.time, stats, cameras)
        else:
            coded, before = encode_delta(before, levels)
            written = delta_frame(before, frame.time, writer.entries[-1].number, stats, cameras)
        writer.frame(entry.number, written, coded)
    writer.finish(reader.status == "complete")
    return writer.entries

"""Cutting and joining files without training. Records are copied unchanged wherever possible."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.reader import Reader
from invcodec.container.scan import Record, Scanner, scan
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError, UsageError
from invcodec.geometry.camera import Camera


def concat(paths: Sequence[str | os.PathLike[str]], out: BinaryIO) -> Sequence[FrameEntry]:
    """Join files, such as segments that were encoded on different machines.

    Frames keep their numbers and times, so each file must begin after the end of the one before it. Of the encoder's
    notes in HEAD, those remain that are the same in all files: the result cannot be resumed as if it were one of them.

    Args:
        paths: in order; at least one.
        out: writable binary file.

    Raises:
        UsageError: the files differ in what they declare, or their frames overlap.
        DamagedError: a file is damaged or truncated.
    """
    # One at a time: there may be more files than a process may have open.
    head = _head(paths[0])
    alike = head.encoder
    for path in paths[1:]:
        other = _head(path)
        if differing := head.difference(other):
            raise UsageError(f"{path}: its {differing} is not that of {paths[0]}; only like files can be joined")
        alike = {k: v for k, v in alike.items() if k in other.encoder and other.encoder[k] == v}
    head = replace(head, encoder=alike)
    writer = Writer(out, head)
    complete = True
    cameras = head.cameras
    for path in paths:
        scanner = Scanner(os.fspath(path))
        first = True
        with open(path, "rb") as file:
            for found in scan(file, scanner):
                if found.entry is None or found.frame is None:
                    continue
                _check_follows(writer, found.entry, path)
                if first and found.frame.cameras is None and cameras != head.cameras:
                    # The file before moved its cameras; this one begins with those of the header.
                    _repack(writer, found, head.cameras)
                else:
                    writer.copy(found.data, found.frame)
                cameras = found.frame.cameras or (head.cameras if first else cameras)
                first = False
        if scanner.status in ("damaged", "truncated"):
            raise DamagedError(f"{path}: is {scanner.status} ({scanner.problems[0]}); repair it first")
        complete = complete and scanner.status == "complete"
    writer.finish(complete)
    return writer.entries


def _head(path: str | os.PathLike[str]) -> Head:
    with Reader(path) as reader:
        return reader.head


def _check_follows(writer: Writer, entry: FrameEntry, path: str | os.PathLike[str]) -> None:
    if not writer.entries:
        return
    last = writer.entries[-1]
    if not last.precedes(entry.number, entry.time):
        raise UsageError(
            f"{path}: its frame {entry.number} at {float(entry.time):g} s does not come after frame {last.number} "
            f"at {float(last.time):g} s; give the files in order, with frames that do not overlap"
        )


def _repack(writer: Writer, found: Record, cameras: tuple[Camera, ...]) -> None:
    assert found.frame is not None
    assert found.entry is not None
    assert found.coded is not None
    writer.frame(found.entry.number, replace(found.frame, cameras=cameras), found.coded)


@dataclass(frozen=True)
class Cut:
    """Result of `cut`: the frames that were kept, and the one that was re-encoded as a keyframe, if any."""

    frames: Sequence[FrameEntry]
    recoded: FrameEntry | None


def cut(path: str | os.PathLike[str], first: int | None, stop: int | None, out: BinaryIO) -> Cut:
    """Keep the frames from number `first` to before `stop`.

    If the first frame is a delta, it is re-encoded as a keyframe, and so are the deltas up to the next keyframe: from
    their integers, hence without loss.

    Args:
        path: the source.
        first, stop: frame numbers; None: from the beginning, to the end.
        out: writable binary file.

    Raises:
        UsageError: there are no such frames.
        DamagedError: a frame that is needed is damaged.
    """
    with StateReader(path) as reader:
        kept = reader.frames.numbered(first, stop)
        if not kept:
            frames = reader.frames
            has = f"it has frames {frames[0].number} to {frames[-1].number}" if frames else "it has none"
            raise UsageError(f"{path}: has no frames {'' if first is None else first}:{stop or ''}; {has}")
        head = reader.head
        writer = Writer(out, head)
        recoded: State | None = None
        for index, entry in enumerate(kept):
            try:
                frame, coded = reader.frame(entry)
            except DamagedError as error:
                raise DamagedError(f"{path}: frame {entry.number}: {error}; repair it first") from None
            if index == 0:
                cameras = reader.cameras_at(entry.number)
                frame = replace(frame, cameras=None if cameras == head.cameras else cameras)
            if entry.is_key:
                recoded = None
            elif index == 0:
                state = reader.state_at(entry.number)
                coded, recoded = encode_key(head, state.levels, state.qps)
                frame = key_frame(recoded, frame.time, frame.stats, frame.cameras)
            elif recoded is not None:
                # The coder's memory since the keyframe is different now.
                coded, recoded = encode_delta(recoded, reader.state_at(entry.number).levels)
                frame = replace(frame, coder=recoded.coder)
            writer.frame(entry.number, frame, coded)
        writer.finish(True)
        return Cut(writer.entries, None if kept[0].is_key else writer.entries[0])

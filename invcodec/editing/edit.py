"""Files made of other files, without training: joined, cut, repaired, verified.

Records are copied as they are wherever that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.scan import Record, Scanner, scan
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError, UsageError
from invcodec.geometry.camera import Camera


def concat(paths: Sequence[Path], out: BinaryIO) -> list[FrameEntry]:
    """Join files, such as segments that were encoded on different machines.

    Frames keep their numbers and times, so each file must go on after the one before it.

    Raises:
        UsageError: files that do not belong together.
        DamagedError: a file that is not whole.
    """
    with ExitStack() as stack:
        heads = [stack.enter_context(StateReader(path)).head for path in paths]
    head = heads[0]
    for path, other in zip(paths[1:], heads[1:], strict=True):
        if differing := _difference(head, other):
            raise UsageError(f"{path}: its {differing} is not that of {paths[0]}; only like files can be joined")
    writer = Writer(out, head)
    complete = True
    cameras = head.cameras
    for path in paths:
        scanner = Scanner(str(path))
        first = True
        with open(path, "rb") as file:
            for found in scan(file, scanner):
                if found.entry is None or found.frame is None:
                    continue
                _check_follows(writer, found.entry, path)
                if first and found.frame.cameras is None and cameras != head.cameras:
                    # The file before has moved its cameras; this one begins with the header's.
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


def _difference(a: Head, b: Head) -> str | None:
    """Name of the first field in which headers differ; what encoders say of themselves may."""
    for field in fields(Head):
        if field.name not in ("encoder", "tags") and getattr(a, field.name) != getattr(b, field.name):
            return field.name.replace("_", " ")
    return None


def _check_follows(writer: Writer, entry: FrameEntry, path: Path) -> None:
    if not writer.entries:
        return
    last = writer.entries[-1]
    if entry.number <= last.number or entry.time <= last.time:
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
    """What `cut` did: the frames it kept, and the one that it coded anew as a keyframe, if any."""

    frames: list[FrameEntry]
    recoded: FrameEntry | None


def cut(path: Path, first: int | None, stop: int | None, out: BinaryIO) -> Cut:
    """Keep the frames from number `first` to before `stop`.

    A first frame that is a delta is coded anew as a keyframe, and so are the deltas up to the next one: from their
    integers and hence without loss.

    Raises:
        UsageError: there are no such frames.
        DamagedError: a frame that is needed is lost.
    """
    with StateReader(path) as reader:
        kept = [
            entry
            for entry in reader.frames
            if (first is None or entry.number >= first) and (stop is None or entry.number < stop)
        ]
        if not kept:
            numbers = [entry.number for entry in reader.frames]
            has = f"it has frames {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
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
                # What a coder has learned since the keyframe is another thing now.
                coded, recoded = encode_delta(recoded, reader.state_at(entry.number).levels)
                frame = replace(frame, coder=recoded.coder)
            writer.frame(entry.number, frame, coded)
        writer.finish(True)
        return Cut(writer.entries, None if kept[0].is_key else writer.entries[0])

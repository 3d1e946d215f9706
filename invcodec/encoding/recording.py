"""The file that an encoder writes, kept valid however the encode ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.frame import FrameHead, Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.reader import end_of_frames
from invcodec.container.writer import Writer
from invcodec.errors import Interrupted, InvError
from invcodec.interrupts import deferred, interruptible
from invcodec.output import Output, WritableFile, check_output


@dataclass(frozen=True)
class Written:
    """Contents of a file that is being continued: its last two states, or its only one, and its frames with their
    statistics."""

    states: list[State]
    entries: Sequence[FrameEntry]
    stats: list[Stats]


class Recording:
    """A file under construction; a context manager that never loses a finished frame.

    A new file takes its name with its first frame; until then an existing one is untouched. Every record is flushed
    when it is added. An exception closes the file as incomplete.

    Args:
        out: path of the file, or a binary file object to write to, such as a pipe, which is not closed.
        force: replace an existing file.

    Attributes:
        so_far: contents of a file that is being continued, or None.

    Raises:
        UsageError: the file exists, or cannot be written.
    """

    def __init__(self, out: str | os.PathLike[str] | BinaryIO, *, force: bool = False) -> None:
        self.so_far: Written | None = None
        self._output: Output | None = None
        self._writer: Writer | None = None
        self._closed = False
        self._cut_at: int | None = None
        self._file: BinaryIO | WritableFile
        if isinstance(out, (str, os.PathLike)):
            check_output(Path(out), force)
            self._output = Output(Path(out), force=force)
            self._file = self._output.file
        else:
            self._file = out

    @classmethod
    def resume(cls, path: str | os.PathLike[str]) -> Recording:
        """Continue an incomplete file, which stays as it is until there is something to add.

        Then its index and end mark, and anything damaged at its end, are cut off.

        Raises:
            UsageError: it cannot be written to, another process is writing it, or it holds no good frame.
            DamagedError: see `invcodec.container.reader.end_of_frames`.
        """
        file = WritableFile.open(Path(path))
        try:
            with StateReader(path, trust_index=False) as found:
                end = end_of_frames(found)
                stats = [found.frame(entry)[0].stats for entry in found.frames]
                states = [found.state_at(entry.number) for entry in found.frames[-2:]]
                so_far = Written(states, found.frames, stats)
            file.seek(end)
            recording = cls(file)
            recording.so_far = so_far
            recording._cut_at = end
            recording._writer = Writer(file, found.head, so_far.entries)
        except BaseException:
            file.close()
            raise
        return recording

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Do not mask the original error if the disk failed.
        with suppress(OSError, InvError):
            self.close(complete=False)

    @property
    def head(self) -> Head:
        assert self._writer is not None, "begin comes first"
        return self._writer.head

    @property
    def frames(self) -> Sequence[FrameEntry]:
        """Frames written so far."""
        return self._writer.entries if self._writer else []

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._writer.size if self._writer else 0

    def begin(self, head: Head) -> None:
        """Write the header, unless the file has one."""
        if self._writer is None:
            self._writer = Writer(self._file, head)

    def add(self, number: int, frame: FrameHead, coded: bytes) -> FrameEntry:
        """Append a frame's record; from then on the file can be read up to it."""
        assert self._writer is not None, "begin comes first"
        with deferred():
            self._cut()
            with self._writing():
                entry = self._writer.frame(number, frame, coded)
            if self._output is not None:
                self._output.publish()
        return entry

    def _cut(self) -> None:
        """Cut off what a file that is being continued has behind its frames."""
        if self._cut_at is not None:
            self._file.truncate(self._cut_at)
            self._cut_at = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A write as a whole, except to a pipe, which may block for as long as nobody reads it."""
        if self._file.seekable():
            yield
            return
        try:
            with interruptible():
                yield
        except KeyboardInterrupt:
            # Half a record was sent, and nothing more would make sense behind it.
            self._closed = True
            raise

    def close(self, *, complete: bool) -> bool:
        """Write index and end mark, and close the file; returns False if already closed.

        A file without frames is discarded; one that was continued without adding anything is left as it is, unless it
        is complete now.

        Args:
            complete: whether all frames that were to be encoded are there; an incomplete file can be resumed.
        """
        with deferred():
            if self._closed:
                return False
            self._closed = True
            try:
                if self._writer is not None and (complete or self._cut_at is None):
                    self._cut()
                    with self._writing():
                        self._writer.finish(complete)
            finally:
                if self._output is not None:
                    self._output.close()
                elif isinstance(self._file, WritableFile):
                    self._file.close()
            return True

    def interrupted(self) -> Interrupted:
        """The error that reports an interrupt to the user."""
        if not self.frames:
            return Interrupted("interrupted before the first frame was finished; nothing was written")
        last = self.frames[-1].number
        return Interrupted(f"interrupted; the file holds frames up to {last} and can be continued with --resume")

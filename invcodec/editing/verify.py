"""Verification of every checksum and digest of a file, and recovery of damaged files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypedDict

from invcodec.coding.chain import Follower
from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList
from invcodec.container.reader import Reader
from invcodec.container.scan import Record, Scanner, add_problem, scan
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError, UsageError

SCHEMA = 1
"""Version of `VerdictDescription`; raised when a field changes its meaning or is removed."""

Done = Callable[[int], None]
"""Called with the number of bytes read so far."""


@dataclass(frozen=True)
class Verdict:
    """Result of reading and decoding every record of a file.

    Attributes:
        status: as `Reader.status`; "damaged" also if a digest is wrong.
        frames: those that decode to their digests.
        lost: numbers of all other frames that are known to have existed.
        problems: one line each.
        size: of the file, in bytes.
    """

    head: Head
    status: str
    frames: Sequence[FrameEntry]
    lost: list[int]
    problems: list[str]
    size: int

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged or missing."""
        return self.status not in ("damaged", "truncated")

    def describe(self, name: str) -> VerdictDescription:
        """In types that JSON has.

        Args:
            name: of the file.
        """
        return {
            "schema": SCHEMA,
            "file": name,
            "state": self.status,
            "sound": self.sound,
            "frames": len(self.frames),
            "lost": self.lost,
            "problems": self.problems,
            "bytes": self.size,
        }


class VerdictDescription(TypedDict):
    """Result of `Verdict.describe`."""

    schema: int
    file: str
    state: str
    sound: bool
    frames: int
    """Number of sound frames."""
    lost: list[int]
    problems: list[str]
    bytes: int


def verify(
    source: str | os.PathLike[str] | BinaryIO, name: str | None = None, done: Done = lambda count: None
) -> Verdict:
    """Check every checksum and every digest of a file. Unknown profiles are fine.

    Args:
        source: path of the file, or a binary file or pipe to read it from.
        name: to use in messages, in place of the path.

    Raises:
        UsageError, UnsupportedError, LimitError, DamagedError: the file is refused as a whole.
    """
    if isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                return verify(file, name or os.fspath(source), done)
        except OSError as error:
            raise UsageError(f"{source}: cannot be read ({error.strerror})") from None
    check = _Check(Scanner(name or "file"), done)
    for _ in check.frames(source):
        pass
    return check.verdict()


def repair(path: str | os.PathLike[str], out: BinaryIO, done: Done = lambda count: None) -> Verdict:
    """Write the sound frames of a file to another one.

    Args:
        path: the damaged file.
        out: writable binary file.

    Raises:
        UsageError, UnsupportedError, LimitError: the file is refused as a whole.
        DamagedError: nothing can be recovered.
    """
    head = None
    with Reader(path, trust_index=False) as reader:
        # Known from the start even if its first copy is damaged.
        head = reader.head
    check = _Check(Scanner(os.fspath(path), head), done)
    writer = Writer(out, head)
    with open(path, "rb") as file:
        for found, frame in check.frames(file):
            writer.copy(found.data, frame)
    if not writer.entries:
        raise DamagedError(f"{path}: no frame can be recovered")
    verdict = check.verdict()
    writer.finish(check.says_complete and not verdict.lost)
    return verdict


class _Check:
    """Reads a file once and collects the frames that are sound."""

    def __init__(self, scanner: Scanner, done: Done) -> None:
        self._scanner = scanner
        self._done = done
        self._good: FrameList | None = None
        self._lost: list[int] = []
        self._problems: list[str] = []

    def frames(self, file: BinaryIO) -> Iterator[tuple[Record, FrameHead]]:
        """Frames that decode to their digests."""
        follower = Follower()
        for found in scan(file, self._scanner):
            self._done(found.header.end)
            if found.entry is None or found.frame is None:
                continue
            assert self._scanner.head is not None
            try:
                follower.apply(self._scanner.head, found)
            except DamagedError as error:
                self._lost.append(found.entry.number)
                add_problem(self._problems, str(error))
                continue
            if self._good is None:
                self._good = FrameList(self._scanner.head.time_base)
            self._good.append(found.entry)
            yield found, found.frame

    @property
    def says_complete(self) -> bool:
        return self._scanner.says_complete

    def verdict(self) -> Verdict:
        scanner = self._scanner
        assert scanner.head is not None
        return Verdict(
            scanner.head,
            "damaged" if self._lost else scanner.status,
            self._good or [],
            sorted({*scanner.lost, *self._lost}),
            [*scanner.problems, *self._problems],
            scanner.size,
        )

"""Every checksum and digest of a file, and what can be recovered of a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from invcodec.coding.chain import Follower
from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.reader import Reader
from invcodec.container.scan import Record, Scanner, scan
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError

Done = Callable[[int], None]
"""Called with the number of bytes read so far."""


@dataclass(frozen=True)
class Verdict:
    """What was found of a file whose every record was looked at and decoded.

    Attributes:
        status: as `Reader.status`; "damaged" also where a digest is wrong.
        frames: those that decode to their digests.
        lost: numbers of the others that are known of.
        problems: one line for each thing that is wrong.
    """

    head: Head
    status: str
    frames: list[FrameEntry]
    lost: list[int]
    problems: list[str]
    size: int


def verify(file: BinaryIO, name: str, done: Done = lambda count: None) -> Verdict:
    """Check every checksum and every digest of a file or pipe. Profiles need not be known.

    Raises:
        UsageError, UnsupportedError, LimitError, DamagedError: the file is refused as a whole.
    """
    check = _Check(Scanner(name), done)
    for _ in check.frames(file):
        pass
    return check.verdict()


def repair(path: Path, out: BinaryIO, done: Done = lambda count: None) -> Verdict:
    """Write what is sound of a file to another one; returns what was found.

    Raises:
        UsageError, UnsupportedError, LimitError: the file is refused as a whole.
        DamagedError: nothing can be recovered.
    """
    head = None
    with Reader(path, trust_index=False) as reader:
        # Known from the beginning even where its first copy is damaged.
        head = reader.head
    check = _Check(Scanner(str(path), head), done)
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
    """Goes through a file once, and remembers what was good."""

    def __init__(self, scanner: Scanner, done: Done) -> None:
        self._scanner = scanner
        self._done = done
        self._good: list[FrameEntry] = []
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
                self._problems.append(str(error))
                continue
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
            self._good,
            sorted({*scanner.lost, *self._lost}),
            [*scanner.problems, *self._problems],
            scanner.size,
        )

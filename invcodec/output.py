"""Output files that appear under their names only once there is something in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from invcodec.errors import UsageError
from invcodec.interrupts import deferred, interruptible


def check_output(path: Path, force: bool) -> None:
    """Refuse a path that cannot become the output, before any work is done.

    Raises:
        UsageError
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; give a file name")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is not a regular file; write to - and redirect standard output")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path}: already exists; use -f to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such directory")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: cannot be written to")


class Output:
    """A file that is written beside its target and takes its name once `publish` is called; a context manager.

    Left unpublished, it disappears, and what was there before stays.

    Attributes:
        target: the name it will take. A symbolic link stays, and what it points to is replaced.
        part: the file until then; it has the target's suffix, so that other programs can write to it as well.
        file: the open file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target.resolve()
        handle, name = tempfile.mkstemp(
            prefix=f".{self.target.stem}.", suffix=f".part{self.target.suffix}", dir=self.target.parent
        )
        self.part = Path(name)
        self.file: BinaryIO = os.fdopen(handle, "wb")
        self._published = False

    def publish(self) -> None:
        """Give the file its name; further calls do nothing."""
        with deferred():
            if self._published:
                return
            # mkstemp makes private files; give the result the umask's permissions, like any other.
            mask = os.umask(0)
            os.umask(mask)
            self.part.chmod(0o666 & ~mask)
            self.part.replace(self.target)
            self._published = True

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and remove it if it was not published."""
        with deferred():
            try:
                self.file.close()
            finally:
                if not self._published:
                    self.part.unlink(missing_ok=True)


@contextmanager
def written(target: Path, force: bool) -> Iterator[Output]:
    """An output that is published if the block ends without an exception, and leaves nothing behind otherwise.

    Raises:
        UsageError: see `check_output`.
    """
    check_output(target, force)
    with deferred(), Output(target) as output:
        with interruptible():
            yield output
        output.file.flush()
        output.publish()

"""Files that appear under their name only once there is something in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from invcodec.errors import UsageError


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
    """A file that is written beside its target and takes its name once `publish` is called.

    Left without that, it disappears, and what was there before stays.
    """

    def __init__(self, target: Path) -> None:
        # A link stays, and what it points to is replaced.
        target = target.resolve()
        self.target = target
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        self.file: BinaryIO = os.fdopen(handle, "wb")
        self._part: Path | None = Path(name)

    def publish(self) -> None:
        if self._part is not None:
            # mkstemp makes private files; the result gets what the umask grants, like any other.
            mask = os.umask(0)
            os.umask(mask)
            self._part.chmod(0o666 & ~mask)
            self._part.replace(self.target)
            self._part = None

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

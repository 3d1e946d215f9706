"""Output files that appear under their names only once there is something in them.

Whatever fails, what was there before stays, nothing else is left behind, and the error names the output.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from invcodec.errors import InvError, UsageError
from invcodec.interrupts import deferred, interruptible

_HINT_BYTES = 40
"""Of the output's name in that of its unfinished file; names have 255 bytes at most."""
_SUFFIX_BYTES = 20


def user_cache() -> Path:
    """The folder for what may be kept from one run to the next, and lost.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "invcodec"


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
        raise _exists(path)
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such directory")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: cannot be written to")
    with suppress(FileNotFoundError, PermissionError), open(path, "rb") as file:
        _lock(file.fileno(), path)


def make_directory(path: Path) -> None:
    """Make a directory for outputs, and those that it is in; it may exist.

    Raises:
        UsageError: that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot create this directory ({error.strerror})") from None


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path}: already exists; use -f to replace it")


def _lock(handle: int, path: Path) -> None:
    """Claim an open file until it is closed.

    Raises:
        UsageError: another process is writing it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: is being written by another process; wait until that has ended") from None
    except OSError:
        # Some file systems know no locks.
        return


class WritableFile(io.FileIO):
    """An open file that is written at once, whose failures name it, and that no other process may write meanwhile.

    Args:
        handle: its descriptor.
        path: its name in messages.

    Raises:
        UsageError: another process is writing it.
    """

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "r+b")
        self._path = path
        try:
            _lock(handle, path)
        except UsageError:
            super().close()
            raise

    @classmethod
    def open(cls, path: Path) -> WritableFile:
        """Open an existing file to change it.

        Raises:
            UsageError: that is not possible.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written to ({error.strerror})") from None
        return cls(handle, path)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.failure(error.strerror or str(error)) from None

    def failure(self, reason: str) -> InvError:
        """The error for a write that failed."""
        return InvError(f"{self._path}: cannot be written ({reason})")

    def write(self, data: Any) -> int:
        """All of the data: a full disk may take a part and then no more."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        with self._named():
            while len(rest):
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._named():
            return super().truncate(size)

    def close(self) -> None:
        with self._named():
            super().close()


def file_name_part(name: str) -> str:
    """A name from a file or capture, as part of a file name: all but letters, digits and `-_.` become `_`."""
    return re.sub(r"[^\w.-]", "_", name)


def is_unfinished(name: str) -> bool:
    """Whether a file name is that of an output's `part`, which a killed process leaves behind."""
    return re.fullmatch(r"\..*\.[0-9a-f]{16}\.part.*", name, re.DOTALL) is not None


class Output:
    """A file that is written beside its target and takes its name once `publish` is called; a context manager.

    Left unpublished, it disappears, and what was there before stays.

    Args:
        target: the name it will take. A symbolic link stays, and what it points to is replaced.
        force: replace an existing file, whose permissions the new one gets.

    Attributes:
        target: the name it will take, without symbolic links.
        part: the file until then; it has the target's suffix, so that other programs can write to it as well.
        file: the open file.

    Raises:
        InvError: it cannot be created.
    """

    def __init__(self, target: Path, *, force: bool) -> None:
        self._path = target
        self._force = force
        self.target = target.resolve()
        hint = os.fsencode(self.target.stem)[:_HINT_BYTES].decode(errors="ignore")
        suffix = self.target.suffix if len(os.fsencode(self.target.suffix)) <= _SUFFIX_BYTES else ""
        self.part = self.target.with_name(f".{hint}.{secrets.token_hex(8)}.part{suffix}")
        mode = self._old_mode()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            # Permissions that the umask takes away are not given even for a moment.
            self.file = WritableFile(os.open(self.part, flags, 0o666 if mode is None else mode), target)
        except OSError as error:
            raise InvError(f"{target}: cannot be written ({error.strerror})") from None
        self._published = False

    def _old_mode(self) -> int | None:
        """Permissions of a file that is to be replaced."""
        try:
            return stat.S_IMODE(self.target.stat().st_mode) if self._force else None
        except FileNotFoundError:
            return None

    def publish(self) -> None:
        """Give the file its name; further calls do nothing.

        Raises:
            UsageError: without `force`, a file has taken the name meanwhile.
            InvError: the file system refuses.
        """
        with deferred():
            if self._published:
                return
            try:
                if self._force:
                    if (mode := self._old_mode()) is not None:
                        self.part.chmod(mode)
                    self.part.replace(self.target)
                else:
                    self._link()
            except FileExistsError:
                raise _exists(self._path) from None
            except OSError as error:
                raise self.file.failure(error.strerror or str(error)) from None
            self._published = True

    def _link(self) -> None:
        """Take the name only if nothing has it."""
        try:
            os.link(self.part, self.target)
        except FileExistsError:
            raise
        except OSError:
            # Some file systems know no hard links.
            if os.path.lexists(self.target):
                raise FileExistsError from None
            self.part.replace(self.target)
        else:
            self.part.unlink()

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
        InvError: it cannot be written.
    """
    check_output(target, force)
    with deferred(), Output(target, force=force) as output:
        with interruptible():
            yield output
        # Some disks report only now that they are full.
        output.file.close()
        output.publish()

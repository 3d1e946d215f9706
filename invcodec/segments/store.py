"""Where plans and pieces are: a folder of this machine, one that machines share, or any place that fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, cast

import fsspec

from invcodec.errors import InvError, UsageError
from invcodec.output import written


class Store:
    """Files by name in one place. A file appears under its name as a whole, whoever writes it at the same time.

    Args:
        place: a path, or a URL that fsspec knows.

    Raises:
        UsageError: a URL of a kind that fsspec does not know, or lacks a package for.
    """

    def __init__(self, place: str) -> None:
        self._remote = "://" in place
        self.place = place.rstrip("/") if self._remote else str(Path(place).absolute())
        try:
            self._files, self._root = fsspec.url_to_fs(self.place)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{place}: {error}") from None

    def name(self, name: str) -> str:
        """The full name of a file, for messages."""
        return f"{self.place}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._files.isfile(f"{self._root}/{name}")

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """A file to read on this machine.

        Raises:
            UsageError: there is none, or it cannot be read.
        """
        if not self._remote:
            yield Path(self._root, name)
            return
        with TemporaryDirectory(prefix="invcodec-") as folder:
            copy = Path(folder, Path(name).name)
            try:
                self._files.get_file(f"{self._root}/{name}", str(copy))
            except OSError as error:
                raise UsageError(f"{self.name(name)}: cannot be read ({error.strerror or error})") from None
            yield copy

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which replaces the one of this name if the block ends without an exception.

        Raises:
            InvError: it cannot be written.
        """
        if not self._remote:
            path = Path(self._root, name)
            self._make_folder(path.parent)
            with written(path, force=True) as output:
                yield cast(BinaryIO, output.file)
            return
        with TemporaryDirectory(prefix="invcodec-") as folder:
            copy = Path(folder, Path(name).name)
            with written(copy, force=False) as output:
                yield cast(BinaryIO, output.file)
            target = f"{self._root}/{name}"
            try:
                # Stores of objects show them only once they are whole; of other places a transaction takes care.
                with self._files.transaction:
                    self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                    with self._files.open(target, "wb") as out, copy.open("rb") as file:
                        while block := file.read(1 << 22):
                            out.write(block)
            except OSError as error:
                raise InvError(f"{self.name(name)}: cannot be written ({error.strerror or error})") from None

    def remove(self) -> None:
        """Remove the place with all files in it."""
        self._files.rm(self._root, recursive=True)

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made ({error.strerror})") from None

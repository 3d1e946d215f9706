"""Where plans and pieces are: a folder of this machine, one that machines share, or a store (`invcodec.places`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from invcodec.errors import InvError
from invcodec.output import make_directory, written
from invcodec.places import is_remote, local, located, reaching


class Store:
    """Files by name in one place. A file appears under its name as a whole, whoever writes it at the same time.

    Args:
        place: a path, or a URL.

    Attributes:
        place: the same; a path is absolute.

    Raises:
        UsageError: as `invcodec.places.located`.
    """

    def __init__(self, place: str) -> None:
        self._root = located(place).absolute()
        self.place = str(self._root)

    def name(self, name: str) -> str:
        """The full name of a file, for messages."""
        return str(self._root / name)

    def has(self, name: str) -> bool:
        """Whether there is such a file.

        Raises:
            UsageError: the store cannot be reached.
        """
        with reaching(self._root):
            return (self._root / name).is_file()

    def opened(self, name: str) -> AbstractContextManager[Path]:
        """A file to read on this machine.

        Raises:
            UsageError: a store does not have it, or cannot be reached.
        """
        return local(self._root / name)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which replaces the one of this name if the block ends without an exception.

        Raises:
            InvError: it cannot be written.
        """
        path = self._root / name
        if not is_remote(path):
            make_directory(path.parent)
            with written(path, force=True) as output:
                yield cast(BinaryIO, output.file)
            return
        with TemporaryDirectory(prefix="invcodec-") as folder:
            copy = Path(folder, path.name)
            with written(copy, force=False) as output:
                yield cast(BinaryIO, output.file)
            # Stores of objects show them only once they are whole; of other places a transaction takes care.
            with reaching(path, InvError), cast(Any, path).fs.transaction:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out, copy.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 22)

    def remove(self) -> None:
        """Remove the place with all files in it."""
        if is_remote(self._root):
            cast(Any, self._root).fs.rm(cast(Any, self._root).path, recursive=True)
        else:
            shutil.rmtree(self._root)

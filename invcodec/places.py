"""Where files are: on this machine, or wherever fsspec reaches, by a URL such as `s3://bucket/folder` (extra `cloud`).

What has no file system of this machine behind it has the methods of `pathlib.Path` all the same: to list, to open, to
join. Only `os.path` and libraries that open files by name need more, which is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from invcodec.errors import InvError, UsageError
from invcodec.extras import require


def located(place: str | os.PathLike[str]) -> Path:
    """The path of a file or folder of this machine, or what stands for one, given a URL.

    Raises:
        UsageError: a URL of a kind that is not known, or for which a package is missing.
    """
    if not isinstance(place, str) or "://" not in place:
        return cast(Path, place) if is_remote(place) else Path(place)
    paths = require("upath", "cloud", f"{place}: URLs need universal-pathlib")
    try:
        found: Any = paths.UPath(place)
        _ = found.fs
    except (ImportError, ValueError) as error:
        raise UsageError(f"{place}: {error}") from None
    return Path(found) if isinstance(found, os.PathLike) else found


def is_remote(place: object) -> bool:
    """Whether a path is in a store, and not a file system of this machine."""
    return not isinstance(place, str | os.PathLike)


def is_file(path: Path) -> bool:
    """Whether there is a regular file; also for names that are too long, unlike the method."""
    with reaching(path):
        return path.is_file() if is_remote(path) else os.path.isfile(path)


def is_dir(path: Path) -> bool:
    """Whether there is a folder; also for names that are too long, unlike the method."""
    with reaching(path):
        return path.is_dir() if is_remote(path) else os.path.isdir(path)


def exists(path: Path) -> bool:
    """Whether there is anything of this name, as above; also a symbolic link that leads nowhere."""
    with reaching(path):
        return path.exists() if is_remote(path) else os.path.lexists(path)


def relative(path: Path, folder: Path) -> str:
    """The name of a file as seen from a folder."""
    return str(path.relative_to(folder)) if is_remote(path) else os.path.relpath(path, folder)


def sizes(paths: Sequence[Path]) -> list[int]:
    """Bytes of files; a store is asked for whole folders at once.

    Raises:
        UsageError: one is missing.
    """
    if not any(map(is_remote, paths)):
        return [path.stat().st_size for path in paths]
    folders = {path.parent for path in paths}
    with reaching(paths[0]):
        listed = [each for folder in folders for each in cast(Any, folder).fs.ls(cast(Any, folder).path, detail=True)]
        known = {each["name"].lstrip("/"): each["size"] for each in listed}
        return [known[cast(Any, path).path.lstrip("/")] for path in paths]


@contextmanager
def local(path: Path) -> Iterator[Path]:
    """A file of this machine, for libraries that open no other; of one in a store, a copy.

    Raises:
        UsageError: it cannot be read.
    """
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="invcodec-") as folder:
        copy = Path(folder, path.name)
        with reaching(path):
            cast(Any, path).fs.get_file(cast(Any, path).path, str(copy))
        yield copy


@contextmanager
def reaching(place: Path, error: type[InvError] = UsageError) -> Iterator[None]:
    """Turn what goes wrong with a store, whose packages have errors of their own, into one of the given type."""
    try:
        yield
    except Exception as reason:
        if isinstance(reason, InvError) or not is_remote(place):
            raise
        words = next(iter(str(reason).splitlines()), "")
        raise error(f"{place}: cannot be reached ({words or type(reason).__name__})") from None

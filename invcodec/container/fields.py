"""Structured fields, declared once (FORMAT.md, "Structured fields").

A structure is a frozen dataclass whose annotations say how each field is stored:

    @dataclass(frozen=True)
    class Lens(MapStructure):
        focal: Annotated[float, POSITIVE]
        aperture: Annotated[float | None, optional(REAL)] = None

`to_plain` writes by that declaration, `from_plain` reads and validates by it, and `describe` reports by it
(FORMAT.md, "info as JSON"). A field is therefore added, changed or removed on one line; a reported one is also listed
in `invcodec.container.info` and FORMAT.md.

Readers raise `DamagedError` or `LimitError`, with the path to the field before the reason:
"cameras: 'left': width: 0 is outside 1..16384".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar, get_type_hints

from invcodec.errors import DamagedError, InvError, LimitError
from invcodec.limits import MAX_NAME_BYTES

T = TypeVar("T")
S = TypeVar("S", bound="Structure")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How a value is stored.

    Attributes:
        read: from plain types, validated.
        write: to plain types: None, bool, int, float, str, bytes, and lists and maps of them.
    """

    read: Callable[[Any], T]
    write: Callable[[T], Any] = lambda value: value


@dataclass(frozen=True)
class ReportedAs:
    """Annotation of a field that `describe` reports under another name, or not at all (None)."""

    name: str | None


UNREPORTED = ReportedAs(None)


@dataclass(frozen=True)
class Field:
    """One declared field of a structure."""

    name: str
    codec: Codec[Any]
    reported_as: str | None


@dataclass(frozen=True)
class Structure:
    """Base of structures; see the module's example."""

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The declared fields, in the order in which they are written."""
        return _declared(cls)  # type: ignore[arg-type]  # mypy takes dataclasses' classes for unhashable

    def to_plain(self) -> Any:
        """In plain types, as it is stored."""
        raise NotImplementedError

    @classmethod
    def from_plain(cls, value: Any) -> Self:
        """Inverse of `to_plain`, validated.

        Raises:
            DamagedError, LimitError
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """All reported fields by name: structures described in turn, everything else as it is stored."""
        result: dict[str, Any] = {}
        for field in self.fields():
            if field.reported_as is not None:
                value = getattr(self, field.name)
                if isinstance(value, Structure):
                    result[field.reported_as] = value.describe()
                elif isinstance(value, tuple) and any(isinstance(each, Structure) for each in value):
                    result[field.reported_as] = [each.describe() for each in value]
                else:
                    result[field.reported_as] = field.codec.write(value)
        return result


@cache
def _declared(structure: type[Structure]) -> tuple[Field, ...]:
    hints = get_type_hints(structure, include_extras=True)
    fields = []
    for each in dataclasses.fields(structure):
        annotations = hints[each.name].__metadata__
        codec = next(note for note in annotations if isinstance(note, Codec))
        names = [note.name for note in annotations if isinstance(note, ReportedAs)]
        fields.append(Field(each.name, codec, names[0] if names else each.name))
    return tuple(fields)


@dataclass(frozen=True)
class MapStructure(Structure):
    """Stored as a map. Keys may be read in any order, and unknown ones are ignored."""

    def to_plain(self) -> dict[str, Any]:
        return {field.name: field.codec.write(getattr(self, field.name)) for field in self.fields()}

    @classmethod
    def from_plain(cls, value: Any) -> Self:
        return cls(**read_map(value, {field.name: field.codec for field in cls.fields()}))


@dataclass(frozen=True)
class ListStructure(Structure):
    """Stored as a list, one element for each field.

    Attributes:
        extensible: further elements may follow, and are ignored.
    """

    extensible: ClassVar[bool] = False

    def to_plain(self) -> list[Any]:
        return [field.codec.write(getattr(self, field.name)) for field in self.fields()]

    @classmethod
    def from_plain(cls, value: Any) -> Self:
        fields = cls.fields()
        if not isinstance(value, list) or len(value) < len(fields) or (len(value) > len(fields) and not cls.extensible):
            raise DamagedError(f"not a list of {len(fields)} fields{' or more' if cls.extensible else ''}")
        values = []
        for field, element in zip(fields, value, strict=False):
            try:
                values.append(field.codec.read(element))
            except InvError as error:
                raise within(field.name, error) from None
        return cls(*values)


def within(place: str, error: InvError) -> InvError:
    """The same error, with the place where it was found before its message."""
    placed = copy(error)
    placed.args = (f"{place}: {error}",)
    return placed


def read_map(value: Any, codecs: Mapping[str, Codec[Any]]) -> dict[str, Any]:
    """The values of a map that must have all these keys; others are ignored."""
    if not isinstance(value, dict):
        raise DamagedError("not a map")
    result = {}
    for key, codec in codecs.items():
        if key not in value:
            raise DamagedError(f"{key}: is missing")
        try:
            result[key] = codec.read(value[key])
        except InvError as error:
            raise within(key, error) from None
    return result


# Codecs


def of_type(kind: type[T], name: str) -> Codec[T]:
    """Exactly a plain type, called `name` in messages; an integer or a float is not taken for the other."""

    def read(value: Any) -> T:
        if type(value) is not kind:
            raise DamagedError(f"not {name}")
        return value

    return Codec(read)


INTEGER = of_type(int, "an integer")
REAL = of_type(float, "a float")
BOOLEAN = of_type(bool, "a boolean")
MAP: Codec[dict[str, Any]] = of_type(dict, "a map")


def integer(low: int, high: int, *, limit: bool = False) -> Codec[int]:
    """An integer from `low` to `high`; `limit` says that `high` is one of FORMAT.md's limits."""

    def read(value: Any) -> int:
        number = INTEGER.read(value)
        if limit and number > high:
            raise LimitError(f"{number} is more than {high}")
        if not low <= number <= high:
            raise DamagedError(f"{number} is outside {low}..{high}")
        return number

    return Codec(read)


def _positive(value: Any) -> float:
    if REAL.read(value) <= 0:
        raise DamagedError("is not positive")
    return value


POSITIVE = Codec(_positive)


def _share(value: Any) -> float:
    if not 0 <= REAL.read(value) <= 1:
        raise DamagedError(f"{value} is outside 0..1")
    return value


SHARE = Codec(_share)
"""A float from 0 to 1."""


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_NAME_BYTES:
        raise DamagedError("not a name")
    return value


NAME = Codec(_name)


def _tags(value: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in MAP.read(value).values()):
        raise DamagedError("a value is not text")
    return value


TAGS = Codec(_tags)
"""A map of strings."""


def _config(value: Any) -> dict[str, int | list[int]]:
    for key, each in MAP.read(value).items():
        try:
            for number in each if isinstance(each, list) else [each]:
                INTEGER.read(number)
        except DamagedError as error:
            raise DamagedError(f"{key}: {error}") from None
    return value


CONFIG = Codec(_config)
"""A map of integers and lists of integers."""


def binary(size: int) -> Codec[bytes]:
    """`size` bytes."""

    def read(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != size:
            raise DamagedError(f"not {size} bytes")
        return value

    return Codec(read)


def optional(codec: Codec[T]) -> Codec[T | None]:
    """As `codec`, or nil."""
    return Codec(
        lambda value: None if value is None else codec.read(value),
        lambda value: None if value is None else codec.write(value),
    )


def one_of(names: Sequence[str]) -> Codec[str]:
    """One of some names, stored as its index."""
    index = integer(0, len(names) - 1)
    return Codec(lambda value: names[index.read(value)], names.index)


def list_of(item: Codec[T], least: int = 0, most: float = math.inf, *, named: bool = False) -> Codec[tuple[T, ...]]:
    """A list of `least` items or more; over `most` exceeds a limit.

    Args:
        named: items are structures with a `name`, their first field, that no two have in common.
    """

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise DamagedError(f"not a list of {least} or more" if least else "not a list")
        if len(value) > most:
            raise LimitError(f"{len(value)}, at most {most} are allowed")
        items: list[T] = []
        for index, each in enumerate(value):
            try:
                items.append(item.read(each))
            except InvError as error:
                raise within(_label(each, index), error) from None
        names = [each.name for each in items] if named else []  # type: ignore[attr-defined]
        if len(set(names)) < len(names):
            raise DamagedError("two have the same name")
        return tuple(items)

    return Codec(read, lambda items: [item.write(each) for each in items])


def _label(item: Any, index: int) -> str:
    """An item as messages call it: by its name, or by its index if it has none."""
    name = item.get("name") if isinstance(item, dict) else item[0] if isinstance(item, list) and item else None
    return f"'{name}'" if isinstance(name, str) and len(name) <= MAX_NAME_BYTES else str(index)


def exactly(count: int, item: Codec[T]) -> Codec[tuple[T, ...]]:
    """A list of `count` items."""
    items = list_of(item)

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) != count:
            raise DamagedError(f"not a list of {count}")
        return items.read(value)

    return Codec(read, items.write)


_TERMS = exactly(2, integer(1, 2**31 - 1))
RATIO = Codec(lambda value: Fraction(*_TERMS.read(value)), lambda ratio: [ratio.numerator, ratio.denominator])


def nested(structure: type[S]) -> Codec[S]:
    """A structure as a field of another."""
    return Codec(structure.from_plain, structure.to_plain)

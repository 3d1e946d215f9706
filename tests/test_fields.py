"""Structured fields are declared once: a toy structure is written, read, refused and described by its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest

from invcodec.container.canonical import pack, unpack
from invcodec.container.fields import (
    BOOLEAN,
    NAME,
    POSITIVE,
    UNREPORTED,
    Codec,
    ListStructure,
    MapStructure,
    ReportedAs,
    exactly,
    integer,
    list_of,
    nested,
    one_of,
    optional,
    within,
)
from invcodec.errors import DamagedError, FrameNotFoundError, InvError, LimitError

HEX = Codec(lambda value: int(value, 16), hex)
"""A way to store a value that the package does not have."""


@dataclass(frozen=True)
class Filter(ListStructure):
    extensible: ClassVar[bool] = True

    name: Annotated[str, NAME]
    colour: Annotated[str, one_of(("red", "green"))] = "red"


@dataclass(frozen=True)
class Lens(MapStructure):
    name: Annotated[str, NAME]
    focal: Annotated[float, POSITIVE, ReportedAs("focal_length")]
    size: Annotated[tuple[int, int], exactly(2, integer(1, 99, limit=True))]
    serial: Annotated[int, HEX, UNREPORTED]
    cap: Annotated[Filter, nested(Filter)]
    filters: Annotated[tuple[Filter, ...], list_of(nested(Filter), most=3, named=True)] = ()
    coated: Annotated[bool | None, optional(BOOLEAN)] = None
    notes: Annotated[tuple[int, ...], list_of(integer(0, 9), 1)] = (7,)


LENS = Lens("wide", 4.5, (3, 2), 0xBEEF, Filter("cap"), (Filter("nd", "green"), Filter("uv")))
PLAIN = {
    "name": "wide",
    "focal": 4.5,
    "size": [3, 2],
    "serial": "0xbeef",
    "cap": ["cap", 0],
    "filters": [["nd", 1], ["uv", 0]],
    "coated": None,
    "notes": [7],
}


def test_a_declared_structure_is_written_and_read() -> None:
    assert LENS.to_plain() == PLAIN
    assert list(LENS.to_plain()) == [each.name for each in Lens.fields()]
    assert Lens.from_plain(unpack(pack(PLAIN), "lens")) == LENS
    assert Lens.from_plain({**dict(reversed(PLAIN.items())), "unknown": 5}) == LENS
    assert Filter.from_plain(["uv", 0, "further", "elements"]) == Filter("uv")


def test_a_declared_structure_is_described() -> None:
    assert LENS.describe() == {
        "name": "wide",
        "focal_length": 4.5,
        "size": [3, 2],
        "cap": {"name": "cap", "colour": 0},
        "filters": [{"name": "nd", "colour": 1}, {"name": "uv", "colour": 0}],
        "coated": None,
        "notes": [7],
    }


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"focal": 0.0}, DamagedError, "focal: is not positive"),
        ({"focal": 4}, DamagedError, "focal: not a float"),
        ({"size": [3, 2, 1]}, DamagedError, "size: not a list of 2"),
        ({"size": [3, 0]}, DamagedError, "size: 1: 0 is outside 1..99"),
        ({"size": [100, 2]}, LimitError, "size: 0: 100 is more than 99"),
        ({"coated": 1}, DamagedError, "coated: not a boolean"),
        ({"notes": []}, DamagedError, "notes: not a list of 1 or more"),
        ({"filters": [["a", 0]] * 4}, LimitError, "filters: 4, at most 3 are allowed"),
        ({"filters": [["a", 0]] * 2}, DamagedError, "filters: two have the same name"),
        ({"filters": [["a", 2]]}, DamagedError, "filters: 'a': colour: 2 is outside 0..1"),
        ({"filters": [["a"]]}, DamagedError, "filters: 'a': not a list of 2 fields or more"),
        ({"filters": [5]}, DamagedError, "filters: 0: not a list of 2 fields or more"),
        ({"name": ""}, DamagedError, "name: not a name"),
    ],
)
def test_a_field_that_breaks_its_declaration_is_refused_by_name(
    change: dict[str, object], error: type[InvError], message: str
) -> None:
    with pytest.raises(InvError) as caught:
        Lens.from_plain(PLAIN | change)
    assert (type(caught.value), str(caught.value)) == (error, message)


def test_a_missing_field_is_named() -> None:
    for name in PLAIN:
        with pytest.raises(DamagedError, match=f"^{name}: is missing$"):
            Lens.from_plain({key: value for key, value in PLAIN.items() if key != name})
    for value in (None, 5, [], "name"):
        with pytest.raises(DamagedError, match="not a map"):
            Lens.from_plain(value)


def test_a_place_before_the_message_keeps_what_the_error_knows() -> None:
    error = within("header", within("cameras", DamagedError("not a list", offset=80, frame=3)))
    assert type(error) is DamagedError
    assert (str(error), error.offset, error.frame) == ("header: cameras: not a list", 80, 3)
    missing = within("frames", FrameNotFoundError("none"))
    assert (type(missing), str(missing)) == (FrameNotFoundError, "frames: none")

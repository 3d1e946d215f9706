"""Types of command-line values, and how values are printed."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from invcodec.container.remote import is_url
from invcodec.errors import UsageError
from invcodec.limits import MAX_IMAGE_SIDE
from invcodec.places import located

from .terminal import printable

if TYPE_CHECKING:
    from invcodec.metrics import Fidelity


_NUMBER = r"(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})"
"""Pattern of a decimal number; longer ones fit none of the types that files hold and the library computes with."""


class Count(click.ParamType):
    """An integer in a range too wide to be worth showing in help."""

    name = "n"

    def __init__(self, least: int, most: int) -> None:
        self.range = range(least, most + 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"'{value}' is not an integer", param, ctx)
        if number not in self.range:
            self.fail(f"{value} is not in the range {self.range[0]} to {self.range[-1]}", param, ctx)
        return number


class Real(click.FloatRange):
    """A finite number in a range; NaN would pass as one within it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Segments(click.ParamType):
    """A number of frames, or `cuts`."""

    name = "N|cuts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "cuts" or (isinstance(value, int) and value > 0):
            return value
        if not re.fullmatch(r"0*[1-9]\d{0,8}", value):
            self.fail(f"'{value}' is neither a number of frames nor 'cuts'", param, ctx)
        return int(value)


class Duration(click.ParamType):
    """`2`, `2s`, `1.4s` or `500ms`, as exact seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        match = re.fullmatch(rf"({_NUMBER}) ?(ms|s|)", value)
        if not match:
            self.fail(f"'{value}' is not a duration; use 2, 2s, 1.4s or 500ms", param, ctx)
        return Fraction(match[1]) / (1000 if match[2] == "ms" else 1)


class FrameRange(click.ParamType):
    """`first:stop`, either of which may be omitted."""

    name = "first:stop"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{0,18}):(\d{0,18})", value)
        if not match:
            self.fail(f"'{value}' is not a range of frames; use 0:24 for frames 0 to 23", param, ctx)
        first, stop = (int(part) if part else None for part in match.groups())
        if first is not None and stop is not None and first >= stop:
            self.fail(f"'{value}' is empty; the second number is one past the last frame", param, ctx)
        return first, stop


class Size(click.ParamType):
    """`WxH` in pixels."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", value)
        if not match or not all(1 <= int(side) <= MAX_IMAGE_SIDE for side in match.groups()):
            self.fail(f"'{value}' is not a size; use 640x480 (each side 1 to {MAX_IMAGE_SIDE})", param, ctx)
        return int(match[1]), int(match[2])


class Address(click.ParamType):
    """`8080` on localhost only, or `HOST:8080` on that address."""

    name = "[host:]port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\s]+):)?(\d{1,5})", value)
        if not match or int(match[2]) > 65535:
            self.fail(
                f"'{value}' is not an address; use 8080 (localhost), or 0.0.0.0:8080 (all interfaces)", param, ctx
            )
        return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


class Place(click.ParamType):
    """A folder or file, or the URL of one in a store, such as `s3://bucket/folder`."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return located(value)


class Input(click.ParamType):
    """A file, an HTTP URL, or `-`."""

    name = "file or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        return value if isinstance(value, Path) or is_url(value) else Path(value)


_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _scaled(value: str, unit: str) -> int | None:
    """A positive number below 2^63 with an optional prefix and unit, such as `1.5M`; None if it is not one."""
    match = re.fullmatch(rf"({_NUMBER}) ?([kmg]i?|)(?:{unit})?", value, re.IGNORECASE)
    number = round(Fraction(match[1]) * _FACTORS[match[2].lower()]) if match else 0
    return number if 0 < number < 2**63 else None


class ByteSize(click.ParamType):
    """`500000`, `500k`, `1.5M`, `2MB` (1 kB is 1000 bytes) or `2MiB`, as bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        size = _scaled(value, "B")
        if size is None:
            self.fail(f"'{value}' is not a size in bytes; use 500k, 1.5M or 2MB", param, ctx)
        return size


class BitRate(click.ParamType):
    """`300k` or `1.5M`, as bits per second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        rate = _scaled(value, "bit/s|bps")
        if rate is None:
            self.fail(f"'{value}' is not a bit rate; use 300k or 1.5M, in bits per second", param, ctx)
        return rate


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, str, int | None]]:
    """Open a file, or standard input for `-`; yields the stream, a name for messages, and the size if known.

    Raises:
        UsageError: it cannot be read.
    """
    if str(path) == "-":
        yield sys.stdin.buffer, "stdin", None
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    with file:
        yield file, str(path), size


def standard_output() -> BinaryIO:
    """Standard output, for data that is no text.

    Raises:
        UsageError: it is a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("-: refusing to write to a terminal; redirect standard output, or name a file")
    return sys.stdout.buffer


def bytes_text(count: float) -> str:
    """A number of bytes, such as `12.3 kB` (1 kB is 1000 bytes)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 100 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"


def count_text(count: int, what: str) -> str:
    """A number of things, such as `1 frame` and `2 frames`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def bits_text(rate: float) -> str:
    """A bit rate, such as `312 kbit/s`."""
    return f"{rate / 1e3:.4g} kbit/s"


def psnr_text(fidelity: Fidelity) -> str:
    """As in "31.20 dB, moving 25.10 dB"."""
    moving = "" if fidelity.psnr_moving is None else f", moving {fidelity.psnr_moving:.2f} dB"
    return f"{fidelity.psnr:.2f} dB{moving}"


def seconds_text(seconds: float) -> str:
    """A duration, such as `850 ms`, `12.3 s`, `4 min 5 s`, `2 h 10 min`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def network_text(profile: str, config: Mapping[str, Any]) -> str:
    """The configuration of a network, such as `8 levels of 12 to 205 cells, tables of 2^15, ...`."""
    if profile == "grid":
        # A file may say so of anything.
        with suppress(KeyError, TypeError, IndexError):
            cells = config["resolutions"]
            return (
                f"{len(cells)} levels of {cells[0]} to {cells[-1]} cells, tables of 2^{config['log2_table']}, "
                f"widths {config['hidden']}, {config['features']}, {config['colour_hidden']}, "
                f"occupancy {config['occupancy']}^3, {config['samples']} samples a ray"
            )
    return ", ".join(f"{name} {value}" for name, value in config.items())


def training_text(key: Mapping[str, Any], later: Mapping[str, Any]) -> str:
    """How frames are trained, such as `3,000 steps of 4096 rays, then 300 steps a frame`."""
    return f"{_budget_text(key)} of {key['rays']} rays, then {_budget_text(later)} a frame"


def _budget_text(training: Mapping[str, Any]) -> str:
    parts = [] if training["steps"] is None else [f"{training['steps']:,} steps"]
    parts += [] if training["seconds"] is None else [f"at most {seconds_text(training['seconds'])}"]
    return " or ".join(parts)


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Lines of text in columns; the first `left` columns are left-aligned, all others right-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [line.rstrip() for line in lines]


def frame_rate_text(rate: list[int]) -> str:
    """A frame rate `[numerator, denominator]`, such as `29.97 fps`."""
    return f"{rate[0] / rate[1]:.5g} fps"

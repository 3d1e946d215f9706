"""The page that `invcodec report` writes: pictures, plots and tables of an evaluation in one HTML file.

Names in it come from files and captures of strangers. Jinja escapes whatever the template shows, control characters are
shown as escapes, and the page's own policy forbids requests and all scripts but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from invcodec.capture.capture import Capture
from invcodec.decoding.evaluation import Evaluation, Figures, FrameEvaluation, mean_figures, pairs
from invcodec.decoding.video import Video

from .evaluate import cells
from .plots import VIEWS, rig_lines
from .terminal import printable
from .values import bits_text, bytes_text, count_text, seconds_text

_PART = Path(__file__).with_name("report")
"""The template and the script, but for their suffixes."""
_GAIN = 4
"""Differences are shown so many times as large."""
_SIDE = 640
"""Longest side of a picture on the page, in pixels."""
_QUALITY = 88
"""Of pictures, in WebP."""
_PLACES = 400
"""Most places along a plot; each then shows the worst of several frames."""
_POINTS = 800
"""Of a scene's points, so many are drawn."""
_WIDTH, _MARGIN = 340, 30
"""Of a drawing of the rig."""
_LETTER = (6.0, 10.0)
"""Width and height of a letter in it."""
_SETTINGS = 8000
"""Characters of the settings that are shown; a file may hold any."""


_CURVES: tuple[tuple[str, Literal["psnr", "psnr_moving", "psnr_static"], str], ...] = (
    ("static", "psnr_static", "still"),
    ("all pixels", "psnr", "all"),
    ("moving", "psnr_moving", "moving"),
)
"""Lines of a plot of PSNR: name, figure and style."""


@dataclass(frozen=True)
class Set:
    """Cameras that are shown together, and what was measured of them.

    Attributes:
        kind: "held-out" or "training".
    """

    kind: str
    result: Evaluation

    @property
    def title(self) -> str:
        return f"{self.kind.capitalize()} cameras"

    def of(self, camera: str) -> Figures:
        """Means of a camera over its frames."""
        return mean_figures([row["cameras"][camera] for row in self.result["frames"]])

    @property
    def frames(self) -> list[Figures]:
        """Means over the cameras, of each frame."""
        return [mean_figures(list(row["cameras"].values())) for row in self.result["frames"]]


def page(video: Video, capture: Capture, sets: Sequence[Set], facts: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        video, capture: as they were evaluated.
        sets: at least one; the first decides which frames are shown.
        facts: of the file, as `info` lists them.

    Raises:
        DamagedError: a frame that could be decoded before no longer can.
    """
    environment = jinja2.Environment(
        autoescape=True, finalize=_shown, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _PART.with_suffix(".js").read_text()
    first = sets[0].result
    size, camera = first["bytes"], video.cameras[0]
    frames, seconds = _pictures(video, capture, sets)
    tiles = [_quality_tile(each) for each in sets]
    tiles.append(
        (
            "File",
            bytes_text(size["file"]),
            f"{bytes_text(size['per_frame'])} per frame, {bits_text(size['bit_rate'])} over "
            f"{seconds_text(size['duration'])}",
        )
    )
    rows = [*facts, ("capture", f"{first['capture']}: layout {capture.layout}, {capture.source}")]
    rows.append(("time", f"decoding and rendering a picture took {seconds_text(seconds)} on this machine"))
    return environment.from_string(_PART.with_suffix(".html").read_text()).render(
        name=video.path.name,
        about=f"{count_text(len(first['frames']), 'frame')}, {seconds_text(size['duration'])}, "
        f"{count_text(len(video.cameras), 'camera')} of {camera.width}x{camera.height}",
        script=Markup(script),
        # The policy allows this text alone.
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tiles=tiles,
        sets=[(each.title, _table(each)) for each in sets],
        frames=frames,
        gain=_GAIN,
        # One point makes no plot.
        plots=_plots(sets) if len(first["frames"]) > 1 else [],
        views=[] if capture.flat else _views(video, capture.points),
        facts=rows,
        settings=_settings(video.head.encoder),
        measures=first["measures"],
        motion=sorted({each.result["motion"] for each in sets}),
        problems=_problems(video, first),
    )


def _shown(value: object) -> object:
    """What the template shows: text of strangers in one line, with escapes for what is not printable."""
    return value if isinstance(value, Markup) else printable(value)


def _quality_tile(each: Set) -> tuple[str, str, str]:
    whole, moving, static, similarity = cells(each.result["mean"])
    apart = f"moving pixels {moving} dB, static {static} dB, " if moving != "-" else ""
    return each.title, f"{whole} dB", f"{apart}SSIM {similarity}"


def _table(each: Set) -> list[tuple[str, list[str], str, float]]:
    """By camera: its name, PSNR and SSIM as text, its worst frame, and the length of its bar in per cent."""
    rows = []
    known = {name: each.of(name) for name in each.result["cameras"]}
    levels = [figures["psnr"] for figures in known.values() if figures["psnr"] is not None]
    low, high = (min(levels), max(levels)) if levels else (0.0, 0.0)
    for name, figures in known.items():
        worst = min(each.result["frames"], key=lambda row: _level(row["cameras"][name]))
        level = low if figures["psnr"] is None else figures["psnr"]
        # A bar is never empty, and small differences stay small.
        length = 100 * (level - low + 3) / (max(high - low, 3) + 3)
        rows.append((name, cells(figures), f"{cells(worst['cameras'][name])[0]} at {worst['number']}", length))
    return rows


def _known(figures: Figures) -> bool:
    """Whether there was anything to compare."""
    return figures["psnr"] is not None


def _level(figures: Figures) -> float:
    """PSNR; that of a picture without one is no reason to show it."""
    return math.inf if figures["psnr"] is None else figures["psnr"]


def _problems(video: Video, result: Evaluation) -> list[str]:
    found = list(video.problems)
    if result["lost"]:
        found.append(f"{count_text(len(result['lost']), 'frame')} cannot be decoded: {_some(result['lost'])}")
    if result["missing"]:
        found.append(f"{count_text(len(result['missing']), 'frame')} not in the capture: {_some(result['missing'])}")
    return found


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")


def _settings(encoder: Mapping[str, Any]) -> list[str]:
    """Lines of what the encoder says of itself."""
    text = json.dumps(encoder, indent=2, default=str)
    return (text if len(text) <= _SETTINGS else f"{text[:_SETTINGS]}\n...").split("\n")


# pictures


@dataclass(frozen=True)
class _Picture:
    """A data URI, with the size of what it shows in pixels."""

    uri: Markup
    width: int
    height: int


@dataclass(frozen=True)
class _Row:
    """A camera's captured and decoded picture, their difference, and what was measured."""

    kind: str
    camera: str
    figures: list[str]
    pictures: list[_Picture]


@dataclass(frozen=True)
class _Shown:
    """A frame whose pictures are shown."""

    number: int
    label: str
    rows: list[_Row]


def _pictures(video: Video, capture: Capture, sets: Sequence[Set]) -> tuple[list[_Shown], float]:
    """The frames to show, and the median time in seconds that one of their pictures took."""
    rows = sets[0].result["frames"]
    levels = [_level(figures) for figures in sets[0].frames]
    labels: dict[int, list[str]] = {}
    for index, label in ((0, "first"), (levels.index(min(levels)), "worst"), (len(rows) - 1, "last")):
        labels.setdefault(index, []).append(label)
    chosen = [(each, name) for each in sets for name in _telling(each)]
    shown: list[_Shown] = []
    seconds: list[float] = []
    for index in sorted(labels):
        number = rows[index]["number"]
        found = []
        of_both = [(each, name) for each, name in chosen if _known(each.result["frames"][index]["cameras"][name])]
        names = [name for _, name in of_both]
        for (each, name), pair in zip(of_both, pairs(video, capture, names, [number]), strict=True):
            difference = np.abs(pair.captured.astype(np.int16) - pair.decoded)
            amplified = np.minimum(_GAIN * difference, 255).astype(np.uint8)
            figures = each.result["frames"][index]["cameras"][name]
            pictures = [_picture(pixels) for pixels in (pair.captured, pair.decoded, amplified)]
            found.append(_Row(each.kind, name, cells(figures), pictures))
            seconds.append(pair.seconds)
        shown.append(_Shown(number, ", ".join(labels[index]), found))
    return shown, statistics.median(seconds or [0.0])


def _telling(each: Set) -> list[str]:
    """The worst, the median and the best camera of a set."""
    ranked = sorted(each.result["cameras"], key=lambda name: _level(each.of(name)))
    places = dict.fromkeys((0, (len(ranked) - 1) // 2, len(ranked) - 1))
    return [ranked[place] for place in places]


def _picture(pixels: np.ndarray) -> _Picture:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY)
    text = base64.b64encode(data.getvalue()).decode()
    return _Picture(Markup(f"data:image/webp;base64,{text}"), *image.size)


# plots


@dataclass(frozen=True)
class _Line:
    """A line of a plot: its name, its style, and its path."""

    name: str
    style: str
    path: Markup


@dataclass(frozen=True)
class _Plot:
    """A plot over frames, in a box of 1000 by 1000.

    Attributes:
        lines: the last is drawn on top.
        across, up: ticks, as per cent of the box and text.
        readout: for each place, what is there.
    """

    title: str
    lines: list[_Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    readout: list[str]
    note: str


def _plots(sets: Sequence[Set]) -> list[_Plot]:
    rows = sets[0].result["frames"]
    every = -(-len(rows) // _PLACES)
    note = f"each point is the worst of {every} frames" if every > 1 else ""
    of = [each.frames for each in sets]
    levels = [figures[key] for frames in of for figures in frames for _, key, _ in _CURVES]
    ticks = _ticks([level for level in levels if level is not None])
    plots = []
    for each, frames in zip(sets, of, strict=True):
        curves = [
            (name, style, _worst([figures[key] for figures in frames], every, min)) for name, key, style in _CURVES
        ]
        plots.append(_line_plot(f"{each.title}: PSNR in dB", curves, ticks, rows, every, note, "{:.2f} dB"))
    curves = [
        (each.title, style, _worst([f["ssim"] for f in frames], every, min))
        for each, frames, style in zip(sets, of, ("all", "other"), strict=False)
    ]
    ticks = _ticks([level for _, _, values in curves for level in values if level is not None])
    plots.append(_line_plot("SSIM", curves, ticks, rows, every, note, "{:.4f}"))
    plots.append(_bytes_plot(rows, every))
    return plots


def _worst(values: Sequence[Any], every: int, pick: Callable[[Iterable[Any]], Any]) -> list[Any]:
    """One of every so many values, of those that are known."""
    groups = ([v for v in values[at : at + every] if v is not None] for at in range(0, len(values), every))
    return [pick(group) if group else None for group in groups]


def _ticks(values: Sequence[float], most: int = 5) -> list[float]:
    """Round numbers from below the least of the values to above the greatest."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    step = 10 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) <= most)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(step * k, 9) for k in range(first, last + 1)]


def _line_plot(
    title: str,
    curves: Sequence[tuple[str, str, Sequence[float | None]]],
    ticks: Sequence[float],
    rows: Sequence[FrameEvaluation],
    every: int,
    note: str,
    form: str,
) -> _Plot:
    low, span = ticks[0], ticks[-1] - ticks[0]
    curves = [curve for curve in curves if any(value is not None for value in curve[2])]
    count = -(-len(rows) // every)
    lines = [
        _Line(name, style, _path([None if v is None else (v - low) / span for v in values]))
        for name, style, values in curves
    ]
    readout = []
    for place in range(count):
        parts = [f"{name} {form.format(values[place])}" for name, _, values in curves if values[place] is not None]
        readout.append(f"{_place(rows, place, every)}: {', '.join(reversed(parts))}")
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    places = [(100 * (tick - low) / span, f"{tick:.{decimals}f}") for tick in ticks]
    return _Plot(title, lines, _across(rows), places, readout, note)


def _path(heights: Sequence[float | None]) -> Markup:
    """Through points at heights from 0 to 1, with gaps where there is none; each begins a dot, if they are few."""
    count, parts, broken = len(heights), [], True
    for place, height in enumerate(heights):
        if height is None:
            broken = True
            continue
        at = f"{1000 * (place + 0.5) / count:.1f} {1000 * (1 - height):.1f}"
        parts.append(f"M{at}h0" if broken else f"L{at}")
        broken = False
    return Markup("".join(parts))


def _bytes_plot(rows: Sequence[FrameEvaluation], every: int) -> _Plot:
    """Sizes of frames on a logarithmic scale; keyframes have another colour."""
    sizes = _worst([row["bytes"] for row in rows], every, max)
    keys = [any(row["kind"] == "key" for row in rows[at : at + every]) for at in range(0, len(rows), every)]
    ladder = [factor * 10**power for power in range(12) for factor in (1, 2, 5)]
    # The least bar still shows.
    low = max(value for value in ladder if value <= max(1, min(sizes) / 1.2))
    high = min(value for value in ladder if value >= max(sizes))
    span = math.log(high / low)
    used = [value for value in ladder if low <= value <= high]
    used = [value for value in used if str(value)[0] == "1" or len(used) <= 7]
    width = 1000 / len(sizes)
    bars: dict[bool, list[str]] = {False: [], True: []}
    for place, (count, key) in enumerate(zip(sizes, keys, strict=True)):
        top = 1000 * (1 - math.log(count / low) / span)
        bars[key].append(f"M{(place + 0.1) * width:.1f} 1000V{top:.1f}h{0.8 * width:.2f}V1000z")
    styles = (("other frames", "delta", False), ("keyframes", "key", True))
    lines = [_Line(name, style, Markup("".join(bars[key]))) for name, style, key in styles if bars[key]]
    readout = [
        f"{_place(rows, place, every)}: {'key, ' if key else ''}{bytes_text(count)}"
        for place, (count, key) in enumerate(zip(sizes, keys, strict=True))
    ]
    ticks = [(100 * math.log(value / low) / span, bytes_text(value)) for value in used]
    note = "logarithmic scale" + (f"; each bar is the largest of {every} frames" if every > 1 else "")
    return _Plot("Bytes per frame", lines, _across(rows), ticks, readout, note)


def _place(rows: Sequence[FrameEvaluation], place: int, every: int) -> str:
    first, last = rows[place * every], rows[min((place + 1) * every, len(rows)) - 1]
    if first is last:
        return f"frame {first['number']}, {first['time']:.2f} s"
    return f"frames {first['number']} to {last['number']}"


def _across(rows: Sequence[FrameEvaluation], most: int = 6) -> list[tuple[float, str]]:
    """Ticks at some of the frames."""
    count = len(rows)
    step = next(s for s in (f * 10**p for p in range(12) for f in (1, 2, 5)) if count / s <= most)
    return [(100 * (index + 0.5) / count, str(rows[index]["number"])) for index in range(0, count, step)]


# the rig


@dataclass(frozen=True)
class _View:
    """A drawing of the rig, 400 wide.

    Attributes:
        height: of the drawing.
        points: path of the scene's points.
        cameras: of each, the path, and whether it is held out.
        names: those that have room, each with its place.
    """

    title: str
    height: int
    points: Markup
    cameras: list[tuple[Markup, bool]]
    names: list[tuple[float, float, str]]


def _views(video: Video, points: np.ndarray | None) -> list[_View]:
    lines, places = rig_lines(video.cameras, points, _POINTS)
    views = []
    for title, elevation, azimuth in VIEWS:
        a, e = math.radians(azimuth), math.radians(elevation)
        right = np.array([-math.sin(a), math.cos(a), 0])
        up = np.array([-math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a), math.cos(e)])
        frusta, dots = (each @ np.stack([right, -up], 1) for each in (lines, places))
        everything = np.concatenate([frusta.reshape(-1, 2), dots])
        low, extent = everything.min(0), np.ptp(everything, axis=0)
        scale = min(_WIDTH / (extent[0] or 1), _WIDTH / (extent[1] or 1))
        height = max(100, round(scale * float(extent[1])))
        shift = (np.array([_WIDTH, height]) - scale * extent) / 2 + _MARGIN - scale * low
        frusta, dots = scale * frusta + shift, scale * dots + shift
        cameras = [(_segments(each), camera.held_out) for each, camera in zip(frusta, video.cameras, strict=True)]
        below = np.stack([frusta[..., 0].mean((1, 2)), frusta[..., 1].max((1, 2)) + _LETTER[1]], 1)
        names = _names([camera.name for camera in video.cameras], below)
        path = Markup("".join(f"M{x:.1f} {y:.1f}h0" for x, y in dots))
        views.append(_View(title, height + 2 * _MARGIN, path, cameras, names))
    return views


def _segments(lines: np.ndarray) -> Markup:
    """Path of lines `[N, 2, 2]`."""
    return Markup("".join(f"M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}" for (x, y), (u, v) in lines))


def _names(names: Sequence[str], places: np.ndarray) -> list[tuple[float, float, str]]:
    """Names, centred at their places `[N, 2]`, without those that would cover another."""
    shown: list[tuple[float, float, str]] = []
    for name, (x, y) in zip(names, places.tolist(), strict=True):
        if all(
            abs(y - v) >= _LETTER[1] or abs(x - u) >= _LETTER[0] * (len(name) + len(other)) / 2 for u, v, other in shown
        ):
            shown.append((round(x, 1), round(y, 1), name))
    return shown

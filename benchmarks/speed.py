"""Speed on one capture: quality against wall time, rendering, decoding, start-up, memory, and how they grow.

    python benchmarks/speed.py --data studio --save benchmarks/results/speed-studio.json
    python benchmarks/speed.py --data studio --downscale 2 --parts presets keyframes --save half.json
    python benchmarks/speed.py --data tiny --quick

The parts, each of which can be run alone; `--save` puts what they find into one file and draws a plot beside it:

    presets    each row in full: held-out quality, bytes, seconds of the keyframe and of each later frame, memory
    keyframes  keyframes of the default preset after other training times
    paper      the published configuration in the same times, and the seconds that one of its steps takes
    render     seconds for a view of a decoded frame, and for decoding a keyframe and a delta
    startup    seconds of whole commands, from process start to exit
    growth     seconds per step and memory with more frames, cameras and pixels

A row is a preset, or as in `medium:nerf@60/4` (profile, seconds of the keyframe, of later frames). Times of encodes run
from process start to the flushed record: start-up, reading and all else included. *Cold* is with an empty cache of
compiled kernels, *warm* is the run after that. Quality is that of the held-out cameras as `invcodec eval` measures it.
The plot needs matplotlib: `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter as clock
from typing import Any

import common
import quality
from common import PROGRAM, Results

from invcodec.capture.capture import Capture, open_capture
from invcodec.decoding.video import Video
from invcodec.names import DEFAULT_PRESET

ROWS = ("draft", "fast", "medium", "draft:nerf", "fast:nerf", "medium:nerf")
KEY_SECONDS = (1, 2, 4, 8, 15, 30, 60, 120, 240, 600)
PAPER_SECONDS = (60, 600)
PAPER_STEPS = 10_000
"""Steps per frame of the published configuration."""
_FEW_STEPS, _MORE_STEPS = 1, 7
"""A step takes the difference in time between runs of these lengths, over their difference in steps."""
_REPEATS = 7
_SHORT = 3
"""A keyframe, a warm-up frame and a later one, which together use every kernel."""


def few(arguments: Namespace, frames: int, **changed: Any) -> Namespace:
    """The same arguments, restricted to the first frames."""
    first = int((arguments.frames or "0:").split(":")[0] or 0)
    return Namespace(**{**vars(arguments), "frames": f"{first}:{first + frames}", **changed})


def fresh_cache(folder: Path) -> dict[str, str]:
    """Environment variables that give a process an empty cache of compiled kernels."""
    return {"NUMBA_CACHE_DIR": tempfile.mkdtemp(dir=folder)}


def measure_presets(arguments: Namespace, folder: Path, results: Results) -> None:
    for row in arguments.rows:
        environment = fresh_cache(folder)
        cold = quality.encode(row, few(arguments, _SHORT), folder / "cold.inv", arguments.extra, environment)
        warm = quality.encode(row, arguments, folder / "warm.inv", arguments.extra, environment)
        names = ("frames", "key_seconds", "frame_seconds_mean", "frame_seconds_max")
        results.keep("presets", row, {**warm, "cold": {name: cold[name] for name in names}})


def measure_keyframes(arguments: Namespace, folder: Path, results: Results) -> None:
    warm_up(arguments, folder)
    for seconds in arguments.key_seconds:
        row = f"{DEFAULT_PRESET}@{seconds:g}"
        values = quality.encode(row, few(arguments, 1), folder / "key.inv", arguments.extra)
        results.keep("keyframes", row, values)


def measure_paper(arguments: Namespace, folder: Path, results: Results) -> None:
    options = quality.options_of("paper", few(arguments, 1))
    seconds = [
        common.encode(PROGRAM, arguments.data, folder / "paper.inv", [*options, "--steps", str(steps)], "paper")[0]
        for steps in (_FEW_STEPS, _MORE_STEPS)
    ]
    step = (seconds[1]["seconds"] - seconds[0]["seconds"]) / (_MORE_STEPS - _FEW_STEPS)
    results.keep("paper", "step", {"seconds": step, "between_steps": [_FEW_STEPS, _MORE_STEPS]})
    for budget in arguments.paper_seconds:
        row = f"paper@{budget:g}"
        values = quality.encode(row, few(arguments, 1), folder / "paper.inv", arguments.extra)
        results.keep("paper", row, values)


def measure_render(arguments: Namespace, folder: Path, results: Results) -> None:
    for row in arguments.render_rows:
        file = a_file(row, arguments, folder)
        results.keep("render", row, {**rendering(file), **decoding(file)})


def measure_startup(arguments: Namespace, folder: Path, results: Results) -> None:
    row = arguments.render_rows[0]
    file = a_file(row, arguments, folder)
    with Video(file) as video:
        pose, frames = shown_camera(video).name, (video.frames[0].number, video.frames[-1].number)
    view = ["--pose", pose, "-o", folder / "view.png", "-f"]
    inspect = ["inspect", arguments.data, "--downscale", arguments.downscale]
    commands: dict[str, list[Any]] = {
        "--version": ["--version"],
        "info": ["info", file],
        "inspect": inspect,
        "verify": ["verify", file],
        f"decode, frame {frames[0]}": ["decode", file, "--frame", "first", *view],
        f"decode, frame {frames[1]}": ["decode", file, "--frame", "latest", *view],
    }
    for name, command in commands.items():
        environment = fresh_cache(folder)
        cold = run(command, environment)
        times = [run(command, environment) for _ in range(_REPEATS)]
        results.keep("startup", name, {"row": row, "seconds": median(times), "worst": max(times), "cold": cold})


def measure_growth(arguments: Namespace, folder: Path, results: Results) -> None:
    """Measure growth with a fixed number of steps, so that the work compared is the same."""
    warm_up(arguments, folder)
    capture = opened(arguments)
    held_out = [camera.name for camera in capture.cameras if camera.held_out]
    training = [capture.cameras[i].name for i in capture.training]
    count = len(training)
    for cameras in sorted({max(2, count // 4), max(2, count // 2), count}):
        # Spread over the rig, like a rig with fewer cameras.
        kept = {training[round(i * (count - 1) / (cameras - 1))] for i in range(cameras)}
        less = few(arguments, _SHORT, holdout=[*held_out, *(name for name in training if name not in kept)])
        results.keep("growth", f"{cameras} cameras", steps_of(less, folder))
    for downscale in arguments.downscales:
        row = steps_of(few(arguments, _SHORT, downscale=downscale), folder)
        results.keep("growth", "{}x{}".format(*row["size"]), row)
    results.keep("growth", f"{len(capture.numbers)} frames", steps_of(arguments, folder))


def steps_of(arguments: Namespace, folder: Path) -> dict[str, Any]:
    """Seconds per step, including all work of a frame, and memory after each frame."""
    options = [*quality.options_of(DEFAULT_PRESET, arguments), "--steps", str(arguments.steps)]
    done = common.encode(PROGRAM, arguments.data, folder / "growth.inv", options, "growth")
    camera = opened(arguments).cameras[0]
    later = [frame["seconds"] for frame in done[1:]]
    return {
        "command": " ".join(["invcodec encode", arguments.data.name, "out.inv", *options]),
        "size": [camera.width, camera.height],
        "steps": arguments.steps,
        "start_seconds": done[0]["at"] - done[0]["seconds"],
        "key_step_seconds": done[0]["seconds"] / done[0]["steps"],
        "later_step_seconds": median(later) / done[-1]["steps"] if later else None,
        "peak_mb": done[-1]["peak_mb"],
        "peak_mb_by_frame": [frame["peak_mb"] for frame in done],
    }


def opened(arguments: Namespace) -> Capture:
    parts = (arguments.frames or ":").split(":")
    first, stop = (int(part) if part else None for part in parts)
    holdout = arguments.holdout or None
    return open_capture(arguments.data, frames=(first, stop), downscale=arguments.downscale, holdout=holdout)


def warm_up(arguments: Namespace, folder: Path) -> None:
    """Compile the kernels that the next encode needs."""
    options = [*quality.options_of(DEFAULT_PRESET, few(arguments, _SHORT)), "--steps", "1"]
    common.encode(PROGRAM, arguments.data, folder / "warm-up.inv", options, "warm-up")


def a_file(row: str, arguments: Namespace, folder: Path) -> Path:
    """A short file of a row, made once."""
    file = folder / f"{row.replace(':', '-').replace('/', '-')}-short.inv"
    if not file.exists():
        options = [*quality.options_of(row, few(arguments, arguments.render_frames)), *arguments.extra]
        common.encode(PROGRAM, arguments.data, file, options, row)
    return file


def run(command: Sequence[Any], environment: Mapping[str, str]) -> float:
    """Seconds of a command from process start to exit."""
    started = clock()
    subprocess.run(
        [*PROGRAM, *map(str, command)], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    return clock() - started


def shown_camera(video: Video) -> Any:
    """A held-out camera, else the first one."""
    cameras = video.cameras
    return next((camera for camera in cameras if camera.held_out), cameras[0])


def rendering(file: Path, device: str = "cpu") -> dict[str, Any]:
    """Seconds for a view of a decoded frame: `first`, including preparation, and later ones."""
    with Video(file, device=device) as video:
        camera, frame = shown_camera(video), video.frames[-1]
        video.source.state_at(frame.number)
        times = []
        for _ in range(1 + _REPEATS):
            started = clock()
            frame.render(camera)
            times.append(clock() - started)
    return {
        "size": [camera.width, camera.height],
        "device": device,
        "first_render_seconds": times[0],
        "render_seconds": median(times[1:]),
        "render_seconds_max": max(times[1:]),
    }


def decoding(file: Path) -> dict[str, Any]:
    """Seconds for a keyframe and for each delta, warm and on one core, as a record is decoded sequentially."""
    with Video(file, device="cpu", threads=1) as video:
        video.source.state_at(video.frames[-1].number)
        times: dict[str, list[float]] = {"key": [], "delta": []}
        for _ in range(3):
            for frame in video:
                started = clock()
                video.source.state_at(frame.number)
                times[frame.kind].append(clock() - started)
    deltas = times["delta"]
    return {
        "key_decode_seconds": median(times["key"]),
        "delta_decode_seconds": median(deltas) if deltas else None,
        "delta_decode_seconds_max": max(deltas, default=None),
    }


def time_to(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Seconds at which a curve of (seconds, dB) first reaches a level, interpolated linearly in log seconds.

    None if it never does; the seconds of the first point if that already reaches it.
    """
    points = sorted(points)
    if points and points[0][1] >= level:
        return points[0][0]
    for (earlier, worse), (later, better) in pairwise(points):
        if worse < level <= better:
            part = (level - worse) / (better - worse)
            return math.exp(math.log(earlier) + part * (math.log(later) - math.log(earlier)))
    return None


def key_points(rows: Mapping[str, dict[str, Any]]) -> list[tuple[float, float]]:
    """Points (seconds, dB) of the keyframes."""
    return sorted((row["key_seconds"], row["psnr_by_frame"][0]) for row in rows.values() if "psnr_by_frame" in row)


def against_paper(parts: Mapping[str, dict[str, Any]], level: float) -> dict[str, Any]:
    """Compare both configurations, if both were measured.

    Returns:
        `seconds_to_level` and `step_seconds`; `extrapolated_speedup`, the time that all steps of the published
        configuration would take over those seconds; `gains`, decibels between keyframes by their training seconds.
    """
    ours, theirs = parts.get("keyframes", {}), parts.get("paper", {})
    seconds = time_to(key_points(ours), level)
    step = theirs["step"]["seconds"] if "step" in theirs else None
    gains = {}
    for name, row in theirs.items():
        budget = name.partition("@")[2]
        if budget and (mine := ours.get(f"{DEFAULT_PRESET}@{budget}")):
            gains[budget] = mine["psnr_by_frame"][0] - row["psnr_by_frame"][0]
    return {
        "level": level,
        "seconds_to_level": seconds,
        "step_seconds": step,
        "extrapolated_speedup": PAPER_STEPS * step / seconds if step and seconds else None,
        "gains": gains,
    }


def tables(parts: Mapping[str, dict[str, Any]], level: float) -> str:
    """Markdown."""
    out = []
    if "presets" in parts:
        head = "| preset | keyframe, warm (cold) | PSNR | later frames: mean, worst | PSNR (moving) "
        out += [f"{head}| keyframe, later frames | peak memory |", "|---|---|---|---|---|---|---|"]
        for name, row in parts["presets"].items():
            key, *others = row["psnr_by_frame"]
            later = "-, -" if not others else f"{row['frame_seconds_mean']:.1f} s, {row['frame_seconds_max']:.1f} s"
            out.append(
                f"| `{name}` | {row['key_seconds']:.1f} s ({row['cold']['key_seconds']:.1f} s) | {key:.2f} dB "
                f"| {later} | {_number(_mean(others), '.2f', ' dB')} ({_number(row['psnr_moving'], '.2f', ' dB')}) "
                f"| {kB(row['key_bytes'])}, {kB(row['later_bytes_mean'])} | {_number(row['peak_mb'], '.0f', ' MB')} |"
            )
        out.append("")
    keyframes = [*parts.get("keyframes", {}).items(), *parts.get("paper", {}).items()]
    if keyframes:
        out += ["| keyframe | from process start | PSNR | bytes | steps |", "|---|---|---|---|---|"]
        out += [
            f"| `{name}` | {row['key_seconds']:.1f} s | {row['psnr_by_frame'][0]:.2f} dB | {kB(row['key_bytes'])} "
            f"| {row['steps_by_frame'][0]} |"
            for name, row in keyframes
            if "psnr_by_frame" in row
        ]
        both = against_paper(parts, level)
        out.append("")
        if both["seconds_to_level"]:
            out.append(f"- {level:g} dB after {both['seconds_to_level']:.1f} s")
        if both["step_seconds"]:
            out.append(f"- a step of `paper`: {both['step_seconds']:.2f} s")
        if both["extrapolated_speedup"]:
            speedup = f"{both['extrapolated_speedup']:,.0f}"
            out.append(
                f"- extrapolated, not run: {PAPER_STEPS:,} such steps take {speedup} times as long as {level:g} dB"
            )
        out += [f"- after {budget} s: {gain:+.1f} dB against `paper`" for budget, gain in both["gains"].items()]
        out.append("")
    for name, row in parts.get("render", {}).items():
        out.append(
            f"- `{name}`: a view of {row['size'][0]}x{row['size'][1]} in {1000 * row['render_seconds']:.0f} ms (first "
            f"{1000 * row['first_render_seconds']:.0f} ms); a keyframe decodes in {_ms(row['key_decode_seconds'])}, "
            f"a delta in {_ms(row['delta_decode_seconds'])}"
        )
    if "startup" in parts:
        out += ["", "| command | warm | cold |", "|---|---|---|"]
        out += [
            f"| `{name}` | {row['seconds']:.2f} s | {row['cold']:.2f} s |" for name, row in parts["startup"].items()
        ]
    if "growth" in parts:
        out += ["", "| | keyframe, per step | later frames, per step | start | peak memory |", "|---|---|---|---|---|"]
        out += [
            f"| {name} | {_ms(row['key_step_seconds'])} | {_ms(row['later_step_seconds'])} "
            f"| {row['start_seconds']:.1f} s | {_memory(row['peak_mb_by_frame'])} |"
            for name, row in parts["growth"].items()
        ]
    return "\n".join(out).strip()


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _memory(by_frame: Sequence[float | None]) -> str:
    """Peak memory, and the peak after as many frames as shorter runs have."""
    peaks = [_number(peak, ".0f", " MB") for peak in by_frame]
    return peaks[-1] + (f" ({peaks[_SHORT - 1]} after {_SHORT} frames)" if len(peaks) > _SHORT else "")


def _ms(seconds: float | None) -> str:
    return _number(None if seconds is None else 1000 * seconds, ".1f", " ms")


def kB(size: float | None) -> str:
    return _number(None if size is None else size / 1000, ".1f", " kB")


def plot(parts: Mapping[str, dict[str, Any]], title: str, path: Path) -> None:
    """Plot held-out quality against seconds: keyframes left, later frames right."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: it needs matplotlib, pip install -e '.[bench]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (keys, later) = pyplot.subplots(1, 2, figsize=(13, 4.8))
    for part, style, colour, label in (
        ("keyframes", "o-", "tab:blue", f"`{DEFAULT_PRESET}`, other training times"),
        ("paper", "s-", "tab:red", "`paper`, the published configuration"),
    ):
        if points := key_points(parts.get(part, {})):
            keys.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)
    for name, row in parts.get("presets", {}).items():
        colour = "tab:orange" if ":" in name else "tab:green"
        psnr, *others = row["psnr_by_frame"]
        drawn = [(keys, row["key_seconds"], row["cold"]["key_seconds"], psnr, row["key_bytes"])]
        if others:
            seconds, cold = row["frame_seconds_max"], row["cold"]["frame_seconds_max"]
            drawn.append((later, seconds, cold, sum(others) / len(others), row["later_bytes_mean"]))
            if row["psnr_moving"] is not None:
                later.plot(seconds, row["psnr_moving"], "D", color=colour, markersize=6, fillstyle="none")
        for panel, seconds, cold, decibels, size in drawn:
            panel.plot([seconds, cold], [decibels] * 2, ":", color=colour, linewidth=1)
            panel.plot(seconds, decibels, "D", color=colour, markersize=6)
            label = f"{name}, {kB(size)}"
            panel.annotate(label, (seconds, decibels), (4, 5), textcoords="offset points", fontsize=8)
    keys.set(title=f"{title}: keyframe", xlabel="seconds from process start to the record (dotted: cold)")
    later.set(
        title=f"{title}: later frames, mean (hollow: moving pixels)",
        xlabel="seconds of the slowest frame (dotted: cold)",
    )
    for panel in (keys, later):
        panel.set(xscale="log", ylabel="held-out PSNR, dB")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("{x:g}")
        panel.tick_params(axis="x", which="minor", labelsize=7)
        panel.grid(alpha=0.3, which="both")
        panel.margins(x=0.15, y=0.1)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


PARTS = {
    "presets": measure_presets,
    "keyframes": measure_keyframes,
    "paper": measure_paper,
    "render": measure_render,
    "startup": measure_startup,
    "growth": measure_growth,
}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="default: all")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--frames", help="as 0:8; default: all")
    parser.add_argument(
        "--holdout", action="append", default=[], help="camera; default: what the capture marks as test"
    )
    parser.add_argument("--rows", nargs="+", default=ROWS, help="of part presets")
    parser.add_argument("--key-seconds", nargs="+", type=float, default=KEY_SECONDS, help="of part keyframes")
    parser.add_argument("--paper-seconds", nargs="*", type=float, default=PAPER_SECONDS, help="of part paper")
    parser.add_argument("--level", type=float, default=28.6, help="decibels to which the time is taken")
    parser.add_argument("--render-rows", nargs="+", default=[DEFAULT_PRESET], help="of parts render and startup")
    parser.add_argument("--render-frames", type=int, default=8, help="of their files")
    parser.add_argument("--steps", type=int, default=150, help="per frame, of part growth")
    parser.add_argument("--downscales", nargs="+", type=int, default=(4, 2, 1), help="of part growth")
    parser.add_argument("--save", type=Path, help="put the results there, as JSON, and the plot beside it, as PNG")
    parser.add_argument("--quick", action="store_true", help="a few frames and steps, to see that all of it works")
    return parser


def main() -> None:
    arguments = _options().parse_args()
    arguments.extra = []
    if arguments.quick:
        arguments.frames, arguments.extra, arguments.steps = "0:3", ["--steps", "5"], 4
        arguments.rows, arguments.render_frames = ("draft",), 3
        arguments.key_seconds, arguments.paper_seconds, arguments.downscales = (1,), (1,), (2, 1)
    capture = opened(arguments)
    camera = capture.cameras[0]
    about = {
        "capture": arguments.data.name,
        "size": [camera.width, camera.height],
        "training_cameras": len(capture.training),
        "held_out": [camera.name for camera in capture.cameras if camera.held_out],
        "quick": arguments.quick,
    }
    results = Results(arguments.save, about)
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            PARTS[part](arguments, Path(folder), results)
            if arguments.save:
                title = f"{arguments.data.name} {camera.width}x{camera.height}"
                plot(results.parts, title, arguments.save.with_suffix(".png"))
    print(tables(results.parts, arguments.level))


if __name__ == "__main__":
    main()

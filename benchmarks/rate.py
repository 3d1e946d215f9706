"""Rate and distortion: our curve before and after a change, the same networks under other coders, and AV1.

    python benchmarks/rate.py --data captures/ --before ../old --save benchmarks/results/rate.json
    python benchmarks/rate.py --data studio --downscale 2 --frames 0:24 --points "--quality 30" "--quality 60"
    python benchmarks/rate.py --data tiny --quick

Needs `pip install -e '.[bench]'` and `pip install --no-deps nncodec`. Files and AV1's figures are kept in `--work`
and reused if the code is the same, so that a long run can be interrupted.

*Later frames* are those after the warm-up; *file / frames* counts the whole file. PSNR is that of `invcodec eval`:
*held out* on the held-out cameras, *training* on all others. AV1 encodes the video of each training camera separately,
and its bytes are those of all views.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import simulcast
from bjontegaard import bd_rate, rate_at

from invcodec.capture.capture import Capture, open_capture

try:
    from coders import CODERS, measure
except ImportError as error:
    raise SystemExit(f"{error}; pip install -e '.[bench]' && pip install --no-deps nncodec") from None

SCENES = ("studio@2", "studio", "studio_hd")
"""Captures to encode, if the folder has them, downscaled by the number after the @."""
NERF_SCENE = "tiny"

POINTS = ("--quality 15", "--quality 30", "--quality 45", "--quality 60", "--quality 75")
"""Options of `invcodec encode` for each point of our curve, by increasing rate."""
NERF = "--profile nerf --warmup 2"
CRFS = (24, 32, 40, 48, 54, 60)
QUICK = ("--steps 40", "--steps 80", "--steps 160")


@dataclass(frozen=True)
class Scene:
    """A capture at a size."""

    folder: Path
    downscale: int
    capture: Capture

    @property
    def name(self) -> str:
        camera = self.capture.cameras[0]
        return f"{self.folder.name} {camera.width}x{camera.height}"

    @property
    def slug(self) -> str:
        return f"{self.folder.name}-{self.downscale}"


def open_scene(spec: str, arguments: argparse.Namespace) -> Scene:
    """Open the capture named by `NAME@DOWNSCALE`."""
    name, _, factor = spec.partition("@")
    folder = arguments.data / name
    first, last = (int(part) if part else None for part in arguments.frames.split(":"))
    holdout = arguments.holdout or None
    downscale = int(factor or 1)
    return Scene(folder, downscale, open_capture(folder, frames=(first, last), downscale=downscale, holdout=holdout))


def path_of(scene: Scene, point: str, arguments: argparse.Namespace, before: Path | None = None) -> Path:
    """Path of the file of one point."""
    parts = [scene.slug, "before" if before else "after", re.sub(r"\W+", "_", point).strip("_")]
    return arguments.work / f"{'_'.join(parts)}.inv"


def encode(scene: Scene, point: str, arguments: argparse.Namespace, before: Path | None = None) -> dict[str, Any]:
    """Encode and measure one point of a curve, or reuse the result of an earlier run."""
    checkout = before or common.ROOT
    out = path_of(scene, point, arguments, before)
    options = [*shlex.split(point), "--downscale", str(scene.downscale), "--frames", arguments.frames]
    for camera in scene.capture.cameras:
        options += ["--holdout", camera.name] if camera.held_out else []
    command = " ".join(["invcodec encode", scene.folder.name, "out.inv", *options])
    about = {"command": command, "sources": common.sources(checkout)}
    kept = out.with_suffix(".json")
    if out.exists() and kept.exists() and (old := json.loads(kept.read_text()))["about"] == about:
        print(f"{out.stem}: kept from an earlier run", file=sys.stderr)
        return old["row"]
    program = common.program_of(checkout)
    done = common.encode(program, scene.folder, out, options, out.stem)
    report = common.evaluate(program, out, scene.folder, [camera.name for camera in scene.capture.cameras])
    row = {
        "point": point,
        "command": command,
        "commit": common.commit(checkout),
        **_figures(done, report, {camera.name for camera in scene.capture.cameras if camera.held_out}),
    }
    kept.write_text(json.dumps({"about": about, "row": row}, indent=1) + "\n")
    return row


def _figures(done: list[dict[str, Any]], report: dict[str, Any], held_out: set[str]) -> dict[str, Any]:
    """Sizes and qualities of one file, from the output of `encode` and `eval`."""
    frames = report["frames"]
    later = [i for i, frame in enumerate(done) if frame["stage"] == "lead"] or list(range(1, len(done)))
    sizes = [frame["bytes"] for frame in done]

    def by_frame(figure: str, held: bool) -> list[float | None]:
        rows = [[c[figure] for name, c in frame["cameras"].items() if (name in held_out) == held] for frame in frames]
        return [common.mean_known(row) for row in rows]

    figures: dict[str, Any] = {
        "frames": len(done),
        "warmup": len(done) - 1 - len(later),
        "key_seconds": done[0]["seconds"],
        "frame_seconds": common.mean_known([done[i]["seconds"] for i in later]),
        "key_bytes": sizes[0],
        "later_bytes_mean": common.mean_known([sizes[i] for i in later]),
        "later_bytes_max": max((sizes[i] for i in later), default=None),
        "file_bytes": report["bytes"]["file"],
        "bytes_by_frame": sizes,
    }
    # Without a held-out camera, only the quality of training views is known.
    held = bool(held_out)
    for figure in ("psnr", "psnr_moving", "psnr_static"):
        series = by_frame(figure, held)
        figures[figure] = common.mean_known(series)
        figures[f"{figure}_later"] = common.mean_known([series[i] for i in later])
        figures[f"{figure}_by_frame"] = series
    static = figures["psnr_static_by_frame"]
    figures["static_first"], figures["static_last"] = common.mean_known(static[1:5]), common.mean_known(static[-4:])
    figures["training_psnr"] = common.mean_known(by_frame("psnr", False))
    figures["training_psnr_moving"] = common.mean_known(by_frame("psnr_moving", False))
    return figures


def av1(scene: Scene, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """AV1's points, each encoder at each CRF, or those of an earlier run."""
    kept = arguments.work / f"{scene.slug}_av1.json"
    about = {"command": [[*encoder.options] for encoder in simulcast.ENCODERS], "crf": [*arguments.crf]}
    about |= {"frames": arguments.frames, "cameras": [scene.capture.cameras[i].name for i in scene.capture.training]}
    if kept.exists() and (old := json.loads(kept.read_text()))["about"] == about:
        return old["rows"]
    views = simulcast.read_views(scene.capture)
    rows = []
    for encoder in simulcast.ENCODERS:
        for crf in arguments.crf:
            print(f"{scene.slug}: {encoder.name}, CRF {crf}", file=sys.stderr)
            rows.append(simulcast.measure(views, scene.capture.fps, encoder, crf))
    kept.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    return rows


def run_scene(scene: Scene, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one capture at one size."""
    after = [encode(scene, point, arguments) for point in arguments.points]
    before = [encode(scene, point, arguments, arguments.before) for point in arguments.before_points]
    theirs = av1(scene, arguments) if arguments.crf else []
    middle = arguments.points[len(arguments.points) // 2]
    result: dict[str, Any] = {
        "scene": scene.name,
        "downscale": scene.downscale,
        "frames": after[0]["frames"],
        "training_cameras": len(scene.capture.training),
        "held_out": [camera.name for camera in scene.capture.cameras if camera.held_out],
        "curve": [{**row, "against_av1": simulcast.beside(row, theirs)} for row in after],
        "before": before,
        "av1": theirs,
        "coders": {"point": middle, **measure(path_of(scene, middle, arguments))},
    }
    if before:
        for name, size, quality in (
            ("bd_rate_later", "later_bytes_mean", "psnr_later"),
            ("bd_rate_moving", "later_bytes_mean", "psnr_moving_later"),
            ("bd_rate_file", "file_bytes", "psnr"),
        ):
            result[name] = bd_rate(
                *([(row[size], row[quality]) for row in rows if row[size] and row[quality]] for rows in (before, after))
            )
    return result


def run_nerf(scene: Scene, arguments: argparse.Namespace) -> dict[str, Any]:
    row = encode(scene, arguments.nerf, arguments)
    coders = measure(path_of(scene, arguments.nerf, arguments))
    return {"scene": scene.name, "row": row, "coders": {"point": arguments.nerf, **coders}}


def curve_table(scene: dict[str, Any]) -> str:
    """Our points, those before the change, and AV1's, as a markdown table."""
    lines = [
        f"**{scene['scene']}, {scene['frames']} frames, {scene['training_cameras']} training cameras**",
        "",
        "| | keyframe | later frames | file / frames | held out: after warm-up (all) | moving / static "
        "| static: first 4 / last 4 | training (moving) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in (*scene["before"], *scene["curve"]):
        label = f"`{row['point']}`" + (" before" if row in scene["before"] else "")
        lines += [
            f"| {label} | {_sizes(row)} | {_dB(row['psnr_later'])} ({_dB(row['psnr'])}) "
            f"| {_dB(row['psnr_moving_later'])} / {_dB(row['psnr_static_later'])} "
            f"| {_dB(row['static_first'])} / {_dB(row['static_last'])} "
            f"| {_dB(row['training_psnr'])} ({_dB(row.get('training_psnr_moving'))}) |"
        ]
    for row in scene["av1"]:
        label = f"{row['encoder']}, CRF {row['crf']}"
        lines += [f"| {label} | {_sizes(row)} | - | - | - | {_dB(row['training_psnr'])} |"]
    if scene["before"]:
        later, moving, file = (_percent(scene[f"bd_rate_{key}"]) for key in ("later", "moving", "file"))
        lines += [
            "",
            f"Bjontegaard rate difference, held out: later frames {later} (at equal PSNR of moving pixels {moving}), "
            f"file {file}.",
        ]
        lines += ["", "At the held-out PSNR of each point before (a curve needs two that trade bytes for quality):", ""]
        for row in scene["before"]:
            changes = []
            for size, quality in (("later_bytes_mean", "psnr_later"), ("file_bytes", "psnr")):
                now = rate_at([(each[size], each[quality]) for each in scene["curve"] if each[size]], row[quality])
                changes.append(_percent(now / row[size] - 1 if now and row[size] else None))
            lines.append(f"- `{row['point']}`: later frames {changes[0]}, file {changes[1]}")
    if scene["av1"]:
        lines += ["", "At equal training-view PSNR:", ""]
        lines += ["| | training | file / frames | AV1: keyframe, later frames, all / frames | smaller than AV1 |"]
        lines += ["|---|---|---|---|---|"]
        for row in scene["curve"]:
            for encoder, beside in row["against_av1"].items():
                sizes = ", ".join(_kB(beside[key]) for key in ("key_bytes", "later_bytes", "bytes_per_frame"))
                lines.append(
                    f"| `{row['point']}` | {_dB(row['training_psnr'])} | {_kB(row['file_bytes'] / row['frames'])} "
                    f"| {encoder}: {sizes} | {beside['smaller'] or 'not measured'} |"
                )
    return "\n".join(lines)


def _sizes(row: dict[str, Any]) -> str:
    """Cells for keyframe, later frames, and file over frames."""
    return " | ".join(
        _kB(size) for size in (row["key_bytes"], row["later_bytes_mean"], row["file_bytes"] / row["frames"])
    )


def coders_table(parts: Sequence[dict[str, Any]]) -> str:
    """The same networks under every coder, as a table: bytes of keyframe, later frame, and file over frames."""
    heads = [f"{part['scene']}, `{part['coders']['point']}`" for part in parts]
    columns = "keyframe, later frames, all / frames"
    lines = [
        "| coder | " + " | ".join(f"{head}: {columns}" for head in heads) + " |",
        "|---" * (1 + len(parts)) + "|",
    ]
    for name, label in CODERS.items():
        cells = []
        for part in parts:
            sizes = [part["coders"][where] for where in ("key", "later", "frame")]
            cells.append(", ".join(_kB(size and size[name]) for size in sizes))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines.append("")
    for head, part in zip(heads, parts, strict=True):
        coders, key, later = part["coders"], part["coders"]["key"], part["coders"]["later"]
        if later is None:
            continue
        versus = [_percent(sizes["ours"] / sizes["deepcabac"] - 1) for sizes in (later, key)]
        times = [f"{later[name] / later['record']:.0f}" for name in ("fpzip", "fpzip_stacked")]
        lines.append(
            f"{head}: coded tensors of later frames are {versus[0]} against DeepCABAC (keyframe {versus[1]}); "
            f"fpzip takes {times[0]} times a later record ({times[1]} stacked), which has "
            f"{coders['bits_per_structure_weight']:.3f} bits per structure weight and decodes in "
            f"{coders['decode_ms']:.1f} ms.\n"
        )
    return "\n".join(lines).rstrip()


def _kB(size: float | None) -> str:
    return "-" if size is None else f"{size / 1000:.2f} kB"


def _dB(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "not comparable" if value is None else f"{100 * value:+.1f} %"


def plot(result: dict[str, Any], path: Path) -> None:
    """Plot a row of panels per scene: held-out quality, training-view quality beside AV1, and the coders."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scenes = result["scenes"]
    figure, panels = pyplot.subplots(len(scenes), 3, figsize=(16, 4.6 * len(scenes)), squeeze=False)
    for (held, training, bars), scene in zip(panels, scenes, strict=True):
        for rows, colour, label in ((scene["before"], "tab:grey", "before"), (scene["curve"], "tab:blue", "invcodec")):
            for size, quality, style, what in (
                ([row["later_bytes_mean"] for row in rows], "psnr_later", "o-", "later frames"),
                ([row["later_bytes_mean"] for row in rows], "psnr_moving_later", "^:", "later frames, moving pixels"),
                ([row["file_bytes"] / row["frames"] for row in rows], "psnr", "s--", "file / frames"),
            ):
                points = sorted(
                    (s / 1000, row[quality]) for s, row in zip(size, rows, strict=True) if s and row[quality]
                )
                if points:
                    held.plot(*zip(*points, strict=True), style, color=colour, label=f"{label}, {what}", markersize=4)
        ours = sorted((row["file_bytes"] / row["frames"] / 1000, row["training_psnr"]) for row in scene["curve"])
        training.plot(*zip(*ours, strict=True), "s--", color="tab:blue", label="invcodec, file / frames", markersize=4)
        for encoder, colour in zip(
            dict.fromkeys(r["encoder"] for r in scene["av1"]), ("tab:red", "tab:orange"), strict=False
        ):
            rows = [row for row in scene["av1"] if row["encoder"] == encoder]
            points = sorted((row["file_bytes"] / row["frames"] / 1000, row["training_psnr"]) for row in rows)
            training.plot(*zip(*points, strict=True), "^--", color=colour, label=f"AV1: {encoder}", markersize=4)
        for panel, title in ((held, "held-out view"), (training, "training views")):
            panel.set(xscale="log", xlabel="kB per frame", ylabel="PSNR, dB", title=f"{scene['scene']}, {title}")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("{x:g}")
            panel.tick_params(axis="x", which="minor", labelsize=7)
            panel.grid(alpha=0.3, which="both")
            panel.legend(fontsize=8)
        _bars(bars, scene["coders"], scene["scene"])
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def _bars(panel: Any, coders: dict[str, Any], title: str) -> None:
    names = [name for name in CODERS if name != "record"]
    for offset, where, colour in ((-0.2, "key", "tab:cyan"), (0.2, "later", "tab:blue")):
        sizes = coders[where] or {}
        values = [(sizes.get(name) or 0) / 1000 for name in names]
        drawn = panel.barh([i + offset for i in range(len(names))], values, 0.4, color=colour, label=where)
        panel.bar_label(drawn, [f"{value:.1f}" if value else "" for value in values], fontsize=7, padding=2)
    panel.set_yticks(range(len(names)), [CODERS[name] for name in names], fontsize=8)
    panel.set(xscale="log", xlabel="kB per frame", title=f"{title}, one network, `{coders['point']}`")
    panel.invert_yaxis()
    panel.margins(x=0.2)
    panel.legend(fontsize=8)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture, or of several")
    parser.add_argument("--scenes", nargs="+", metavar="NAME[@N]", help=f"captures in it, shrunk N times; {SCENES}")
    parser.add_argument("--downscale", type=int, default=1, help="where --data is one capture")
    parser.add_argument("--frames", default="0:24", help="as 0:24, the default")
    parser.add_argument("--holdout", action="append", help="camera; default: what the captures mark as test")
    parser.add_argument("--points", nargs="*", default=POINTS, help="each the options of one encode, in quotes")
    parser.add_argument("--before", type=Path, help="another checkout, with its .venv, for the curve before")
    parser.add_argument("--before-points", nargs="*", default=[], help="default: those of --points")
    parser.add_argument(
        "--nerf", default=NERF, metavar="OPTIONS", help="of an encode with the nerf profile, '' for none"
    )
    parser.add_argument("--nerf-scene", metavar="NAME[@N]", help=f"default: {NERF_SCENE} if it is there")
    parser.add_argument("--crf", nargs="*", type=int, default=CRFS, help="CRFs of AV1; without a value, AV1 is skipped")
    parser.add_argument("--work", type=Path, help="where files are kept; default: a temporary folder")
    parser.add_argument("--save", type=Path, help="write the results there, as JSON, and the plot beside it, as PNG")
    parser.add_argument("--quick", action="store_true", help="a few frames and steps, to see that all of it works")
    return parser


def main() -> None:
    arguments = _options().parse_args()
    if arguments.quick:
        arguments.frames, arguments.points, arguments.crf = "0:4", QUICK, (46, 58)
        arguments.before_points, arguments.nerf = (), arguments.nerf and f"{NERF} --steps 10"
    if arguments.before and not arguments.before_points:
        arguments.before_points = arguments.points
    specs, nerf = arguments.scenes, arguments.nerf_scene
    if any((arguments.data / name).exists() for name in ("transforms.json", "poses_bounds.npy")):
        arguments.data, name = arguments.data.resolve().parent, arguments.data.resolve().name
        specs = specs or [f"{name}@{arguments.downscale}"]
        nerf = nerf or specs[0]
    else:
        specs = specs or [spec for spec in SCENES if (arguments.data / spec.partition("@")[0]).is_dir()]
        nerf = nerf or (NERF_SCENE if (arguments.data / NERF_SCENE).is_dir() else specs[0])
    with tempfile.TemporaryDirectory() as temporary:
        arguments.work = arguments.work or Path(temporary)
        arguments.work.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {"scenes": [run_scene(open_scene(spec, arguments), arguments) for spec in specs]}
        if arguments.nerf:
            result["nerf"] = run_nerf(open_scene(nerf, arguments), arguments)
    for scene in result["scenes"]:
        print(curve_table(scene), end="\n\n")
    if arguments.nerf:
        row = result["nerf"]["row"]
        print(
            f"`{row['point']}` on {result['nerf']['scene']}: held out {_dB(row['psnr_later'])} dB after the warm-up ",
            end="",
        )
        print(f"(keyframe {_dB(row['psnr_by_frame'][0])} dB), {_kB(row['key_bytes'])} and ", end="")
        print(
            f"{_kB(row['later_bytes_mean'])} a later frame, {_kB(row['file_bytes'] / row['frames'])} over all",
            end="\n\n",
        )
    print(coders_table([*result["scenes"], *([result["nerf"]] if arguments.nerf else [])]))
    if arguments.save:
        common.save(arguments.save, result)
        plot(result, arguments.save.with_suffix(".png"))


if __name__ == "__main__":
    main()

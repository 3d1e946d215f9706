"""`invcodec inspect`: how a capture is interpreted, before any training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import FORCE, JSON, PLOT, Command, capture_options, read_reading, resolve_settings, training_options
from .plots import draw_rig, require_plots
from .terminal import say, say_json
from .values import Place, bytes_text, frame_rate_text, network_text, seconds_text, table, training_text

_SPACES = {
    "ndc": "forward-facing rig, normalised device coordinates (NDC)",
    "box": "bounded scene, box",
    "contract": "surrounding or unbounded rig, contracted space",
}


@click.command(
    "inspect",
    short_help="Check a capture and estimate time and size.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec inspect capture/
  invcodec inspect capture/ --downscale 2 --holdout cam00 --preset fast
  invcodec inspect capture/ --json""",
)
@click.argument("capture", type=Place())
@capture_options
@training_options
@PLOT
@FORCE
@JSON
@click.pass_context
def command(
    ctx: click.Context,
    capture: Path,
    plot: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show how CAPTURE, a folder or one video file, is interpreted, and estimate the time and size of encoding it.

    Takes the same options as 'encode', and reports any problem that would stop an encode, with its file.
    """
    from invcodec.capture.capture import open_capture
    from invcodec.capture.epipolar import compare, judge
    from invcodec.encoding.summary import summarise
    from invcodec.output import check_output
    from invcodec.places import is_file

    if plot is not None:
        require_plots()
        check_output(plot, force)
    reading = read_reading(options)
    settings = resolve_settings(ctx, options, flat=is_file(capture))
    opened = open_capture(capture, **reading)
    summary = summarise(opened, settings)
    fit = compare(opened)
    summary["poses"] = {"checked": False} if fit is None else {"checked": True, **asdict(fit)}
    if plot is not None:
        draw_rig(opened.cameras, opened.points, plot, force)
    if as_json:
        say_json(summary)
    else:
        say(*_text(summary, capture))
    if fit is not None:
        judge(opened, fit)


def _poses_text(summary: dict[str, Any]) -> list[str]:
    if summary["flat"]:
        return ["poses     none; the axes are those of the picture (x right, y up, z backward)"]
    return [f"poses     {summary['axes']}", f"          {_fit_text(summary['poses'])}"]


def _fit_text(poses: dict[str, Any]) -> str:
    if not poses["checked"]:
        return "not compared with the pictures (pip install 'invcodec[check]')"
    if not poses["pairs"]:
        return "not compared with the pictures: too little looks alike in neighbouring cameras"
    worst = max(poses["pairs"], key=lambda pair: pair["error"])
    return (
        f"{'DO NOT FIT' if poses['wrong'] else 'fit'} the pictures: epipolar error {poses['error']:.2f} px "
        f"between neighbours ({len(poses['pairs'])}), worst {worst['error']:.2f} px ({' and '.join(worst['cameras'])})"
    )


def _text(summary: dict[str, Any], folder: Path) -> list[str]:
    from invcodec.geometry.camera import DISTORTION

    first, stop = summary["frames"]
    low, high = summary["available"]
    count = stop - first
    rate = summary["frame_rate"]
    cameras = summary["cameras"]
    bounds = [(c["near"], c["far"]) for c in cameras if c["near"] is not None and c["far"] is not None]
    scene = "the pictures of one camera" if summary["flat"] else _SPACES[summary["space"]["kind"]]
    if summary["points"] is not None:
        scene += f"; {summary['points']} points"
    if bounds:
        scene += f"; depths {min(near for near, _ in bounds):.3g} to {max(far for _, far in bounds):.3g}"
    source = summary["source_size"]
    shrunk = f" (captured at {source[0]}x{source[1]})" if summary["downscale"] > 1 else ""
    expected = summary["encode"]
    key, later = seconds_text(expected["key_seconds"]), seconds_text(expected["later_seconds"])
    parts = f": keyframe {key}, then {later} a frame at most" if count > 1 else ""
    rows = [["camera", "file", "size", "distortion", "frames", "near", "far", ""]]
    for camera in cameras:
        lens = [f"{key} {camera[key]:.3g}" for key in DISTORTION if camera[key]]
        note = ["held out"] * camera["held_out"] + ["masked"] * bool(camera["masks"])
        note += [f"starts at {camera['start']:.3f} s, {camera['apart']:.2f} frames apart"] * bool(camera["start"])
        note += [f"{camera['gaps']} missing"] * bool(camera["gaps"])
        note += [f"{camera['border']:.1%} border"] * bool(camera["border"])
        rows.append(
            [
                camera["name"],
                _relative(camera["files"], folder),
                f"{camera['width']}x{camera['height']}",
                " ".join(["fisheye"] * camera["fisheye"] + lens) or "none",
                str(camera["frames"]),
                *("-" if camera[key] is None else f"{camera[key]:.3g}" for key in ("near", "far")),
                ", ".join(note),
            ]
        )
    return [
        f"{summary['capture']}: layout {summary['layout']}, {summary['source']}",
        f"frames    {first} to {stop - 1} ({count} of {high - low}), {frame_rate_text(rate)}, "
        f"{seconds_text(count * rate[1] / rate[0])}",
        f"images    {_sizes_text(cameras)}{shrunk}",
        *(f"empty     {text}" for text in _empty_text(summary)),
        f"scene     {scene}",
        *_poses_text(summary),
        f"held out  {', '.join(summary['held_out']) or 'none'}",
        f"encode    preset {expected['preset']}: "
        f"{training_text(expected['training']['key'], expected['training']['later'])}",
        *(
            f"network   {network['role']}: {network_text(network['profile'], network['config'])}"
            for network in expected["networks"]
        ),
        f"time      about {seconds_text(expected['seconds'])} on this machine{parts} (an estimate)",
        f"size      about {bytes_text(expected['bytes'])} ({bytes_text(expected['bytes'] / count)} per frame)",
        "",
        *table(rows, left=2),
    ]


def _sizes_text(cameras: list[dict[str, Any]]) -> str:
    sizes = sorted({(camera["width"] * camera["height"], camera["width"], camera["height"]) for camera in cameras})
    (_, *small), (_, *large) = sizes[0], sizes[-1]
    return "{}x{}".format(*small) + (" to {}x{}".format(*large) if len(sizes) > 1 else "")


_EMPTY = {
    "mask": ("left out of training", "matte", "if that is the background of an object"),
    "matte": ("a transparent background", "mask", "if it was only not filmed"),
    "ignore": ("trained on as it is", "mask", "to leave it out"),
}
"""For each meaning of empty pixels: what is done with them, another meaning, and when that would be right."""


def _empty_text(summary: dict[str, Any]) -> list[str]:
    """What pictures leave empty, and what that is taken for; nothing if they leave nothing empty."""
    found, lines = summary["coverage"], []
    if found["told_by"] is not None:
        share = f"{found['told_by']} leave{'s' * (found['told_by'] == 'alpha')}"
        if found["empty"] == "nothing":
            lines.append(f"{share} nothing empty")
        else:
            done, other, reason = _EMPTY[summary["alpha"]]
            where = "a border" if found["empty"] == "border" else "more than a border"
            lines.append(f"{share} {where}, {found['share']:.1%}: {done} (--alpha {other} {reason})")
    borders = [camera["border"] for camera in summary["cameras"] if camera["border"]]
    if borders:
        lines.append(
            f"black or white borders of {len(borders)} cameras, up to {max(borders):.1%}: left out of training "
            "(--alpha ignore trains on them)"
        )
    return lines


def _relative(name: str, folder: Path) -> str:
    path = Path(name)
    return str(path.relative_to(folder)) if folder in path.parents else name

"""`invcodec info`: what a file contains, from its structure alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .options import JSON
from .terminal import say, say_json
from .values import Input, bytes_text, frame_rate_text, network_text, seconds_text, table, training_text


@click.command(
    "info",
    short_help="Show what a file contains.",
    epilog="""\b
Examples:
  invcodec info out.inv
  invcodec info out.inv --records
  invcodec info - < out.inv
  invcodec info http://host:8080/live.inv
  invcodec info out.inv --json""",
)
@click.argument("file", type=Input())
@JSON
@click.option("--records", is_flag=True, help="Also list every record.")
def command(file: Path | str, as_json: bool, records: bool) -> int:
    """Show the networks, frames, cameras and sizes of FILE, and whether it is complete.

    FILE may also be an HTTP URL, or - for standard input. All sizes are bytes in the file. Only the index of a finished
    file is read; use 'verify' to detect damage inside frames. Exits with code 3 if the file is damaged or truncated.
    """
    from invcodec.container.info import describe, describe_stream

    if str(file) == "-":
        info = describe_stream(sys.stdin.buffer, "stdin", records=records)
    else:
        info = describe(file, records=records)
    if as_json:
        say_json(info)
    else:
        say(*_text(info))
    return 3 if info["state"] in ("damaged", "truncated") else 0


def _text(info: Mapping[str, Any]) -> list[str]:
    lines = [f"{info['file']}: {info['state']}, {bytes_text(info['bytes']['file'])}"]
    lines += [f"  {problem}" for problem in info["problems"]]
    lines += [f"{label:<10}{text}" for label, text in facts(info)]
    if "records" in info:
        rows = [["record", "frame", "offset", "bytes"]]
        for record in info["records"]:
            frame = "" if record["frame"] is None else str(record["frame"])
            rows.append([record["type"], frame, str(record["offset"]), str(record["bytes"])])
        lines += ["", *table(rows)]
    return lines


def facts(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a file holds, line by line: a label, which is empty where the line before goes on, and text."""
    frames, size, cameras = info["frames"], info["bytes"], info["cameras"]
    rows = []
    maker = info["encoder"]
    if maker["name"]:
        preset = f", preset {maker['preset']}" if maker["preset"] else ""
        rows.append(("encoder", f"{maker['name']} {maker['version']}{preset}"))
    if maker["key"]["rays"] is not None:
        rows.append(("training", training_text(maker["key"], maker["later"])))
    for network in info["networks"]:
        weights = network["weights"]
        text = (
            f"{network['name']} ({network['role']}): profile {network['profile']} "
            f"{network['profile_version']}, {sum(weights.values()):,} weights "
            f"({weights['structure']:,} structure, {weights['colour']:,} colour)"
        )
        rows += [("network", text), ("", network_text(network["profile"], network["config"]))]
    if frames["count"]:
        interval = f", a keyframe every {frames['key_interval']} frames" if frames["key_interval"] else ""
        text = (
            f"{frames['first']} to {frames['last']}: {frames['count']} ({frames['key']} key){interval}, "
            f"{frame_rate_text(info['frame_rate'])}, {seconds_text(frames['duration'])}"
        )
        rows.append(("frames", text))
        if frames["gaps"]:
            shown = [f"{a}" if a == b else f"{a} to {b}" for a, b in frames["gaps"]]
            rows.append(("gaps", f"{', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}"))
        text = (
            f"{bytes_text(size['per_frame'])} per frame, {info['bit_rate'] / 1e3:.4g} kbit/s; "
            f"key {bytes_text(size['key'])}, delta {bytes_text(size['delta'])}, other {bytes_text(size['other'])}"
        )
        rows.append(("bytes", text))
        for kind, name in (("key", "keyframe"), ("delta", "delta")):
            if size[f"mean_{kind}"] is not None:
                bits = info["bits_per_weight"][kind]
                rows.append(("", f"{name} {bytes_text(size[f'mean_{kind}'])}, {bits:.3g} bits per weight"))
    else:
        rows.append(("frames", "none"))
    held_out = [camera["name"] for camera in cameras if camera["held_out"]]
    first = cameras[0]
    shrunk = f", captured at {info['source_size'][0]}x{info['source_size'][1]}" if info["downscale"] > 1 else ""
    text = (
        f"{len(cameras)}, {first['width']}x{first['height']}{shrunk}: "
        f"{', '.join(camera['name'] for camera in cameras[:12])}{', ...' if len(cameras) > 12 else ''}"
    )
    return [*rows, ("cameras", text), ("held out", ", ".join(held_out) or "none")]

"""Quality, size and time of presets on one capture: the tables of README.md and benchmarks/README.md.

    python benchmarks/quality.py --data demo/capture
    python benchmarks/quality.py --data studio --downscale 2 --holdout cam00 --frames 0:8 --rows medium

Each row is one encode through the command line in a separate process. Quality is that of the held-out cameras as
`invcodec eval` measures it, and, under *training views*, that of pixels of all other cameras that are kept from
training, and in brackets of those of them that moved: new views lose the difference. Times run from process start to
the flushed record. A row such as `medium:nerf` is a preset with another profile; one such as `paper@60/4` trains for
seconds in place of the preset's steps (keyframe / later frames; `medium@60` gives every frame 60 s).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import common

_NO_LIMIT = 10**9
"""Steps that no frame takes."""


def options_of(row: str, arguments: argparse.Namespace) -> list[str]:
    """Options of `invcodec encode` for a row, including those of all rows."""
    choice, _, times = row.partition("@")
    preset, _, profile = choice.partition(":")
    key, _, frame = times.partition("/")
    options = ["--preset", preset]
    options += ["--profile", profile] if profile else []
    if key:
        options += ["--steps", str(_NO_LIMIT), "--key-seconds", key, "--seconds-per-frame", frame or key]
    options += ["--downscale", str(arguments.downscale)]
    options += ["--frames", arguments.frames] if arguments.frames else []
    for name in arguments.holdout:
        options += ["--holdout", name]
    return options


def encode(
    row: str,
    arguments: argparse.Namespace,
    out: Path,
    extra: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Encode and measure one row; `extra` are additional options."""
    options = [*options_of(row, arguments), *extra]
    done = common.encode(common.PROGRAM, arguments.data, out, options, row, environment)
    report = common.evaluate(common.PROGRAM, out, arguments.data)
    later = [after["at"] - before["at"] for before, after in pairwise(done)]
    sizes = [frame["bytes"] for frame in done]

    def by_frame(figure: str) -> list[float | None]:
        return [common.mean_known(c[figure] for c in frame["cameras"].values()) for frame in report["frames"]]

    return {
        "row": row,
        "command": " ".join(["invcodec encode", arguments.data.name, "out.inv", *options]),
        "frames": len(done),
        "cameras": report["cameras"],
        "set": report["set"],
        "key_seconds": done[0]["at"],
        "frame_seconds_mean": mean(later) if later else None,
        "frame_seconds_max": max(later, default=None),
        "psnr": report["mean"]["psnr"],
        "psnr_training_views": mean(frame["psnr"] for frame in done),
        "psnr_moving_training_views": common.mean_known(frame["psnr_moving"] for frame in done),
        "psnr_moving": report["mean"]["psnr_moving"],
        "psnr_static": report["mean"]["psnr_static"],
        "ssim": report["mean"]["ssim"],
        "psnr_by_frame": by_frame("psnr"),
        "psnr_moving_by_frame": by_frame("psnr_moving"),
        "steps_by_frame": [frame["steps"] for frame in done],
        "key_bytes": sizes[0],
        "later_bytes_mean": mean(sizes[1:]) if later else None,
        "later_bytes_max": max(sizes[1:], default=None),
        "file_bytes": out.stat().st_size,
        "peak_mb": done[-1]["peak_mb"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows as a markdown table."""
    lines = [
        f"| preset | {rows[0]['set']} PSNR | training views (moving) | moving / static pixels | SSIM | keyframe | "
        "later frames, mean (worst) | keyframe, later frames, file per frame |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        moving, static = ("-" if row[key] is None else f"{row[key]:.1f}" for key in ("psnr_moving", "psnr_static"))
        changed = row.get("psnr_moving_training_views")
        views = "" if changed is None else f" ({changed:.1f} dB)"
        later = "-"
        if row["frame_seconds_mean"] is not None:
            later = f"{row['frame_seconds_mean']:.1f} s ({row['frame_seconds_max']:.1f} s)"
        sizes = [row["key_bytes"], row["later_bytes_mean"], row["file_bytes"] / row["frames"]]
        size = ", ".join("-" if value is None else f"{value / 1000:.1f} kB" for value in sizes)
        lines.append(
            f"| `{row['row']}` | {row['psnr']:.2f} dB | {row['psnr_training_views']:.2f} dB{views} | "
            f"{moving} / {static} dB | {row['ssim']:.3f} | "
            f"{row['key_seconds']:.0f} s | {later} | {size} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture")
    parser.add_argument("--rows", nargs="+", default=["draft", "fast", "medium"], help="presets, or preset@key/frame")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--frames", help="as 0:8")
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [encode(row, arguments, Path(folder) / "out.inv") for row in arguments.rows]
    print(table(rows))
    if arguments.save:
        common.save(arguments.save, {"rows": rows})


if __name__ == "__main__":
    main()

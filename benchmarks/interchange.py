"""What `invcodec export` loses: exported files, read back and rendered, beside what `invcodec decode` shows.

    python benchmarks/interchange.py demo.inv studio.inv --splats 100000 250000 1000000

Each row is one export of the file's first frame. PSNR is of the held-out cameras' pictures, without their exposure and
white balance, against those that the file itself gives; the background is the file's, or black.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
from exported import Picture, read_mesh, read_splats

import invcodec
from invcodec.geometry.rig import quarter_turn_upright
from invcodec.metrics import psnr, to_8_bit


def measure(file: Path, options: list[str], out: Path, read: Callable[[Path, np.ndarray], tuple[int, Picture]]) -> str:
    """A row of the table: an export of a file's first frame by some options, of which `out` is what is written."""
    command = [*common.PROGRAM, "export", str(file), "--frame", "first", "-f", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with invcodec.open(file) as video:
        frame = video.frames[0]
        written = out if out.is_file() else next(out.iterdir())
        count, picture = read(written, quarter_turn_upright(frame.cameras))
        background = np.zeros(3) if video.transparent else np.array(video.head.background)
        held_out = [camera for camera in frame.cameras if camera.held_out]
        decibels = [
            psnr(to_8_bit(picture(camera, background)), frame.render(camera, neutral_colour=True).rgb)
            for camera in held_out
        ]
        size = f"{held_out[0].width}x{held_out[0].height}"
    what = " ".join(option for option in options if option not in (str(out), str(out.parent)))
    return (
        f"| {file.stem}, {size} | `{what}` | {count:,} | {written.stat().st_size / 1e6:.1f} | {np.mean(decibels):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help=".inv files with held-out cameras")
    parser.add_argument("--splats", type=int, nargs="+", default=[250_000])
    arguments = parser.parse_args()
    print("| file | export | splats or triangles | MB | PSNR, dB |\n|---|---|---|---|---|")
    for file in arguments.files:
        for most in arguments.splats:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                print(measure(file, ["--ply", folder, "--splats", str(most)], out, read_splats), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "frame.glb"
            print(measure(file, ["--mesh", str(out)], out, read_mesh), flush=True)


if __name__ == "__main__":
    main()

"""How long the player decodes, how much work its pictures are without a GPU, and what saves how much of that.

Times are of SwiftShader, which renders on the CPU: they say how the ways compare. The counts hold for every device.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from importlib import import_module
from pathlib import Path

from common import ROOT, save

sys.path.insert(0, str(ROOT / "tests"))

GPUS = (
    ("integrated, 0.5 TFLOPS", 0.5e12, 10e9),
    ("integrated, 2 TFLOPS", 2e12, 40e9),
    ("discrete, 20 TFLOPS", 20e12, 300e9),
)
"""Floating-point operations and texels a second at best; names are of the class of device, not of a product."""
SHARE = 0.25
"""Of those, what divergent rays and lookups in tables leave: an assumption."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="an .inv file of profile grid or nerf")
    parser.add_argument(
        "--sizes", nargs="+", default=["160x120", "320x240", "640x480"], help="the first one is taken apart"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    in_a_page = import_module("test_player").in_a_page
    sizes = [[int(side) for side in size.split("x")] for size in options.sizes]
    script = f"return player.measure('/files/{options.file.name}', {json.dumps(sizes)}, {options.repeats});"
    rows = asyncio.run(in_a_page(script, files=options.file.absolute().parent))
    pictures = [row for row in rows if "without" in row]
    (upload,) = (row for row in rows if "keyBytes" in row)
    (times,) = (row["decoding"] for row in rows if "decoding" in row)
    first, *deltas, again = (f"{milliseconds:.0f}" for milliseconds in times)
    print(f"decoding in ms: the keyframe {first}, once its code is compiled {again}; deltas {', '.join(deltas)}\n")
    print("| | size | ms | cells | samples | texels | multiply-adds |\n|---|---|---|---|---|---|---|")
    for row in pictures:
        size = "x".join(map(str, row["size"]))
        counts = " | ".join(f"{row[key]:,.0f}" for key in ("texels", "products"))
        samples = " | ".join(f"{row[key]:.1f}" for key in ("cells", "samples"))
        print(f"| {row['without']} | {size} | {row['milliseconds']:.0f} | {samples} | {counts} |")
    print(f"\nuploaded: {upload['keyBytes']} bytes of a keyframe's table, {upload['deltaBytes']} of the next frame's")
    one = pictures[0]
    print(f"\nestimates, at {SHARE:.0%} of what a device can do, whichever of products and texels takes longer:")
    for name, operations, texels in GPUS:
        rays = SHARE / max(2 * one["products"] / operations, one["texels"] / texels)
        print(f"  {name}: {rays / 1e6:.1f} million pixels a second; {1000 * 1280 * 720 / rays:.0f} ms at 1280x720")
    if options.save:
        save(options.save, {"decoding": times, "pictures": pictures, "upload": upload})


if __name__ == "__main__":
    main()

"""The pictures of benchmarks/README.md: truth, decoded picture, and difference, at full size.

    invcodec eval out.inv studio_hd --save compared/
    python benchmarks/pictures.py compared/out-000005-cam00.png -o benchmarks/results/studio_hd.jpg

The difference is absolute and several times as bright (--brighter), on black.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def beside_difference(compared: np.ndarray, brighter: int) -> np.ndarray:
    """`[H, 3 W, 3]` uint8 from `[H, 2 W, 3]` uint8, truth on the left, as `invcodec eval --save` writes it."""
    truth, decoded = np.split(compared, 2, axis=1)
    difference = np.abs(truth.astype(np.int32) - decoded) * brighter
    return np.concatenate([compared, difference.clip(max=255).astype(np.uint8)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compared", type=Path, help="picture that `invcodec eval --save` wrote")
    parser.add_argument("--brighter", type=int, default=8, help="factor of the difference; 8 if not given")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JPEG file")
    arguments = parser.parse_args()
    with Image.open(arguments.compared) as picture:
        compared = np.asarray(picture.convert("RGB"))
    Image.fromarray(beside_difference(compared, arguments.brighter)).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()

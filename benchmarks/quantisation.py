"""The cost of rounding weights: a chain of frames against the same chain with practically no rounding.

    python benchmarks/quantisation.py --data studio --downscale 2 --holdout cam00 --frames 0:24

Both are trained with the same number of steps and the same seed; each continues from its own decoded frames.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import common

import invcodec
from invcodec.decoding.evaluation import evaluate
from invcodec.encoding.settings import Settings
from invcodec.training.schedule import Budget

_FINER = 1 / 64
_ENDS = 4
"""Number of frames compared at either end: after the keyframe, and at the end."""


def psnr_by_frame(capture: Any, settings: Settings, path: Path) -> tuple[list[float], list[float | None]]:
    """Of all pixels, and of moving ones, means over cameras."""
    invcodec.encode_capture(capture, path, settings)
    with invcodec.open(path) as video:
        rows = [row["cameras"].values() for row in evaluate(video, capture)["frames"]]
    return (
        [mean(camera["psnr"] for camera in row if camera["psnr"] is not None) for row in rows],
        [common.mean_known(camera["psnr_moving"] for camera in row) for row in rows],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a capture")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--frames", default=":", help="as 0:8; default: all")
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--key-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=200, help="steps of every later frame")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    first, _, stop = arguments.frames.partition(":")
    capture = invcodec.open_capture(
        arguments.data,
        downscale=arguments.downscale,
        holdout=arguments.holdout or None,
        frames=(int(first) if first else None, int(stop) if stop else None),
    )
    given = invcodec.resolve(quality=arguments.quality)
    settings = replace(
        given,
        key=replace(given.key, budget=Budget(steps=arguments.key_steps)),
        warm=replace(given.warm, budget=Budget(steps=2 * arguments.steps)),
        delta=replace(given.delta, budget=Budget(steps=arguments.steps)),
    )
    finer = replace(settings, fine_step=settings.fine_step * _FINER, dead_zone=0.5)
    with tempfile.TemporaryDirectory() as folder:
        rounded, rounded_moving = psnr_by_frame(capture, settings, Path(folder) / "rounded.inv")
        plain, plain_moving = psnr_by_frame(capture, finer, Path(folder) / "plain.inv")
    costs = [b - a for a, b in zip(rounded, plain, strict=True)]
    pairs = zip(rounded_moving, plain_moving, strict=True)
    moving = common.mean_known(None if a is None or b is None else b - a for a, b in pairs)
    print("| frame | rounded | not rounded | cost |\n|---|---|---|---|")
    for index, (a, b, cost) in enumerate(zip(rounded, plain, costs, strict=True)):
        print(f"| {index} | {a:.2f} dB | {b:.2f} dB | {cost:.2f} dB |")
    print(
        f"\nmean {mean(costs):.2f} dB, first {_ENDS} frames after the keyframe {mean(costs[1 : 1 + _ENDS]):.2f} dB, ",
        end="",
    )
    print(f"last {_ENDS} {mean(costs[-_ENDS:]):.2f} dB", end="")
    print("" if moving is None else f"; moving pixels, mean {moving:.2f} dB")
    if arguments.save:
        figures = {"rounded": rounded, "not_rounded": plain}
        moved = {"rounded_moving": rounded_moving, "not_rounded_moving": plain_moving}
        common.save(arguments.save, figures | moved)


if __name__ == "__main__":
    main()

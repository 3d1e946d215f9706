"""INV's claims, reproduced small: every claim of the paper that a capture of this size can show, in one table.

    python benchmarks/inv.py --data studio --downscale 2 --holdout cam00 --frames 0:17
    python benchmarks/inv.py --data tiny --holdout cam00 --claims warm-up layers

Networks are those of profile `nerf` (or of `--profile`), in one process. All rows have the same keyframe: same seed,
same steps. What a row varies is all that differs from the first row, in which later frames start from the last one,
everything is trained in one of them, and then the first three layers alone. Quality is that of the held-out cameras in
the later frames; bytes are those of their records. Claims:

    incremental  each frame from the last one, against frames trained from scratch, for multiples of the steps
    warm-up      frames in which everything is trained, before the shared layers are frozen
    layers       how many layers hold structure, and are trained and sent after the warm-up
    coding       bytes of the structure layers: fpzip at 16 bits, alone and stacked over all frames, as published,
                 against records, which need no later frame (needs `pip install fpzip` and
                 `pip install --no-deps nncodec`; see coders.py)

A frame trained from scratch is the first frame of a file of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from time import monotonic
from typing import Any

import common
import numpy as np

import invcodec
from invcodec.coding.chain import StateReader
from invcodec.encoding.settings import Settings
from invcodec.training.schedule import Budget

CLAIMS = "incremental", "warm-up", "layers", "coding"
_STRUCTURE_LAYERS = 3
"""As published."""
_WARM_UPS = 0, 1, 4, 16
_LAYERS = 1, 2, 3, 5
_MULTIPLES = 1, 2, 4, 8, 16
"""Of the steps of a later frame, for frames trained from scratch."""


@dataclass(frozen=True)
class Row:
    """One way to encode the frames.

    Attributes:
        steps: of each later frame, and seconds that training it took.
        psnr, moving, static: dB, means over later frames and held-out cameras.
        sizes: bytes of every record, the keyframe's first.
    """

    name: str
    steps: int
    seconds: float
    psnr: float
    moving: float | None
    static: float | None
    sizes: list[int]

    @property
    def later(self) -> float:
        """Mean bytes of a later frame."""
        return mean(self.sizes[1:]) if len(self.sizes) > 1 else mean(self.sizes)


class Bench:
    """Encodes rows of one capture.

    Args:
        arguments: of the command line.
        folder: for files.

    Attributes:
        frames: how many there are.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._first, self._end = (int(each) for each in arguments.frames.split(":"))
        self.frames = self._end - self._first

    def settings(self, steps: int, *, warmup: int | None, layers: int | None = None) -> Settings:
        """Settings of a row.

        Args:
            steps: of a later frame.
            warmup: frames after the first in which everything is trained; None for all.
            layers: that hold structure; those of the profile if None.
        """
        arguments = self._arguments
        settings = invcodec.resolve(arguments.preset, profile=arguments.profile, steps=steps, key_every=0)
        networks = settings.networks
        if layers is not None:
            networks = tuple(
                {**network, "config": {**network["config"], "structure_layers": layers}} for network in networks
            )
        key = replace(settings.key, budget=Budget(steps=arguments.key_steps))
        return replace(settings, networks=networks, key=key, warmup=warmup)

    def encode(self, name: str, settings: Settings, frames: tuple[int, int] | None = None) -> tuple[Row, Path]:
        """Encode a row; `frames` are those of the arguments if None."""
        first, end = frames or (self._first, self._end)
        arguments = self._arguments
        path = self._folder / f"{name.replace(' ', '-')}-{first}.inv"
        capture = invcodec.open_capture(
            arguments.data, frames=(first, end), downscale=arguments.downscale, holdout=arguments.holdout
        )
        started = monotonic()
        done = invcodec.encode_capture(capture, path, settings, force=True)
        seconds = monotonic() - started
        with invcodec.open(path) as video:
            report = invcodec.evaluate(video, capture)
        later = report["frames"][1:] or report["frames"]

        def figure(key: str) -> float | None:
            cameras = (camera for frame in later for camera in frame["cameras"].values())
            return common.mean_known(camera[key] for camera in cameras)  # type: ignore[literal-required]

        steps = round(mean(frame.steps for frame in done[1:] or done))
        row = Row(
            name,
            steps,
            seconds / len(done),
            figure("psnr") or 0.0,
            figure("psnr_moving"),
            figure("psnr_static"),
            [frame.bytes for frame in done],
        )
        print(line(row), flush=True)
        return row, path

    def scratch(self, steps: int) -> Row:
        """Frames trained from scratch for some steps each: the mean over `--scratch-frames` of them, evenly spread."""
        arguments = self._arguments
        settings = self.settings(steps, warmup=None)
        settings = replace(settings, key=replace(settings.key, budget=Budget(steps=steps)))
        numbers = np.linspace(self._first + 1, self._end - 1, arguments.scratch_frames).round().astype(int)
        rows = [self.encode(f"from scratch, {steps} steps", settings, (int(n), int(n) + 1))[0] for n in numbers]
        return Row(
            f"from scratch, {steps} steps",
            steps,
            mean(row.seconds for row in rows),
            mean(row.psnr for row in rows),
            common.mean_known(row.moving for row in rows),
            common.mean_known(row.static for row in rows),
            [round(mean(row.sizes[0] for row in rows))],
        )


def steps_to_reach(psnr: float, rows: Sequence[Row]) -> float | None:
    """Steps from scratch that reach a PSNR, between those of `rows` (in order of steps) on a logarithmic scale.

    None if the most steps do not reach it; at most the fewest steps if these do.
    """
    if psnr <= rows[0].psnr:
        return float(rows[0].steps)
    for low, high in pairwise(rows):
        if low.psnr < psnr <= high.psnr:
            share = (psnr - low.psnr) / (high.psnr - low.psnr)
            return float(low.steps * (high.steps / low.steps) ** share)
    return None


def coded(path: Path) -> dict[str, float]:
    """Bytes of a later frame's structure tensors by coder, and of the whole network as float32."""
    from coders import fpzip_bytes

    with StateReader(path) as reader:
        states = [reader.state_at(entry.number) for entry in reader.frames]
        sizes = [entry.length for entry in reader.frames]
    everything = states[0].weights()
    # Warm-up frames send everything; what the paper stacks is what later ones send.
    lead = [key for key in everything if (states[-1].levels[key] != states[-2].levels[key]).any()]
    later = [state.weights() for state in states[1:]]
    flat = {key: [each[key].reshape(-1, each[key].shape[-1]) for each in later] for key in lead}
    return {
        "record": mean(sizes[1:]),
        "fpzip": mean(sum(fpzip_bytes(flat[key][n]) for key in lead) for n in range(len(later))),
        "fpzip_stacked": sum(fpzip_bytes(np.stack(flat[key])) for key in lead) / len(later),
        "structure_float32": float(sum(4 * everything[key].size for key in lead)),
        "network_float32": float(sum(4 * value.size for value in everything.values())),
        "key": float(sizes[0]),
    }


def line(row: Row) -> str:
    moving, static = ("-" if value is None else f"{value:.1f}" for value in (row.moving, row.static))
    return (
        f"| {row.name} | {row.steps} | {row.seconds:.1f} s | {row.psnr:.2f} dB | {moving} / {static} dB | "
        f"{row.later / 1000:.1f} kB |"
    )


def claims(bench: Bench, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the chosen claims, one result after another."""
    steps = arguments.steps
    base, path = bench.encode("incremental, warm-up of 1", bench.settings(steps, warmup=1))
    yield {"claim": "base", **vars(base)}
    if "incremental" in arguments.claims:
        rows = [bench.scratch(multiple * steps) for multiple in _MULTIPLES]
        reached = steps_to_reach(base.psnr, rows)
        print(f"steps from scratch to {base.psnr:.2f} dB: {'not reached' if reached is None else f'{reached:.0f}'}")
        yield from ({"claim": "incremental", **vars(row)} for row in rows)
        yield {"claim": "incremental", "steps_to_equal_psnr": reached, "ratio": reached and reached / steps}
    if "warm-up" in arguments.claims:
        for warmup in _WARM_UPS:
            if warmup != 1 and warmup < bench.frames:
                row, _ = bench.encode(f"warm-up of {warmup}", bench.settings(steps, warmup=warmup))
                yield {"claim": "warm-up", **vars(row)}
        row, _ = bench.encode("everything trained in all frames", bench.settings(steps, warmup=None))
        yield {"claim": "warm-up", **vars(row)}
    if "layers" in arguments.claims:
        for layers in _LAYERS:
            if layers != _STRUCTURE_LAYERS:
                row, _ = bench.encode(f"s = {layers}", bench.settings(steps, warmup=1, layers=layers))
                yield {"claim": "layers", **vars(row)}
    if "coding" in arguments.claims:
        sizes = coded(path)
        share = sizes["record"] / sizes["key"]
        print(f"a later frame is {100 * share:.1f} % of the keyframe's bytes; of float32: {sizes}")
        yield {"claim": "coding", **sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--frames", default="0:18", help="as 0:18")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--profile", default="nerf", help="nerf or grid; `layers` needs nerf")
    parser.add_argument("--key-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=300, help="of a later frame")
    parser.add_argument("--scratch-frames", type=int, default=2, help="frames to train from scratch")
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    print("| networks | steps | seconds a frame | PSNR | moving / static | a later frame |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        results = list(claims(Bench(arguments, Path(folder)), arguments))
    if arguments.save:
        common.save(arguments.save, {"rows": results})


if __name__ == "__main__":
    main()

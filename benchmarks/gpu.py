"""Everything to measure on a CUDA GPU, in one run; without a GPU it reports so and measures nothing.

    python benchmarks/gpu.py --data captures/ --save benchmarks/results/gpu.json
    python benchmarks/gpu.py --data captures/ --save benchmarks/results/gpu.json --parts paper

The parts, each of which can be run alone:

    agree      the same file rendered on the CPU and on the GPU
    steps      milliseconds of a training step: fused kernels with and without a recorded graph, and plain torch
    captured   each of --captures with the rows of --rows: held-out quality, bytes, seconds
    paper      the first frame of each with the full published configuration
    synthetic  a ray-traced capture of 20 training cameras with wide lenses at 1352x1014: seconds a frame, rendered
               frames a second

`--data` is a folder of captures; each holds out a camera. Parts `agree` and `steps` take the first of --captures, which
needs two frames. The synthetic capture is written to `--synthetic` unless it exists. This needs no GPU, so do it
beforehand, with the options of `SYNTHETIC`. Rows and times are those of `speed.py`. The first row of a capture compiles
the kernels for its networks, which may take a minute: the one that has targets comes later.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import common
import numpy as np
import quality
from common import PROGRAM, Results
from speed import few, kB, rendering, shown_camera

from invcodec.capture.capture import open_capture
from invcodec.decoding.video import Video
from invcodec.encoding.presets import resolve
from invcodec.field.profile import TensorKey
from invcodec.metrics import psnr
from invcodec.names import DEFAULT_PRESET
from invcodec.render.networks import Networks, build_networks
from invcodec.training.change import ChangeFinder
from invcodec.training.pixels import FramePixels, Views

CAPTURES = ("studio_hd", "flame_steak_f0")
SYNTHETIC = ["--rig=arc", "--cameras=21", "--focal-length=0.54", "--size=1352x1014", "--frames=4", "--scene=changing"]
"""A rig like that of the real capture: a forward arc of wide lenses, one of them held out."""
ROWS = ("fast", "medium", "slow")
TARGETS = {"medium": (15, 1)}
"""Seconds of a keyframe and of a later frame to be reached on one H100, by row."""
STEP_RAYS, STEP_REPEATS = (1024, 4096, 16384), 100
"""Numbers of rays of the timed steps, and number of steps that each time is averaged over."""
AGREEMENT = 50.0
"""PSNR in dB between the GPU's and the CPU's picture that counts as agreement: half a level of 255 on average."""
_DEVICE = ["--device", "cuda"]


def measure_agreement(arguments: Namespace, folder: Path, results: Results) -> None:
    for row in ("draft", "draft:nerf"):
        file = folder / "agree.inv"
        options = [*quality.options_of(row, few(arguments, 2)), *_DEVICE]
        common.encode(PROGRAM, leading(arguments), file, options, row)
        views = []
        for device in ("cpu", "cuda"):
            with Video(file, device=device) as video:
                view = video.frames[-1].render(shown_camera(video))
                views.append(view.rgb.astype(np.int16))
        difference = np.abs(views[0] - views[1])
        decibels = psnr(*views)
        results.keep(
            "agree",
            row,
            {
                "psnr": decibels,
                "agrees": decibels >= AGREEMENT,
                "needed_psnr": AGREEMENT,
                "largest_difference": int(difference.max()),
                "share_off_by_more_than_1": float((difference > 1).mean()),
            },
        )


def measure_steps(arguments: Namespace, folder: Path, results: Results) -> None:
    """Time steps on the second frame of a capture, starting from the weights of a draft of the first."""
    file = folder / "steps.inv"
    options = [*quality.options_of("draft", few(arguments, 1)), *_DEVICE]
    common.encode(PROGRAM, leading(arguments), file, options, "steps")
    capture = open_capture(leading(arguments), frames=(0, 2))
    chosen = [i for i, camera in enumerate(capture.cameras) if not camera.held_out]
    with Video(file, device="cpu") as video:
        networks = build_networks(video.head)
        weights = video.source.state_at(0).weights()
    views = Views([capture.cameras[i] for i in chosen], networks.space)
    first, second = (
        FramePixels.gather([common.complete(frame)[i] for i in chosen], [None] * len(chosen), views.validation)
        for frame in capture.frames(0)
    )
    frame = ChangeFinder(views, networks.shown.profile.config["occupancy"]).find(second, first)
    for name, milliseconds in step_times(networks, weights, views, frame, "cuda").items():
        results.keep("steps", name, {"milliseconds": milliseconds})


def step_times(
    networks: Networks,
    weights: Mapping[TensorKey, np.ndarray],
    views: Views,
    frame: FramePixels,
    device: str,
    counts: Sequence[int] = STEP_RAYS,
    repeats: int = STEP_REPEATS,
) -> dict[str, float]:
    """Milliseconds of a step of a later frame, by implementation and number of rays."""
    import torch

    from invcodec.render.gpu import GpuEngine
    from invcodec.render.reference import TorchEngine
    from invcodec.training.device import DeviceSteps
    from invcodec.training.steps import HostSteps

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    schedule = resolve(DEFAULT_PRESET).delta
    samples = networks.samples
    fused, plain = GpuEngine(networks, device=device), TorchEngine(networks, device=device)
    recorded, unrecorded = DeviceSteps(fused, views, None), DeviceSteps(fused, views, None, record=False)
    ways = {"fused, recorded": recorded, "fused": unrecorded, "torch": HostSteps(plain, views, None)}
    times = {}
    for name, steps in ways.items():
        engine = plain if name == "torch" else fused
        engine.load({key: value for key, value in weights.items() if key[0] == networks.shown.name})
        engine.begin(networks.lead, schedule.price)
        steps.start(frame, schedule, np.random.default_rng(0), observe=False)
        for rays in counts:
            for count in (3, repeats):
                wait()
                started = clock()
                for _ in range(count):
                    steps.step(rays, samples, 0.0, 0.0)
                wait()
            times[f"{name}, {rays} rays"] = 1000 * (clock() - started) / repeats
    return times


def measure_captured(arguments: Namespace, folder: Path, results: Results) -> None:
    for name in arguments.captures:
        for row in arguments.rows:
            results.keep("captured", f"{name}, {row}", encoded(row, arguments.data / name, arguments, folder))


def measure_paper(arguments: Namespace, folder: Path, results: Results) -> None:
    for name in arguments.captures:
        results.keep("paper", name, encoded("paper", arguments.data / name, few(arguments, 1), folder))


def measure_synthetic(arguments: Namespace, folder: Path, results: Results) -> None:
    made = arguments.synthetic or folder / "synthetic"
    if not made.exists():
        subprocess.run([*PROGRAM, "synth", str(made), *SYNTHETIC], check=True)
    for row in arguments.rows:
        results.keep("synthetic", row, encoded(row, made, arguments, folder))


def leading(arguments: Namespace) -> Path:
    """The first capture."""
    return arguments.data / arguments.captures[0]


def encoded(row: str, capture: Path, arguments: Namespace, folder: Path) -> dict[str, Any]:
    """The figures of a row, and how fast the GPU renders its result."""
    file = folder / "out.inv"
    here = Namespace(**{**vars(arguments), "data": capture})
    return {"capture": capture.name, **quality.encode(row, here, file, _DEVICE), **rendering(file, "cuda")}


def tables(parts: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    out = [
        f"- `{name}`: GPU against CPU {row['psnr']:.1f} dB, largest difference {row['largest_difference']} of 255: "
        + ("agrees" if row["agrees"] else f"DOES NOT AGREE ({AGREEMENT:g} dB needed)")
        for name, row in parts.get("agree", {}).items()
    ]
    if steps := parts.get("steps"):
        out += ["", "| a step of a later frame | time |", "|---|---|"]
        out += [f"| {name} | {row['milliseconds']:.3f} ms |" for name, row in steps.items()]
    rows = [row for part in ("captured", "paper", "synthetic") for row in parts.get(part, {}).values()]
    if rows:
        out += [
            "",
            "| capture | preset | held-out PSNR (moving), SSIM | keyframe | later frames: mean, worst "
            "| bytes | a view |",
        ]
        out += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        key, later = f"{row['key_seconds']:.1f} s", "-"
        if row["frame_seconds_mean"] is not None:
            later = f"{row['frame_seconds_mean']:.2f} s, {row['frame_seconds_max']:.2f} s"
        if targets := TARGETS.get(row["row"]):
            key, later = (f"{time} (target: {target} s)" for time, target in zip((key, later), targets, strict=True))
        sizes = ", ".join(kB(row[name]) for name in ("key_bytes", "later_bytes_mean"))
        moving = "" if row["psnr_moving"] is None else f" ({row['psnr_moving']:.2f} dB)"
        width, height = row["size"]
        out.append(
            f"| {row['capture']}, {width}x{height} | `{row['row']}` | {row['psnr']:.2f} dB{moving}, {row['ssim']:.3f} "
            f"| {key} | {later} | {sizes} "
            f"| {1000 * row['render_seconds']:.1f} ms ({1 / row['render_seconds']:.1f}/s) |"
        )
    return "\n".join(out).strip()


def gpu() -> str:
    """The name of the GPU; exits if there is none."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu.py needs a CUDA GPU and torch finds none: nothing was measured")
    device = torch.cuda.get_device_properties(0)
    return f"{device.name}, {device.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"


PARTS = {
    "agree": measure_agreement,
    "steps": measure_steps,
    "captured": measure_captured,
    "paper": measure_paper,
    "synthetic": measure_synthetic,
}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of captures")
    parser.add_argument("--captures", nargs="+", default=CAPTURES, help=f"in it; default: {' '.join(CAPTURES)}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="default: all")
    parser.add_argument("--rows", nargs="+", default=ROWS, help="of parts captured and synthetic")
    parser.add_argument("--synthetic", type=Path, help="folder of the synthetic capture; default: a temporary one")
    parser.add_argument("--save", type=Path, help="put the results there, as JSON")
    arguments = parser.parse_args(given)
    device = gpu()
    if missing := [name for name in arguments.captures if not (arguments.data / name).is_dir()]:
        raise SystemExit(f"{arguments.data}: has no folder {missing[0]}; name captures with --captures")
    arguments.downscale, arguments.frames, arguments.holdout = 1, None, []
    results = Results(arguments.save, {"gpu": device})
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            PARTS[part](arguments, Path(folder), results)
    print(tables(results.parts))


if __name__ == "__main__":
    main()

"""Everything to measure on a CUDA GPU, in one run; without a GPU it reports so and measures nothing.

    python benchmarks/gpu.py --data captures/ --save benchmarks/results/gpu.json
    python benchmarks/gpu.py --data captures/ --save benchmarks/results/gpu.json --parts paper

The parts, each of which can be run alone:

    agree      the same file rendered on the CPU and on the GPU
    steps      milliseconds of a training step: fused kernels with and without a recorded graph, and plain torch
    captured   a capture (`studio_hd`), with the rows of --rows: held-out quality, bytes, seconds
    paper      its first frame with the full published configuration
    synthetic  a ray-traced capture of 18 training cameras at 1352x1014: seconds a frame, rendered frames a second

`--data` is a folder of captures. The synthetic one is written to `--synthetic` unless it exists; this needs no GPU, so
do it beforehand. Rows and times are those of `speed.py`.
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

CAPTURED = "studio_hd"
CAMERAS, SIZE, FRAMES = 19, "1352x1014", 4
"""Number of cameras of the synthetic capture; one is held out."""
ROWS = ("medium@30/0.5", "medium@60/0.8", "medium")
STEP_RAYS, STEP_REPEATS = (1024, 4096, 16384), 100
"""Numbers of rays of the timed steps, and number of steps that each time is averaged over."""
AGREEMENT = 50.0
"""PSNR in dB between the GPU's and the CPU's picture that counts as agreement: half a level of 255 on average."""
_DEVICE = ["--device", "cuda"]


def measure_agreement(arguments: Namespace, folder: Path, results: Results) -> None:
    for row in ("draft", "draft:nerf"):
        file = folder / "agree.inv"
        options = [*quality.options_of(row, few(arguments, 2)), *_DEVICE]
        common.encode(PROGRAM, arguments.data, file, options, row)
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
    """Time steps on the second frame of the capture, starting from the weights of a draft of the first."""
    file = folder / "steps.inv"
    options = [*quality.options_of("draft", few(arguments, 1)), *_DEVICE]
    common.encode(PROGRAM, arguments.data, file, options, "steps")
    capture = open_capture(arguments.data, frames=(0, 2))
    chosen = [i for i, camera in enumerate(capture.cameras) if not camera.held_out]
    with Video(file, device="cpu") as video:
        networks = build_networks(video.head)
        weights = video.source.state_at(0).weights()
    views = Views([capture.cameras[i] for i in chosen], networks.space)
    first, second = (
        FramePixels.gather([frame.images[i] for i in chosen], [None] * len(chosen), views.validation)
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
    for row in arguments.rows:
        results.keep("captured", row, encoded(row, arguments, folder))


def measure_paper(arguments: Namespace, folder: Path, results: Results) -> None:
    results.keep("paper", "paper", encoded("paper", few(arguments, 1), folder))


def measure_synthetic(arguments: Namespace, folder: Path, results: Results) -> None:
    made = arguments.synthetic or folder / "synthetic"
    if not made.exists():
        size = ["--cameras", str(CAMERAS), "--size", SIZE, "--frames", str(FRAMES)]
        subprocess.run([*PROGRAM, "synth", str(made), *size, "--scene", "changing"], check=True)
    for row in arguments.rows:
        here = Namespace(**{**vars(arguments), "data": made, "frames": None, "holdout": []})
        results.keep("synthetic", row, encoded(row, here, folder))


def encoded(row: str, arguments: Namespace, folder: Path) -> dict[str, Any]:
    """The figures of a row, and how fast the GPU renders its result."""
    file = folder / "out.inv"
    return {**quality.encode(row, arguments, file, _DEVICE), **rendering(file, "cuda")}


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
    rows = [(part, row) for part in ("captured", "paper", "synthetic") for row in parts.get(part, {}).values()]
    if rows:
        out += ["", "| capture | preset | held-out PSNR | keyframe | later frames: mean, worst | bytes | a view |"]
        out += ["|---|---|---|---|---|---|---|"]
    for part, row in rows:
        later = "-"
        if row["frame_seconds_mean"] is not None:
            later = f"{row['frame_seconds_mean']:.2f} s, {row['frame_seconds_max']:.2f} s"
        sizes = ", ".join(kB(row[key]) for key in ("key_bytes", "later_bytes_mean"))
        width, height = row["size"]
        out.append(
            f"| {CAPTURED if part != 'synthetic' else 'synthetic'}, {width}x{height} | `{row['row']}` "
            f"| {row['psnr']:.2f} dB | {row['key_seconds']:.1f} s | {later} | {sizes} "
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
    parser.add_argument("--data", type=Path, required=True, help=f"folder of captures, {CAPTURED} among them")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="default: all")
    parser.add_argument("--rows", nargs="+", default=ROWS, help="of parts captured and synthetic")
    parser.add_argument("--synthetic", type=Path, help="folder of the synthetic capture; default: a temporary one")
    parser.add_argument("--save", type=Path, help="put the results there, as JSON")
    arguments = parser.parse_args(given)
    device = gpu()
    arguments.data /= CAPTURED
    arguments.downscale, arguments.frames, arguments.holdout = 1, None, []
    results = Results(arguments.save, {"gpu": device})
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            PARTS[part](arguments, Path(folder), results)
    print(tables(results.parts))


if __name__ == "__main__":
    main()

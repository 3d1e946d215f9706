"""invcodec beside other radiance fields: the same pictures, held-out cameras, machine, threads and training time.

    python benchmarks/peers.py --data studio_hd --tensorf TensoRF/ --nerfstudio nerfstudio/ --python venv/bin/python

One frame, and one row for each contestant and time: `medium`, `paper` (the published configuration), TensoRF, and
nerfacto in plain torch. invcodec's presets have no limit but time. The others come from their own public repositories,
of which nothing is copied here: check out https://github.com/apchenstu/TensoRF and
https://github.com/nerfstudio-project/nerfstudio, and make an environment for them in which to run
`benchmarks/peer_training.py`, which explains how they are trained:

    python -m venv venv && venv/bin/pip install torch numpy jaxtyping matplotlib nerfacc==0.5.2 rich tyro pyyaml

`--nerfstudio` may also be the `site-packages` folder of an environment that has nerfstudio installed. Seconds are those
of training alone: reading pictures, compiling, rendering and, of invcodec, coding do not count. Quality is that of
8-bit pictures; invcodec's are decoded from its file. Samples are what a ray takes at most: all contestants but nerfacto
leave out those where they found nothing, and that one moves them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import quality
from common import ROOT, Results, complete, instruction_set

from invcodec.capture.capture import Capture, open_capture
from invcodec.decoding.video import Video
from invcodec.encoding.presets import resolve
from invcodec.geometry.fitting import choose_space
from invcodec.geometry.space import Space
from invcodec.metrics import over_white, psnr, ssim_map, to_8_bit
from invcodec.render.networks import build_networks

OURS = ("medium", "paper")
PEERS = {"tensorf": "tensorf", "nerfacto": "nerfstudio"}
"""Other contestants, and the option that says where each is."""


def of_ours(preset: str, seconds: float, arguments: Namespace, folder: Path) -> dict[str, Any]:
    file = folder / "out.inv"
    row = quality.encode(f"{preset}@{seconds:g}", arguments, file, ["--threads", str(arguments.threads)])
    with Video(file, device="cpu") as video:
        networks = build_networks(video.head)
    samples = [networks.samples, *(each.profile.config.get("importance", 0) for each in networks)]
    return {
        **{name: row[name] for name in ("psnr", "ssim", "command", "key_seconds", "key_bytes")},
        "steps": row["steps_by_frame"][0],
        "rays": resolve(preset).key.rays,
        "samples": " + ".join(str(count) for count in samples if count),
        "instructions": instruction_set(),
    }


def of_peer(name: str, seconds: float, arguments: Namespace, folder: Path) -> dict[str, Any]:
    capture = open_first(arguments)
    write_rays(folder / "rays.npz", capture, bounded_space(capture) if name == "tensorf" else None)
    command: list[str | Path] = [arguments.python, ROOT / "benchmarks" / "peer_training.py", name]
    command += [getattr(arguments, PEERS[name]), folder, "--rays", str(arguments.rays)]
    command += ["--seconds", f"{seconds:g}", "--threads", str(arguments.threads)]
    threads = {variable: str(arguments.threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    # What it prints is not of interest, unless it fails.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        raise SystemExit(f"{name}: failed with exit code {done.returncode}\n{done.stderr[-2000:]}")
    report = json.loads((folder / "report.json").read_text())
    return {**scores(capture, np.load(folder / "pictures.npy")), "rays": arguments.rays, **report}


def open_first(arguments: Namespace) -> Capture:
    """The capture, of which the first frame is used."""
    return open_capture(arguments.data, frames=(0, 1), downscale=arguments.downscale, holdout=arguments.holdout or None)


def bounded_space(capture: Capture) -> Space:
    """The best box or perspective map for a rig."""
    space = choose_space(capture.cameras, points=capture.points, transparent=capture.transparent)
    return choose_space(capture.cameras, points=capture.points, transparent=True) if space.contracted else space


def write_rays(path: Path, capture: Capture, space: Space | None) -> None:
    """Write rays and colours of all training pixels, and the rays of the held-out cameras.

    Args:
        space: of whose unit cube rays are written, parameters being from 0 to 1; those of the world if None.
    """
    frame = next(capture.frames())
    held_out = [index for index, camera in enumerate(capture.cameras) if camera.held_out]

    def rays(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for index in indices:
            world = capture.cameras[index].rays()
            march = None if space is None else space.march(*world)
            parts.append(world if march is None else (march.origins, march.directions))
        return tuple(np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    origins, directions = rays(capture.training)
    shown_origins, shown_directions = rays(held_out)
    images = [over_white(complete(frame)[index]).reshape(-1, 3) for index in capture.training]
    corner = np.broadcast_to([[[0.0, 0, 0, 1]]], (len(images), 1, 4))
    poses = np.stack([capture.cameras[index].pose for index in capture.training])
    np.savez(
        path,
        origins=origins,
        directions=directions,
        camera=np.repeat(np.arange(len(images), dtype=np.int16), [len(image) for image in images]),
        colours=np.concatenate(images),
        poses=np.concatenate([poses, corner], 1).astype(np.float32),
        shown_origins=shown_origins,
        shown_directions=shown_directions,
    )


def scores(capture: Capture, colours: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of the colours `[N, 3]` in [0, 1] of all pixels of the held-out cameras, means over cameras."""
    frame = next(capture.frames())
    found = []
    for camera, image in zip(capture.cameras, complete(frame), strict=True):
        if camera.held_out:
            count = camera.width * camera.height
            picture, colours = to_8_bit(colours[:count]).reshape(image.shape[:2] + (3,)), colours[count:]
            truth = over_white(image)
            found.append((psnr(picture, truth), float(ssim_map(picture, truth).mean())))
    decibels, similar = zip(*found, strict=True)
    return {"psnr": mean(decibels), "ssim": mean(similar)}


def table(parts: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    out = ["| | training | held-out PSNR | SSIM | steps | rays a step | samples a ray | instructions |"]
    out += ["|---|---|---|---|---|---|---|---|"]
    for name, rows in parts.items():
        for seconds, row in sorted(rows.items(), key=lambda item: float(item[0])):
            out.append(
                f"| {name} | {seconds} s | {row['psnr']:.2f} dB | {row['ssim']:.3f} | {row['steps']} | {row['rays']} "
                f"| {row['samples']} | {row['instructions']} |"
            )
    return "\n".join(out)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture with held-out cameras")
    parser.add_argument("--tensorf", type=Path, metavar="DIR", help="checkout of TensoRF")
    parser.add_argument("--nerfstudio", type=Path, metavar="DIR", help="checkout of nerfstudio, or its site-packages")
    parser.add_argument("--python", default=sys.executable, help="that runs these two; default: this one")
    parser.add_argument("--rows", nargs="+", choices=[*OURS, *PEERS], help="default: all whose folder is given")
    parser.add_argument("--seconds", nargs="+", type=float, default=[60, 300, 900], help="of training")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rays", type=int, default=4096, help="per step of TensoRF and nerfacto; published: 4096")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--save", type=Path, help="put the results there, as JSON")
    arguments = parser.parse_args(given)
    present = [*OURS, *(name for name, option in PEERS.items() if getattr(arguments, option))]
    rows = arguments.rows or present
    if missing := [name for name in rows if name not in present]:
        parser.error(f"{missing[0]} needs --{PEERS[missing[0]]}")
    arguments.frames = "0:1"
    if not any(camera.held_out for camera in open_first(arguments).cameras):
        parser.error(f"{arguments.data.name} holds out no camera; name one with --holdout")
    about = {"capture": arguments.data.name, "downscale": arguments.downscale, "threads": arguments.threads}
    results = Results(arguments.save, about)
    for seconds in arguments.seconds:
        for name in rows:
            with tempfile.TemporaryDirectory() as folder:
                measure = of_ours if name in OURS else of_peer
                results.keep(name, f"{seconds:g}", measure(name, seconds, arguments, Path(folder)))
            print(f"  {name}: {seconds:g} s done", file=sys.stderr)
    print(table(results.parts))


if __name__ == "__main__":
    main()

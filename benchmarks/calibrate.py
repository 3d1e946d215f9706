"""Calibration from pictures alone against one that is known: poses thrown away, found again, and compared.

    python benchmarks/calibrate.py --data studio_hd flame_steak_f0
    python benchmarks/calibrate.py --data studio_hd --encode "--preset fast --downscale 2 --holdout cam00"

Positions are compared after the similarity that fits them best, in shares of the rig's size, the greatest distance
between two cameras; directions in degrees after its rotation; focal lengths where pictures have the size that was
calibrated. With `--encode`, the capture is encoded with known and with found cameras, and quality is that of its
held-out cameras, which took part in the calibration as all others.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import common
import numpy as np

import invcodec
from invcodec.capture.calibrate import calibrate
from invcodec.capture.capture import Capture
from invcodec.geometry.camera import Camera


def bare(capture: Capture, folder: Path) -> None:
    """Copy the pictures of a capture, and nothing else, to an empty folder."""
    for files in capture.files:
        if files.video is not None:
            shutil.copy(files.video, folder / f"{files.camera.name}{files.video.suffix}")
            continue
        (folder / files.camera.name).mkdir()
        for number, path in files.images.items():
            shutil.copy(path, folder / files.camera.name / f"{number:04d}{path.suffix}")


def compare(found: Sequence[Camera], known: Sequence[Camera]) -> dict[str, float]:
    """Errors of found cameras against known ones, in the same order.

    The similarity is the least-squares one of the positions (Umeyama 1991).
    """
    own, true = (np.stack([camera.pose for camera in cameras]) for cameras in (found, known))
    centres, wanted = own[:, :, 3], true[:, :, 3]
    size = np.linalg.norm(wanted[:, None] - wanted, axis=2).max()
    centred, towards = centres - centres.mean(0), wanted - wanted.mean(0)
    u, s, v = np.linalg.svd(towards.T @ centred)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    turn, scale = (u * signs) @ v, (s * signs).sum() / (centred**2).sum()
    apart = np.linalg.norm(scale * centred @ turn.T - towards, axis=1) / size
    cosines = (np.einsum("nij,nij->n", turn @ own[:, :, :3], true[:, :, :3]) - 1) / 2
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    focals = np.array([abs(a.fx / b.fx - 1) for a, b in zip(found, known, strict=True)])
    return {
        "position": float(apart.mean()),
        "position_worst": float(apart.max()),
        "degrees": float(angles.mean()),
        "degrees_worst": float(angles.max()),
        "focal": float(focals.mean()),
    }


def measure(data: Path, options: list[str] | None) -> dict[str, Any]:
    """Calibrate the pictures of a capture, and encode with both calibrations if there are options for that."""
    capture = invcodec.open_capture(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / data.name, Path(temporary) / "out.inv"
        folder.mkdir()
        bare(capture, folder)
        started = process_time()
        found = calibrate(folder)
        seconds = process_time() - started
        known = {files.camera.name: files.camera for files in capture.files}
        cameras = [each.camera for each in found.placed]
        row = {
            "capture": data.name,
            "cameras": len(known),
            "placed": len(cameras),
            **compare(cameras, [known[camera.name] for camera in cameras]),
            "pixels": found.error,
            "seconds": seconds,
        }
        if options is not None:
            for name, where in (("known", data), ("found", folder)):
                common.encode(common.PROGRAM, where, out, options, name)
                row[f"psnr_{name}"] = common.evaluate(common.PROGRAM, out, where)["mean"]["psnr"]
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows as a markdown table."""
    lines = [
        "| capture | cameras placed | position (worst), of the rig | rotation (worst) | focal length | reprojection | "
        "time of one core | held-out PSNR: known, found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        psnr = f"{row['psnr_known']:.2f}, {row['psnr_found']:.2f} dB" if "psnr_known" in row else "-"
        lines.append(
            f"| *{row['capture']}* | {row['placed']} of {row['cameras']} | "
            f"{row['position']:.3%} ({row['position_worst']:.3%}) | "
            f"{row['degrees']:.3f}° ({row['degrees_worst']:.3f}°) | {row['focal']:.2%} | {row['pixels']:.2f} px | "
            f"{row['seconds']:.0f} s | {psnr} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of captures")
    parser.add_argument("--encode", metavar="OPTIONS", help="encode as well, with these options")
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    options = None if arguments.encode is None else shlex.split(arguments.encode)
    rows = [measure(data, options) for data in arguments.data]
    print(table(rows))
    if arguments.save:
        common.save(arguments.save, {"rows": rows})


if __name__ == "__main__":
    main()

"""How a capture is interpreted, in plain types; printed by `invcodec inspect`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from invcodec.capture.capture import Capture
from invcodec.encoding.calibration import calibrated
from invcodec.encoding.capacity import check_rig, fit
from invcodec.encoding.estimate import estimate
from invcodec.encoding.plan import check_numbers
from invcodec.encoding.settings import Settings
from invcodec.field.registry import build
from invcodec.geometry.fitting import choose_space

SCHEMA = 1
"""Version of what `summarise` returns; raised when a field changes its meaning or goes away."""


def summarise(capture: Capture, settings: Settings) -> dict[str, Any]:
    """Cameras in order with their files, frames, scene bounds, and the cost of encoding with these settings.

    A camera's `border` is the share of its pictures that is a black or white one, `gaps` how many of the chosen frames
    it has no picture of; `start` is where frame 0 is in its video, in seconds after the first frame, and `apart` how
    far its frames are from the times of their numbers, in frames. `encode` holds the networks and steps that suit the
    rig, and an estimate: seconds of the first frame, of each later one at most and of all on this machine, and bytes of
    the file.

    Raises:
        CaptureError: the networks need more cameras, or fewer; or an image of the first frame cannot be read.
        UsageError: the settings' device cannot be used on this machine; or frame numbers that no file can hold.
    """
    check_numbers(capture.numbers, capture.fps)
    check_rig(settings, capture.cameras)
    space = choose_space(capture.cameras, points=capture.points, transparent=capture.transparent, kind=settings.space)
    settings = fit(settings, capture.cameras, space)
    speeds = calibrated(settings, capture.cameras, space)
    expected = estimate(settings, len(capture.numbers), capture.fps, speeds)
    return {
        "schema": SCHEMA,
        "capture": str(capture.folder),
        "layout": capture.layout,
        "axes": None if capture.convention is None else str(capture.convention),
        "source": capture.source,
        "frames": [capture.numbers.start, capture.numbers.stop],
        "available": [capture.available.start, capture.available.stop],
        "frame_rate": [capture.fps.numerator, capture.fps.denominator],
        "source_size": list(capture.source_size),
        "downscale": capture.downscale,
        "transparent": capture.transparent,
        "flat": capture.flat,
        "alpha": capture.alpha,
        "coverage": asdict(capture.coverage),
        "space": space.to_dict(),
        "points": None if capture.points is None else len(capture.points),
        "held_out": [camera.name for camera in capture.cameras if camera.held_out],
        "cameras": [
            {
                **camera.to_dict(),
                "files": str(files.video or files.images[min(files.images)]),
                "masks": len(files.masks),
                "border": 0.0 if border is None else float(border.mean()),
                "start": float(files.start),
                "apart": capture.apart(files),
                "frames": len(capture.available) - len(gaps),
                "gaps": len(gaps.intersection(capture.numbers)),
            }
            for camera, files, border, gaps in zip(
                capture.cameras, capture.files, capture.borders, capture.gaps, strict=True
            )
        ],
        "encode": {
            "preset": settings.preset,
            "networks": [
                {**network, "config": dict(build(network["profile"], network["config"]).config)}
                for network in settings.networks
            ],
            "training": {
                kind: {"rays": schedule.rays, "steps": schedule.budget.steps, "seconds": schedule.budget.seconds}
                for kind, schedule in (("key", settings.key), ("later", settings.delta))
            },
            "key_seconds": expected.key,
            "later_seconds": expected.later,
            "seconds": expected.seconds,
            "bytes": expected.bytes,
        },
    }

"""invcodec: a video codec for radiance fields.

    import invcodec

    capture = invcodec.open_capture("capture/", downscale=2)
    invcodec.encode_capture(capture, "out.inv", invcodec.resolve("fast"))

    with invcodec.open("out.inv") as video:
        for frame in video:
            view = frame.render(video.cameras[0])  # view.rgb, view.alpha, view.depth

Names are imported when they are used, so `import invcodec` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invcodec.errors import (
    CaptureError,
    DamagedError,
    FrameNotFoundError,
    Interrupted,
    InvError,
    LimitError,
    UnsupportedError,
    UsageError,
)
from invcodec.version import __version__

if TYPE_CHECKING:
    from invcodec.capture.calibrate import Calibration, calibrate
    from invcodec.capture.capture import Capture, open_capture
    from invcodec.container.info import Description, describe
    from invcodec.decoding.analysis import Analysis, analyze
    from invcodec.decoding.evaluation import Evaluation, evaluate
    from invcodec.decoding.poses import Pose, resolve_pose
    from invcodec.decoding.video import Frame, Video, View, open
    from invcodec.editing.edit import concat, cut
    from invcodec.editing.look import Look, adjusted
    from invcodec.editing.mix import mix
    from invcodec.editing.recolour import recolour
    from invcodec.editing.transcode import transcode
    from invcodec.editing.verify import repair, verify
    from invcodec.encoding.encode import encode_capture, resume
    from invcodec.encoding.encoder import Encoder
    from invcodec.encoding.live import encode_live
    from invcodec.encoding.presets import resolve
    from invcodec.encoding.rate import Target
    from invcodec.encoding.report import FrameReport, Progress
    from invcodec.encoding.settings import Settings
    from invcodec.geometry.camera import Camera
    from invcodec.metrics import Fidelity

_HOMES = {
    "Analysis": "decoding.analysis",
    "Calibration": "capture.calibrate",
    "Camera": "geometry.camera",
    "Capture": "capture.capture",
    "Description": "container.info",
    "Encoder": "encoding.encoder",
    "Evaluation": "decoding.evaluation",
    "Fidelity": "metrics",
    "Frame": "decoding.video",
    "FrameReport": "encoding.report",
    "Look": "editing.look",
    "Pose": "decoding.poses",
    "Progress": "encoding.report",
    "Settings": "encoding.settings",
    "Target": "encoding.rate",
    "Video": "decoding.video",
    "View": "decoding.video",
    "adjusted": "editing.look",
    "analyze": "decoding.analysis",
    "calibrate": "capture.calibrate",
    "concat": "editing.edit",
    "cut": "editing.edit",
    "describe": "container.info",
    "encode_capture": "encoding.encode",
    "encode_live": "encoding.live",
    "evaluate": "decoding.evaluation",
    "mix": "editing.mix",
    "open": "decoding.video",
    "open_capture": "capture.capture",
    "recolour": "editing.recolour",
    "repair": "editing.verify",
    "resolve": "encoding.presets",
    "resolve_pose": "decoding.poses",
    "resume": "encoding.encode",
    "transcode": "editing.transcode",
    "verify": "editing.verify",
}
"""Module of each public name below this package."""

__all__ = [
    "Analysis",
    "Calibration",
    "Camera",
    "Capture",
    "CaptureError",
    "DamagedError",
    "Description",
    "Encoder",
    "Evaluation",
    "Fidelity",
    "Frame",
    "FrameNotFoundError",
    "FrameReport",
    "Interrupted",
    "InvError",
    "LimitError",
    "Look",
    "Pose",
    "Progress",
    "Settings",
    "Target",
    "UnsupportedError",
    "UsageError",
    "Video",
    "View",
    "__version__",
    "adjusted",
    "analyze",
    "calibrate",
    "concat",
    "cut",
    "describe",
    "encode_capture",
    "encode_live",
    "evaluate",
    "mix",
    "open",
    "open_capture",
    "recolour",
    "repair",
    "resolve",
    "resolve_pose",
    "resume",
    "transcode",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'invcodec' has no attribute '{name}'")
    return getattr(import_module(f"invcodec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

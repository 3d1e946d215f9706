"""invcodec: a video codec for radiance fields.

    import invcodec

    capture = invcodec.open_capture("capture/", downscale=2)
    invcodec.encode_capture(capture, "out.inv", invcodec.resolve("fast"))

    with invcodec.open("out.inv") as video:
        camera = video.cameras()[0]
        view = video.render(video.frames[0].number, camera)

Names are imported when they are used, so `import invcodec` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invcodec.errors import (
    CaptureError,
    DamagedError,
    Interrupted,
    InvError,
    LimitError,
    UnsupportedError,
    UsageError,
)
from invcodec.version import __version__

if TYPE_CHECKING:
    from invcodec.capture import Camera, Capture, open_capture
    from invcodec.coding.info import describe
    from invcodec.decoder import Decoder, View
    from invcodec.decoder import open_file as open
    from invcodec.encoder import Encoder, encode_capture, resume
    from invcodec.evaluation import evaluate
    from invcodec.presets import Settings, resolve
    from invcodec.rate import Target
    from invcodec.report import FrameReport, Progress

_HOMES = {
    "Camera": "capture",
    "Capture": "capture",
    "Decoder": "decoder",
    "Encoder": "encoder",
    "FrameReport": "report",
    "Progress": "report",
    "Settings": "presets",
    "Target": "rate",
    "View": "decoder",
    "describe": "coding.info",
    "encode_capture": "encoder",
    "evaluate": "evaluation",
    "open": "decoder",
    "open_capture": "capture",
    "resolve": "presets",
    "resume": "encoder",
}
"""Module of each public name below this package."""

__all__ = [
    "Camera",
    "Capture",
    "CaptureError",
    "DamagedError",
    "Decoder",
    "Encoder",
    "FrameReport",
    "Interrupted",
    "InvError",
    "LimitError",
    "Progress",
    "Settings",
    "Target",
    "UnsupportedError",
    "UsageError",
    "View",
    "__version__",
    "describe",
    "encode_capture",
    "evaluate",
    "open",
    "open_capture",
    "resolve",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'invcodec' has no attribute '{name}'")
    # Within the package, `open` is Python's own.
    attribute = "open_file" if name == "open" else name
    return getattr(import_module(f"invcodec.{_HOMES[name]}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)

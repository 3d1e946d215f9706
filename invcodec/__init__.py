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
    from invcodec.capture.capture import Capture, open_capture
    from invcodec.container.info import describe
    from invcodec.decoding.decoder import Decoder, View
    from invcodec.decoding.decoder import open_file as open
    from invcodec.decoding.evaluation import evaluate
    from invcodec.encoding.encode import encode_capture, resume
    from invcodec.encoding.encoder import Encoder
    from invcodec.encoding.presets import resolve
    from invcodec.encoding.rate import Target
    from invcodec.encoding.report import FrameReport, Progress
    from invcodec.encoding.settings import Settings
    from invcodec.geometry.camera import Camera

_HOMES = {
    "Camera": "geometry.camera",
    "Capture": "capture.capture",
    "Decoder": "decoding.decoder",
    "Encoder": "encoding.encoder",
    "FrameReport": "encoding.report",
    "Progress": "encoding.report",
    "Settings": "encoding.settings",
    "Target": "encoding.rate",
    "View": "decoding.decoder",
    "describe": "container.info",
    "encode_capture": "encoding.encode",
    "evaluate": "decoding.evaluation",
    "open": "decoding.decoder",
    "open_capture": "capture.capture",
    "resolve": "encoding.presets",
    "resume": "encoding.encode",
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

"""Cameras in JSON, with the keys of nerfstudio's `transforms.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from invcodec.errors import UsageError
from invcodec.geometry.camera import DISTORTION, MAX_NUMBER, Camera

_MAX_BYTES = 64 << 20
"""Of a JSON file, which takes up to twenty times as much memory: more than 60,000 images with poses."""

MODELS = {
    "OPENCV": False,
    "FULL_OPENCV": False,
    "PINHOLE": False,
    "SIMPLE_PINHOLE": False,
    "SIMPLE_RADIAL": False,
    "RADIAL": False,
    "PERSPECTIVE": False,
    "OPENCV_FISHEYE": True,
    "THIN_PRISM_FISHEYE": True,
}
"""Values of `camera_model`, and whether they mean a fisheye lens."""
_RATIONAL = ("k4", "k5", "k6")


def load_json(path: Path, error: type[UsageError]) -> Any:
    """The contents of a JSON file.

    Raises:
        UsageError: of the given type; missing, not readable, too large or not JSON.
    """
    try:
        with path.open("rb") as file:
            # Its size is not asked for, as it may be a pipe.
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise error(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; list fewer images, or split the capture")
        return json.loads(data)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror})") from None
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: not valid JSON ({reason})") from None


@dataclass(frozen=True)
class Fields:
    """The numbers of a JSON object.

    Attributes:
        row: the object.
        where: file and entry, for error messages.
        error: type of the errors to raise.
    """

    row: Mapping[str, Any]
    where: str
    error: type[UsageError] = UsageError

    def number(self, key: str, *, positive: bool = False) -> float | None:
        """A number, or None if it is missing or null."""
        value = self.row.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MAX_NUMBER:
            raise self.unexpected(key, repr(value)[:40], f"a number below {MAX_NUMBER:g}")
        if positive and value <= 1 / MAX_NUMBER:
            raise self.unexpected(key, str(value), "more than 0" if value <= 0 else f"more than {1 / MAX_NUMBER:g}")
        return float(value)

    def side(self, key: str, most: int | None = None) -> int | None:
        """A width or height of 1 to `most` pixels, or None."""
        value = self.number(key, positive=True)
        if value is not None and not 1 <= value <= (most or value):
            raise self.unexpected(key, f"{value:g}", f"1 to {most} pixels" if most else "at least 1 pixel")
        return None if value is None else round(value)

    def rate(self, key: str) -> Fraction | None:
        """A frame rate per second, or None."""
        value = self.number(key)
        if value is None:
            return None
        if not 0.01 <= value <= 1000:
            raise self.unexpected(key, f"{value:g}", "0.01 to 1000")
        return Fraction(value).limit_denominator(1001)

    def lens(self, width: int) -> Lens:
        """Focal length, principal point and distortion of a camera whose images are `width` pixels wide."""
        fx, fy = self.number("fl_x", positive=True), self.number("fl_y", positive=True)
        angle = self.number("camera_angle_x")
        if fx is None and angle is not None:
            if not 1 / MAX_NUMBER < angle < math.pi:
                raise self.unexpected("camera_angle_x", f"{angle:g}", "an angle in radians between 0 and pi")
            fx = width / 2 / math.tan(angle / 2)
        model = self.row.get("camera_model")
        if model is not None and (not isinstance(model, str) or model not in MODELS):
            raise self.unexpected("camera_model", repr(model)[:40], f"one of {', '.join(MODELS)}")
        fisheye = model is not None and MODELS[model]
        if model != "FULL_OPENCV" and not fisheye and any(map(self.number, _RATIONAL)):
            # OpenCV has these in the denominator; nerfstudio takes k4 as one more term of the numerator.
            raise self.unexpected(
                "camera_model", repr(model), "FULL_OPENCV with k4, k5 and k6 of OpenCV's rational model"
            )
        given = [self.number(key) for key in DISTORTION]
        distorted = model is not None or any(value is not None for value in given)
        distortion = tuple(value or 0.0 for value in given) if distorted else None
        return Lens(fx or fy, fy or fx, self.number("cx"), self.number("cy"), distortion, fisheye)

    def unexpected(self, key: str, found: str, expected: str) -> UsageError:
        """The error to raise for a value that cannot be used."""
        return self.error(f"{self.where}: '{key}' is {found}, expected {expected}")


@dataclass(frozen=True)
class Lens:
    """Intrinsics of a camera in pixels, each None if it is not given; one focal length applies to both axes.

    `distortion` and `fisheye` are as in `Camera`; `distortion` is None if neither it nor a model of the lens is given.
    """

    fx: float | None
    fy: float | None
    cx: float | None
    cy: float | None
    distortion: tuple[float, ...] | None
    fisheye: bool


def camera_entry(camera: Camera) -> dict[str, Any]:
    """A camera as an entry of `cameras[]`."""
    bounds = {"near": camera.near, "far": camera.far}
    lens = dict(zip(DISTORTION, camera.distortion, strict=False))
    rational = any(lens.get(key) for key in _RATIONAL)
    model = "OPENCV_FISHEYE" if camera.fisheye else "FULL_OPENCV" if rational else "OPENCV"
    return {
        "name": camera.name,
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        **({"camera_model": model} if lens or camera.fisheye else {}),
        **lens,
        **{name: value for name, value in bounds.items() if value is not None},
        "split": "test" if camera.held_out else "train",
        "transform_matrix": [*camera.pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
    }

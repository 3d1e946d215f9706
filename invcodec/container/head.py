"""The HEAD record: all that a decoder must know before the first frame (FORMAT.md, "HEAD" and "Cameras")."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any

from invcodec.container.canonical import pack, unpack
from invcodec.container.compressed import compress, decompress
from invcodec.container.fields import (
    BOOLEAN,
    CONFIG,
    MAP,
    NAME,
    POSITIVE,
    RATIO,
    REAL,
    SHARE,
    TAGS,
    UNREPORTED,
    Codec,
    ListStructure,
    MapStructure,
    ReportedAs,
    exactly,
    integer,
    list_of,
    nested,
    one_of,
    optional,
    read_map,
    within,
)
from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.geometry.camera import DISTORTION, Camera
from invcodec.limits import (
    MAX_CAMERAS,
    MAX_HEAD_BYTES,
    MAX_IMAGE_SIDE,
    MAX_NETWORKS,
    MAX_TENSOR_DIMS,
    MAX_TENSORS,
    MAX_WEIGHTS,
)

FORMAT_VERSION = 1
"""Draft 1: may change without notice until a release. Files of draft 0 cannot be read."""

GROUPS = ("structure", "colour")

CAMERA_FIELDS: dict[str, Codec[Any]] = {
    "name": NAME,
    **dict.fromkeys(("width", "height"), integer(1, MAX_IMAGE_SIDE, limit=True)),
    **dict.fromkeys(("fl_x", "fl_y"), POSITIVE),
    **dict.fromkeys(("cx", "cy"), REAL),
    **dict.fromkeys(DISTORTION, REAL),
    "fisheye": BOOLEAN,
    **dict.fromkeys(("near", "far"), optional(REAL)),
    "held_out": BOOLEAN,
    "pose": exactly(12, REAL),
}
"""A camera as `Camera.to_dict` gives it. A file may leave out what is in `_USUAL_LENS`."""

_USUAL_LENS: dict[str, Any] = {**dict.fromkeys(DISTORTION[4:], 0.0), "fisheye": False}


def _read_camera(value: Any) -> Camera:
    return Camera.from_dict(read_map({**_USUAL_LENS, **value} if isinstance(value, dict) else value, CAMERA_FIELDS))


def _write_camera(camera: Camera) -> dict[str, Any]:
    return {key: value for key, value in camera.to_dict().items() if (key, value) not in _USUAL_LENS.items()}


CAMERAS = list_of(Codec(_read_camera, _write_camera), 1, MAX_CAMERAS, named=True)


@dataclass(frozen=True)
class TensorInfo(ListStructure):
    """A tensor as a file declares it: 1 to 4 dimensions, and one of `GROUPS`."""

    name: Annotated[str, NAME]
    shape: Annotated[tuple[int, ...], list_of(integer(1, MAX_WEIGHTS, limit=True), 1, MAX_TENSOR_DIMS)]
    group: Annotated[str, one_of(GROUPS)]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class NetworkInfo(MapStructure):
    """A network as a file declares it.

    Attributes:
        role: "scene", "coarse", "fine" or "camera-colour".
        profile, profile_name, version: the profile's id, name and version.
        config: the profile's configuration.
        space: the coordinate mapping; empty for "camera-colour".
    """

    name: Annotated[str, NAME]
    role: Annotated[str, NAME]
    profile: Annotated[int, integer(0, 2**31 - 1), ReportedAs("profile_id")]
    profile_name: Annotated[str, NAME, ReportedAs("profile")]
    version: Annotated[int, integer(0, 2**31 - 1), ReportedAs("profile_version")]
    config: Annotated[dict[str, Any], CONFIG]
    space: Annotated[dict[str, Any], MAP]
    tensors: Annotated[tuple[TensorInfo, ...], list_of(nested(TensorInfo), 1, MAX_TENSORS, named=True), UNREPORTED]

    @property
    def weights(self) -> int:
        """Number of values of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    def describe(self) -> dict[str, Any]:
        sizes = {group: sum(t.size for t in self.tensors if t.group == group) for group in GROUPS}
        return super().describe() | {"weights": sizes}


@dataclass(frozen=True, kw_only=True)
class Head(MapStructure):
    """The HEAD record.

    Attributes:
        frame_rate: nominal frames per second.
        time_base: seconds per tick of frame times.
        source_size: width and height in pixels of the captured images, before downscaling by `downscale`.
        background: RGB from 0 to 1, or None if it is transparent.
        encoder: name, version, settings, and what `--resume` needs.
        tags: free text by key.
    """

    frame_rate: Annotated[Fraction, RATIO]
    time_base: Annotated[Fraction, RATIO, UNREPORTED]
    source_size: Annotated[tuple[int, int], exactly(2, integer(1, 2**20))]
    downscale: Annotated[int, integer(1, 2**10)]
    background: Annotated[tuple[float, float, float] | None, optional(exactly(3, SHARE))]
    colour_space: Annotated[str, NAME] = "srgb"
    units: Annotated[str, NAME] = "unknown"
    cameras: Annotated[tuple[Camera, ...], CAMERAS]
    networks: Annotated[tuple[NetworkInfo, ...], list_of(nested(NetworkInfo), 1, MAX_NETWORKS, named=True)]
    encoder: Annotated[dict[str, Any], MAP, UNREPORTED] = field(default_factory=dict)
    tags: Annotated[dict[str, str], TAGS, UNREPORTED] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        return bytes([FORMAT_VERSION, FORMAT_VERSION]) + compress(pack(self.to_plain()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Parse and validate.

        Raises:
            DamagedError, LimitError, UnsupportedError
        """
        if len(data) < 2:
            raise DamagedError("header: is too short")
        # Before anything else, since other drafts may have changed it all. Headers of old ones began with a map.
        reader = data[1]
        if reader < FORMAT_VERSION or reader >= 0x80:
            raise UnsupportedError("the file is of an old draft, which is no longer read: encode it again")
        if reader > FORMAT_VERSION:
            raise UnsupportedError(f"the file needs format version {reader}; this decoder knows {FORMAT_VERSION}")
        value = unpack(decompress(data[2:], "header", MAX_HEAD_BYTES), "header")
        try:
            head = cls.from_plain(value)
            if head.weights > MAX_WEIGHTS:
                raise LimitError(f"{head.weights} weights, at most {MAX_WEIGHTS} are allowed")
        except (DamagedError, LimitError) as error:
            raise within("header", error) from None
        return head

    def difference(self, other: Head) -> str | None:
        """Name of the first field in which headers differ; the encoder's notes and the tags may."""
        for each in self.fields():
            if each.name not in ("encoder", "tags") and getattr(self, each.name) != getattr(other, each.name):
                return each.name.replace("_", " ")
        return None

    @property
    def weights(self) -> int:
        """Number of values in one frame's state."""
        return sum(network.weights for network in self.networks)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"weights": self.weights}

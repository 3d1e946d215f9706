"""Exposure and white balance of each camera (FORMAT.md, "Camera colour")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from invcodec.arrays import Array
from invcodec.container.canonical import pack
from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.errors import DamagedError, UnsupportedError
from invcodec.field.profile import TensorKey, TensorSpec

NAME = ROLE = "camera-colour"
_PROFILE_ID, _PROFILE_NAME, _PROFILE_VERSION = 3, "affine", 1
_GAIN, _OFFSET = "gain", "offset"
_STEP = 1 / 256


@dataclass(frozen=True)
class CameraColour:
    """Gain and offset of C cameras: each shows `gain * colour + offset` of the scene's colour, per channel.

    Attributes:
        names: of the cameras.
        gain, offset: `[C, 3]` float32.
    """

    names: tuple[str, ...]
    gain: np.ndarray
    offset: np.ndarray

    @classmethod
    def of_some(cls, names: Sequence[str], chosen: Sequence[int], gain: np.ndarray, offset: np.ndarray) -> CameraColour:
        """For a whole rig, from the gains and offsets `[len(chosen), 3]` of some cameras; others are neutral."""
        all_gain, all_offset = np.ones((len(names), 3), np.float32), np.zeros((len(names), 3), np.float32)
        all_gain[list(chosen)], all_offset[list(chosen)] = gain, offset
        return cls(tuple(names), all_gain, all_offset)

    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Gains and offsets as weights of the network that `declare` declares."""
        return {(NAME, _GAIN): self.gain, (NAME, _OFFSET): self.offset}

    def index(self, name: str) -> int | None:
        """Index of the camera with this name, or None if there is none."""
        return self.names.index(name) if name in self.names else None

    def select(self, cameras: Sequence[int]) -> CameraColour:
        """The colours of some cameras."""
        chosen = list(cameras)
        return CameraColour(tuple(self.names[i] for i in chosen), self.gain[chosen], self.offset[chosen])

    def apply(self, rgb: Array, camera: int | np.ndarray, place: Callable[[np.ndarray], Array] = np.asarray) -> Array:
        """Colours as cameras show them.

        Args:
            rgb: `[N, 3]`, straight or composited colours of the scene.
            camera: index of the camera, or of each colour's camera `[N]`.
            place: moves an array to the device of `rgb`.
        """
        return rgb * place(self.gain[camera]) + place(self.offset[camera])


def declare(cameras: int) -> NetworkInfo:
    """The file's declaration of the network that holds the colours of a number of cameras."""
    tensors = tuple(TensorInfo(name, (cameras, 3), "colour") for name in (_GAIN, _OFFSET))
    return NetworkInfo(
        NAME, ROLE, _PROFILE_ID, _PROFILE_NAME, _PROFILE_VERSION, {"cameras": cameras}, {}, tensors
    )  # fmt: skip


def specs(cameras: int) -> dict[TensorKey, TensorSpec]:
    """The tensors of that network."""
    return {(NAME, t.name): TensorSpec(t.name, t.shape, "colour", _STEP) for t in declare(cameras).tensors}


def is_declared_by(info: NetworkInfo) -> bool:
    """Whether a network holds cameras' colours."""
    return info.role == ROLE and info.profile == _PROFILE_ID


def check(info: NetworkInfo, cameras: int) -> None:
    """Check the declaration of such a network against the number of cameras in the header.

    Raises:
        UnsupportedError: it is of another version.
        DamagedError: its tensors, configuration or space do not fit the cameras.
    """
    if info.version != _PROFILE_VERSION:
        raise UnsupportedError(
            f"profile '{_PROFILE_NAME}' version {info.version}: this decoder knows {_PROFILE_VERSION}; update invcodec"
        )
    fitting = declare(cameras)
    # Keys of the configuration that are not known are ignored.
    config = info.config | fitting.config
    fitting = replace(fitting, name=info.name, profile_name=info.profile_name, config=config)
    # As stored, since Python takes True for 1.
    if pack(info.to_plain()) != pack(fitting.to_plain()):
        raise DamagedError(f"network '{info.name}': its tensors, configuration or space do not fit the cameras")


def split(
    head: Head, weights: Mapping[TensorKey, np.ndarray], before: CameraColour | None = None
) -> tuple[dict[TensorKey, np.ndarray], CameraColour | None]:
    """Separate a frame's weights into those of the scene's networks and the cameras' colours, None if it has none.

    Args:
        before: colours that hold for tensors which the weights leave out.
    """
    name = next((info.name for info in head.networks if is_declared_by(info)), None)
    scene = {key: value for key, value in weights.items() if key[0] != name}
    if name is None:
        return scene, None
    names = tuple(camera.name for camera in head.cameras)
    known = {} if before is None else {(name, _GAIN): before.gain, (name, _OFFSET): before.offset}
    known |= weights
    return scene, CameraColour(names, known[name, _GAIN], known[name, _OFFSET])

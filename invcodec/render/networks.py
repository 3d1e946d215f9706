"""Between the file's declarations and networks that can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from invcodec.container.schema import Head, NetworkInfo, TensorInfo
from invcodec.errors import DamagedError, InvError, UnsupportedError
from invcodec.field.profile import Profile, TensorSpec
from invcodec.field.registry import build
from invcodec.geometry.space import Space
from invcodec.render.engine import Network

RENDERED_ROLES = ("scene", "coarse", "fine")
COLOUR_ROLE = "camera-colour"
COLOUR_NETWORK = "camera-colour"

_AFFINE_ID, _AFFINE_NAME, _AFFINE_VERSION = 3, "affine", 1
_COLOUR_STEP = 1 / 256


def declare(network: Network) -> NetworkInfo:
    """How the file declares a network."""
    profile = network.profile
    return NetworkInfo(
        network.name,
        network.role,
        profile.id,
        profile.name,
        profile.version,
        dict(profile.config),
        network.space.to_dict(),
        tuple(TensorInfo(spec.name, spec.shape, spec.group) for spec in profile.tensors),
    )


def declare_colour(cameras: int) -> NetworkInfo:
    """The colour correction of `cameras` cameras: profile `affine`, a gain and an offset for each channel."""
    return NetworkInfo(
        COLOUR_NETWORK,
        COLOUR_ROLE,
        _AFFINE_ID,
        _AFFINE_NAME,
        _AFFINE_VERSION,
        {"cameras": cameras},
        {},
        tuple(TensorInfo(name, (cameras, 3), "colour") for name in ("gain", "offset")),
    )


COLOUR_SPECS = tuple(TensorSpec(name, (1, 3), "colour", _COLOUR_STEP) for name in ("gain", "offset"))


def build_networks(head: Head) -> tuple[Network, ...]:
    """The networks of a file that are rendered.

    Raises:
        UnsupportedError: a role, profile or version that this decoder does not know.
        DamagedError: the declared tensors are not those of the profile.
    """
    if head.colour_space != "srgb":
        raise UnsupportedError(f"the colour space '{head.colour_space}' needs a newer invcodec")
    networks = []
    for info in head.networks:
        if info.role == COLOUR_ROLE and info.profile == _AFFINE_ID:
            if info.tensors != declare_colour(len(head.cameras)).tensors:
                raise DamagedError(f"network '{info.name}': its tensors do not fit the cameras")
            continue
        if info.role not in RENDERED_ROLES:
            raise UnsupportedError(
                f"network '{info.name}' has the unknown role '{info.role}'; it needs a newer invcodec"
            )
        profile = _profile(info)
        declared = tuple((t.name, t.shape, t.group) for t in info.tensors)
        if declared != tuple((s.name, s.shape, s.group) for s in profile.tensors):
            raise DamagedError(f"network '{info.name}': its tensors are not those of profile '{profile.name}'")
        try:
            space = Space.from_dict(info.space)
        except (KeyError, TypeError, ValueError):
            raise DamagedError(f"network '{info.name}': its space is not understood") from None
        networks.append(Network(info.name, info.role, profile, space))
    if sorted(n.role for n in networks) not in (["scene"], ["coarse", "fine"]):
        raise UnsupportedError("this combination of networks needs a newer invcodec")
    return tuple(networks)


def _profile(info: NetworkInfo) -> Profile:
    try:
        return build(info.profile, info.config, info.version)
    except InvError:
        raise
    except (TypeError, ValueError) as error:
        raise DamagedError(f"network '{info.name}': its configuration is not understood ({error})") from None


def networks_from_settings(settings: Sequence[dict[str, Any]], space: Space) -> tuple[Network, ...]:
    """The networks that an encoder's settings name."""
    return tuple(Network(s["name"], s["role"], build(s["profile"], s["config"]), space) for s in settings)


def colour_levels(gain: np.ndarray, offset: np.ndarray, training: Sequence[int], cameras: int) -> dict[str, np.ndarray]:
    """Gains and offsets `[C, 3]` of all cameras from those of the training ones; held-out ones stay neutral."""
    all_gain, all_offset = np.ones((cameras, 3), np.float32), np.zeros((cameras, 3), np.float32)
    all_gain[list(training)], all_offset[list(training)] = gain, offset
    return {"gain": all_gain, "offset": all_offset}

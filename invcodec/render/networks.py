"""Between the file's declarations and networks that can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.errors import DamagedError, InvError, UnsupportedError
from invcodec.field.profile import Profile
from invcodec.field.registry import build
from invcodec.geometry.space import Space
from invcodec.render import camera_colour
from invcodec.render.engine import Network

RENDERED_ROLES = ("scene", "coarse", "fine")


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
        if camera_colour.is_declared_by(info):
            camera_colour.check(info, len(head.cameras))
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
    colours = len(head.networks) - len(networks)
    if colours > 1 or sorted(n.role for n in networks) not in (["scene"], ["coarse", "fine"]):
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

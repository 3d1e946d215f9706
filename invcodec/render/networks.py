"""The networks of a picture, and how a file declares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, get_args

import numpy as np

from invcodec.container.fields import NAME, REAL, Codec, exactly, optional, read_map, within
from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.field.profile import Group, Profile, TensorKey, TensorSpec
from invcodec.field.registry import build, declared
from invcodec.geometry.space import Kind, Space
from invcodec.render import camera_colour
from invcodec.render.roles import ROLES

_POSE = exactly(12, REAL)
_SPACE: dict[str, Codec[Any]] = {
    "kind": NAME,
    "pose": _POSE,
    "low": exactly(3, REAL),
    "high": exactly(3, optional(REAL)),
}


@dataclass(frozen=True)
class Network:
    """One network of a frame.

    Attributes:
        role: see `invcodec.render.roles`.
        profile: what it computes.
        space: where.
        lead_tensors: in place of the profile's choice, see `lead`.
    """

    name: str
    role: str
    profile: Profile
    space: Space
    lead_tensors: frozenset[str] | None = None

    @property
    def lead(self) -> frozenset[str]:
        """Names of the tensors that alone are trained once the warm-up is over (INV, section 3.2)."""
        return self.profile.lead if self.lead_tensors is None else self.lead_tensors


@dataclass(frozen=True)
class Layer:
    """A layer of all networks of a picture.

    Attributes:
        name: of the layer in the network that is shown, or in another one that is deeper.
        group: that of its tensors in that network.
        tensors: of this layer in every network.
    """

    name: str
    group: Group
    tensors: frozenset[TensorKey]


class Networks:
    """The networks that make a picture together. Iterating gives them as the file declares them.

    Args:
        networks: of roles in `ROLES`: one that is shown, and the one that guides it if its role needs one.

    Attributes:
        shown: the one that is composited to the picture.
        guide: the one that places the importance samples of `shown`; `shown` itself, another, or None.
        first: the one that is sampled first, at equal steps.
        space: which they share.

    Raises:
        UnsupportedError: an unknown role, or a combination of roles that makes no picture.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        for network in self._networks:
            _check_role(network.name, network.role)
        by_role = {network.role: network for network in self._networks}
        shown = [network for network in self._networks if ROLES[network.role].shown]
        needed = {network.role for network in shown} | {ROLES[network.role].guide for network in shown}
        if len(shown) != 1 or len(by_role) != len(self._networks) or needed - {None} != by_role.keys():
            raise UnsupportedError("this combination of networks needs a newer invcodec")
        self.shown = shown[0]
        guide = ROLES[self.shown.role].guide
        self.guide = None if guide is None else by_role[guide]
        self.first = self.guide or self.shown
        self.space = self.shown.space

    def __iter__(self) -> Iterator[Network]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    @property
    def samples(self) -> int:
        """Number of equal steps that rendering takes along a ray."""
        return self.first.profile.samples

    @property
    def tensors(self) -> dict[TensorKey, TensorSpec]:
        """All tensors, in declared order."""
        return {(network.name, spec.name): spec for network in self for spec in network.profile.tensors}

    @property
    def lead(self) -> set[TensorKey]:
        """Lead tensors of all networks."""
        return {(network.name, name) for network in self for name in network.lead}

    @property
    def layers(self) -> list[Layer]:
        """The layers from input to output: the first ones of all networks together, then the second ones, and so on."""
        networks = sorted(self, key=lambda network: network is not self.shown)
        rows = zip_longest(*(network.profile.layer_tensors.items() for network in networks))
        layers = []
        for row in rows:
            parts = [(network, *each) for network, each in zip(networks, row, strict=True) if each is not None]
            network, name, tensors = parts[0]
            keys = frozenset((network.name, tensor) for network, _, tensors in parts for tensor in tensors)
            layers.append(Layer(name, self.tensors[network.name, tensors[0]].group, keys))
        return layers

    def initialise(self, rng: np.random.Generator) -> dict[TensorKey, np.ndarray]:
        """Fresh float32 weights."""
        return {(network.name, name): w for network in self for name, w in network.profile.initialise(rng).items()}

    def tint(self, colour: np.ndarray) -> dict[TensorKey, np.ndarray]:
        """Fresh weights to replace so that training starts from a colour `[3]` in (0, 1)."""
        return {(network.name, name): w for network in self for name, w in network.profile.tint(colour).items()}


def declare(network: Network) -> NetworkInfo:
    """The declaration of a network in a file's header."""
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


def build_networks(head: Head) -> Networks:
    """The networks that a file declares, but for those of cameras' colours.

    Raises:
        UnsupportedError: a role, profile, version or combination of networks that this decoder does not know.
        DamagedError: configuration, tensors or space are not those of the profile.
        LimitError: a configuration exceeds a limit.
    """
    if head.colour_space != "srgb":
        raise UnsupportedError(f"the colour space '{head.colour_space}' needs a newer invcodec")
    colours = [info for info in head.networks if camera_colour.is_declared_by(info)]
    for info in colours:
        camera_colour.check(info, len(head.cameras))
    others = [info for info in head.networks if info not in colours]
    networks = Networks(map(_build, others))
    if len(colours) > 1 or any(info.space != others[0].space for info in others):
        raise UnsupportedError("this combination of networks needs a newer invcodec")
    return networks


def _check_role(name: str, role: str) -> None:
    if role not in ROLES:
        raise UnsupportedError(f"network '{name}' has the unknown role '{role}'; it needs a newer invcodec")


def _build(info: NetworkInfo) -> Network:
    _check_role(info.name, info.role)
    try:
        profile = declared(info.profile, info.config, info.version)
    except (DamagedError, LimitError) as error:
        raise within(f"network '{info.name}'", error) from None
    tensors = tuple((t.name, t.shape, t.group) for t in info.tensors)
    if tensors != tuple((s.name, s.shape, s.group) for s in profile.tensors):
        raise DamagedError(f"network '{info.name}': its tensors are not those of profile '{profile.name}'")
    try:
        kind = read_map(info.space, {"kind": NAME, "pose": _POSE})["kind"]
        if kind not in get_args(Kind):
            raise UnsupportedError(f"network '{info.name}' has the unknown space '{kind}'; it needs a newer invcodec")
        space = Space.from_dict(read_map(info.space, _SPACE))
    except (DamagedError, ValueError) as error:
        raise DamagedError(f"network '{info.name}': its space is not understood ({error})") from None
    return Network(info.name, info.role, profile, space)


def networks_from_settings(settings: Sequence[dict[str, Any]], space: Space) -> Networks:
    """The networks that an encoder's settings name.

    Args:
        settings: for each network `name`, `role`, `profile` and `config`; and `lead`, names of tensors, if these are
            not the profile's choice.
    """
    return Networks(_from_settings(each, space) for each in settings)


def _from_settings(settings: dict[str, Any], space: Space) -> Network:
    profile = build(settings["profile"], settings["config"])
    lead = frozenset(settings["lead"]) if "lead" in settings else None
    return Network(settings["name"], settings["role"], profile, space, lead)

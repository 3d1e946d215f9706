"""The networks of a picture: combinations of roles, declarations in files, lead tensors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fields import PROFILE, SPACES, networks

from invcodec.container.head import Head
from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.field import registry
from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.field.profile import Setting
from invcodec.geometry.space import Rays, Space
from invcodec.render.engine import Batch
from invcodec.render.networks import Network, Networks, build_networks, declare, networks_from_settings
from invcodec.render.reference import TorchEngine
from invcodec.render.roles import ROLES, Role
from invcodec.synth.rig import synthetic_rig

BOX = SPACES["box"]
NERF = NerfProfile(
    depth=2, width=8, structure_layers=1, position_octaves=2, direction_octaves=1, samples=8, importance=4
)


def network(role: str, profile: Any = NERF, space: Space = BOX) -> Network:
    return Network(f"the {role}", role, profile, space)


def head(*declared: Any, **changes: Any) -> Head:
    fields: dict[str, Any] = {
        "frame_rate": Fraction(25),
        "time_base": Fraction(1, 1000),
        "source_size": (8, 6),
        "downscale": 1,
        "background": None,
        "cameras": tuple(synthetic_rig(2, (8, 6))),
        "networks": declared,
        "encoder": {},
    }
    return Head(**(fields | changes))


def test_which_network_is_shown_and_which_guides_it() -> None:
    alone = Networks([network("scene")])
    assert alone.shown is alone.guide is alone.first
    fine, coarse = network("fine", replace_samples(16)), network("coarse")
    both = Networks([fine, coarse])
    assert list(both) == [fine, coarse]
    assert (both.shown, both.guide, both.first, both.space) == (fine, coarse, coarse, BOX)
    # The number of steps is that of the network sampled first.
    assert both.samples == 8


def replace_samples(samples: int) -> NerfProfile:
    return NerfProfile(**{**NERF.config, "samples": samples})


@pytest.mark.parametrize(
    "roles", [(), ("coarse",), ("fine",), ("scene", "scene"), ("scene", "coarse"), ("scene", "coarse", "fine")]
)
def test_other_combinations_make_no_picture(roles: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedError, match="combination"):
        Networks(network(role) for role in roles)


def test_an_unknown_role_in_settings_is_refused() -> None:
    own = network("scene", PROFILE)
    settings = {"name": "own", "role": "dynamic", "profile": own.profile.name, "config": own.profile.config}
    with pytest.raises(UnsupportedError, match="network 'own' has the unknown role 'dynamic'"):
        networks_from_settings([settings], own.space)


def test_a_file_s_networks_are_those_that_were_declared() -> None:
    for own in ([network("coarse"), network("fine")], [network("scene", PROFILE)]):
        again = list(build_networks(head(*map(declare, own))))
        assert [(n.name, n.role) for n in again] == [(n.name, n.role) for n in own]
        assert [n.profile.tensors for n in again] == [n.profile.tensors for n in own]
        assert [n.space.to_dict() for n in again] == [n.space.to_dict() for n in own]


def test_declarations_that_do_not_fit_are_refused() -> None:
    scene = declare(network("scene", PROFILE))
    for declared, error, match in (
        (replace(scene, role="dynamic"), UnsupportedError, "unknown role 'dynamic'"),
        # Even if its profile and space are new too.
        (replace(scene, role="dynamic", space={}, profile=99), UnsupportedError, "unknown role 'dynamic'"),
        (replace(scene, role="camera-colour"), UnsupportedError, "unknown role 'camera-colour'"),
        (replace(scene, profile=99), UnsupportedError, "unknown profile"),
        (replace(scene, version=2), UnsupportedError, "version 2"),
        (replace(scene, tensors=scene.tensors[:-1]), DamagedError, "its tensors are not those"),
        (replace(scene, config={}), DamagedError, "network 'the scene': grid profile: resolutions: is missing"),
        (replace(scene, config={**scene.config, "hidden": 6}), DamagedError, "network 'the scene': .* width 6"),
        (replace(scene, config={**scene.config, "samples": 9999}), LimitError, "network 'the scene': .* samples: 9999"),
        (replace(scene, space={}), DamagedError, "its space is not understood .kind: is missing"),
        (replace(scene, space=scene.space | {"pose": ["1"] * 12}), DamagedError, "pose: 0: not a float"),
        (replace(scene, space=scene.space | {"kind": "torus"}), UnsupportedError, "unknown space 'torus'"),
        (replace(scene, space=scene.space | {"high": scene.space["low"]}), DamagedError, "no such space"),
    ):
        with pytest.raises(error, match=match):
            build_networks(head(declared))
    apart = declare(network("coarse")), declare(network("fine", space=SPACES["ndc"]))
    with pytest.raises(UnsupportedError, match="combination"):
        build_networks(head(*apart))
    with pytest.raises(UnsupportedError, match="colour space"):
        build_networks(head(scene, colour_space="rec2020"))


class Fog(NerfProfile):
    """A profile that is not in the package: fog of one density, and its colour."""

    id = 70_001
    name = "fog"
    settings: ClassVar = {"samples": Setting(1)}

    def __init__(self, samples: int = 4) -> None:
        super().__init__(depth=1, width=2, structure_layers=1, position_octaves=0, direction_octaves=0, samples=samples)
        self.importance = 0
        self.config = {"samples": samples}

    def density(self, weights: Any, position: torch.Tensor, direction: torch.Tensor) -> Any:
        n = len(position)
        bias = weights["density.bias"]
        return bias.expand(n), weights["rgb.bias"].expand(n, 3)


def test_a_role_and_a_profile_that_are_not_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry in the table of roles, one class in the registry: files, networks and engines follow."""
    monkeypatch.setattr(registry, "BUILT_IN", (NerfProfile, GridProfile, Fog))
    declared = [declare(network("haze", Fog())), declare(network("seen"))]
    with pytest.raises(UnsupportedError, match="unknown role 'haze'"):
        build_networks(head(*declared))
    monkeypatch.setitem(ROLES, "haze", Role(shown=False))
    monkeypatch.setitem(ROLES, "seen", Role(shown=True, guide="haze"))
    own = build_networks(head(*declared))
    assert isinstance(own.first.profile, Fog)
    assert own.shown.role == "seen"
    # Guided by fog as coarse and fine are: the shown network alone makes the picture.
    twin = Networks([network("coarse", Fog()), network("fine")])
    engines = TorchEngine(own), TorchEngine(twin)
    held = own.initialise(np.random.default_rng(0))
    held["the haze", "density.bias"][:] = 2
    held["the seen", "density.bias"][:] = 1
    names = {"the haze": "the coarse", "the seen": "the fine"}
    rays = Rays(*(np.array([v], np.float32) for v in ([0.5, 0.5, 0.1], [0, 0, 0.8], [0, 0, 1], 0, 1)))
    one = np.ones((1, 3), np.float32)
    results = []
    for engine, weights in zip(engines, (held, {(names[n], k): value for (n, k), value in held.items()}), strict=True):
        engine.load(weights)
        pixels = engine.render(rays, np.zeros(3))
        engine.begin(engine.networks.tensors, 0.0)
        results.append([*pixels, engine.step(Batch(rays, one, 0 * one, one[:, 0], one[:, 0] / 2), 0.1, 0.1).rgb])
    assert 0 < results[0][1] < 1
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_profile_chooses_lead_tensors_unless_the_settings_do() -> None:
    settings = {"name": "n", "role": "scene", "profile": "nerf", "config": NERF.config}
    (own,) = networks_from_settings([settings], BOX)
    assert own.lead == {"layers.0.weight", "layers.0.bias"}
    chosen = networks_from_settings([{**settings, "lead": ["rgb.bias"]}], BOX)
    assert chosen.lead == {("n", "rgb.bias")}
    engine = TorchEngine(chosen)
    engine.load(chosen.initialise(np.random.default_rng(0)))
    before = engine.weights()
    rays = Rays(*(np.array([v], np.float32) for v in ([0.5, 0.5, 0.1], [0, 0, 0.8], [0, 0, 1], 0, 1)))
    one = np.ones((1, 3), np.float32)
    engine.begin(chosen.tensors, 0.0)
    # Tensors that do not lead have a learning rate of 0 here.
    for _ in range(3):
        engine.step(Batch(rays, one, 0 * one, one[:, 0], one[:, 0] / 2), 0.1, 0.0)
    assert {key for key, value in engine.weights().items() if (value != before[key]).any()} <= {("n", "rgb.bias")}


def test_fresh_weights_are_those_of_each_profile_in_turn() -> None:
    own = Networks([network("coarse"), network("fine")])
    rng = np.random.default_rng(4)
    expected = [n.profile.initialise(rng) for n in own]
    found = own.initialise(np.random.default_rng(4))
    assert found.keys() == own.tensors.keys()
    for n, values in zip(own, expected, strict=True):
        for name, value in values.items():
            np.testing.assert_array_equal(found[n.name, name], value)
    assert (
        {key for key, spec in own.tensors.items() if spec.lead}
        == own.lead
        == {(name, f"layers.0.{part}") for name in ("the coarse", "the fine") for part in ("weight", "bias")}
    )
    assert networks(BOX).lead == {("scene", name) for name in ("grid.0", "grid.1", "grid.2", "grid.3", "occupancy")}

"""Profile `nerf`: its layout, its mathematics, and what it is built from."""

import numpy as np
import pytest
import torch

from invcodec.errors import DamagedError, LimitError, UnsupportedError, UsageError
from invcodec.field.nerf import NerfProfile, positional_encoding
from invcodec.field.registry import build, declared

TINY = {
    "depth": 3,
    "width": 8,
    "structure_layers": 2,
    "position_octaves": 2,
    "direction_octaves": 1,
    "samples": 8,
    "importance": 4,
}


def test_paper_configuration_has_the_paper_s_structure_weights():
    sizes = [spec.size for spec in NerfProfile().tensors if spec.group == "structure"]
    assert 2 * sum(sizes) == 295_936


def test_paper_layers():
    shapes = {spec.name: spec.shape for spec in NerfProfile().tensors}
    assert shapes["layers.0.weight"] == (256, 63)
    assert all(shapes[f"layers.{i}.weight"] == (256, 256) for i in range(1, 8))
    assert shapes["density.weight"] == (1, 256)
    assert shapes["feature.weight"] == (256, 256)
    assert shapes["direction.weight"] == (128, 256 + 27)
    assert shapes["rgb.weight"] == (3, 128)
    assert len(shapes) == 2 * 12


def test_only_the_structure_layers_lead():
    for spec in NerfProfile(**TINY).tensors:
        assert (spec.group == "structure") == spec.lead == spec.name.startswith(("layers.0.", "layers.1."))


def test_rebuilt_from_its_configuration():
    profile = NerfProfile(**TINY)
    again = declared(NerfProfile.id, profile.config, NerfProfile.version)
    assert isinstance(again, NerfProfile)
    assert again.tensors == profile.tensors
    assert (again.samples, again.importance) == (8, 4)


def test_unknown_version_is_unsupported():
    with pytest.raises(UnsupportedError, match="version 2"):
        declared(NerfProfile.id, {}, 2)


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"structure_layers": -1}, DamagedError, "structure_layers: -1 is less than 0"),
        ({"structure_layers": 9}, DamagedError, "9 structure layers of 8"),
        ({"width": 3}, DamagedError, "width: 3 is odd"),
        ({"depth": 10**6}, LimitError, "depth: 1000000 is more than 32"),
        ({"depth": [8]}, DamagedError, "depth: is not an integer"),
        ({"depth": True}, DamagedError, "depth: True is not an integer"),
        ({"importance": 10**6}, LimitError, r"64 \+ 1000000 samples, at most 4096"),
        ({"occupancy": 257}, LimitError, "occupancy: 257 is more than 256"),
        ({"occupancy": -1}, DamagedError, "occupancy: -1 is less than 0"),
    ],
)
def test_hostile_configuration_is_refused(wrong, error, reason):
    with pytest.raises(error, match=reason):
        build("nerf", wrong)


def test_a_file_declares_all_of_a_configuration_and_maybe_more():
    config = NerfProfile(**TINY).config
    assert declared(NerfProfile.id, {**config, "mood": 7}, 1).config == config
    for key in config:
        with pytest.raises(DamagedError, match=f"{key}: is missing"):
            declared(NerfProfile.id, {other: value for other, value in config.items() if other != key}, 1)
    with pytest.raises(UsageError, match="no setting 'mood'"):
        build("nerf", {"mood": 7})


def test_positional_encoding_of_known_points():
    x = torch.tensor([[0.0, np.pi / 2, np.pi / 4]], dtype=torch.float64)
    root = 0.5**0.5
    sin_1, cos_1 = [0, 1, root], [1, 0, root]
    sin_2, cos_2 = [0, 0, 1], [1, -1, 0]
    expected = [0, np.pi / 2, np.pi / 4, *sin_1, *cos_1, *sin_2, *cos_2]
    np.testing.assert_allclose(positional_encoding(x, 2)[0], expected, atol=1e-12)
    np.testing.assert_array_equal(positional_encoding(x, 0), x)


def test_field_against_plain_numpy():
    profile = NerfProfile(**TINY)
    rng = np.random.default_rng(0)
    weights = profile.initialise(rng)
    for name in weights:
        weights[name] += rng.normal(0, 0.1, weights[name].shape).astype(np.float32)
    position = rng.random(3)
    view = np.array([0.6, 0.0, -0.8])

    def encode(x, octaves):
        return np.concatenate([x, *(f(2**k * x) for k in range(octaves) for f in (np.sin, np.cos))])

    def dense(name, x):
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    hidden = encode(2 * position - 1, 2)
    for i in range(3):
        hidden = np.maximum(dense(f"layers.{i}", hidden), 0)
    colour = np.maximum(dense("direction", np.concatenate([dense("feature", hidden), encode(view, 1)])), 0)
    expected_rgb = 1 / (1 + np.exp(-dense("rgb", colour)))

    raw, features = profile.density(
        {k: torch.tensor(v) for k, v in weights.items()},
        torch.tensor(position[None], dtype=torch.float32),
        torch.tensor(view[None], dtype=torch.float32),
    )
    np.testing.assert_allclose(raw, dense("density", hidden), rtol=1e-4)
    np.testing.assert_allclose(features[0], expected_rgb, rtol=1e-4)
    assert profile.activate(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    torch.testing.assert_close(profile.shade({}, features, torch.ones(1), torch.ones(1, 3)), features)


def field(seed=0, trained=None):
    """A small network in double precision: its weights, of which the named ones are trained, and points to ask for."""
    profile = NerfProfile(**TINY)
    rng = np.random.default_rng(seed)
    weights = {name: torch.tensor(value).double() for name, value in profile.initialise(rng).items()}
    for name, value in weights.items():
        value += torch.tensor(rng.normal(0, 0.1, value.shape))
        value.requires_grad_(trained is None or name in trained)
    position, direction = (torch.tensor(rng.random((6, 3))) for _ in range(2))
    return profile, weights, position, direction


def test_gradients_are_those_of_finite_differences():
    profile, weights, position, direction = field()

    def outputs(*values):
        return profile.density(dict(zip(weights, values, strict=True)), position, direction)

    assert torch.autograd.gradcheck(outputs, tuple(weights.values()))


@pytest.mark.parametrize("first", ["layers.0.", "layers.1.", "layers.2.", "density.", "feature.", "direction.", "rgb."])
def test_gradients_do_not_depend_on_what_else_is_trained_or_asked_for(first):
    profile, weights, position, direction = field()
    wanted = torch.tensor([1.0, 0, 2, 0, 0, 3]).double()
    raw, colour = profile.density(weights, position, direction)
    (wanted @ (raw + colour.sum(1))).backward()
    _, alone, _, _ = field(trained=[name for name in weights if name.startswith(first)])
    asked = wanted != 0
    raw, colour = profile.density(alone, position[asked], direction[asked])
    (wanted[asked] @ (raw + colour.sum(1))).backward()
    for name, value in alone.items():
        assert (value.grad is not None) == name.startswith(first)
        if value.grad is not None:
            torch.testing.assert_close(value.grad, weights[name].grad)


def test_occupancy_is_the_first_tensor_and_part_of_the_structure():
    profile, without = NerfProfile(**TINY, occupancy=5), NerfProfile(**TINY)
    first, *others = profile.tensors
    assert tuple(others) == without.tensors
    assert (first.name, first.shape, first.group) == ("occupancy", (5, 5, 5), "structure")
    assert first.exact
    assert first.lead
    assert profile.layer_tensors["layers.0"] == ("layers.0.weight", "layers.0.bias", "occupancy")
    assert (profile.initialise(np.random.default_rng(0))["occupancy"] == 1).all()
    assert build("nerf", profile.config).tensors == profile.tensors
    assert "occupancy" not in without.config

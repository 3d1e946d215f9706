"""Profile `grid` in plain torch against a slow twin that follows FORMAT.md word for word."""

import itertools
import math

import numpy as np
import pytest
import torch

from invcodec.errors import DamagedError, InvError, LimitError
from invcodec.field.grid import GridProfile, spherical_harmonics
from invcodec.field.kernels.grid import harmonics
from invcodec.field.registry import build


def slow_encode(profile: GridProfile, weights: dict[str, np.ndarray], point: np.ndarray) -> list[float]:
    out = []
    for level, r in enumerate(profile.layout.resolutions):
        table = weights[f"grid.{level}"]
        base = [min(math.floor(u * r), r - 1) for u in point]
        total = np.zeros(2)
        for corner in itertools.product((0, 1), repeat=3):
            vertex = [b + c for b, c in zip(base, corner, strict=True)]
            weight = math.prod(u * r - b if c else 1 - (u * r - b) for u, b, c in zip(point, base, corner, strict=True))
            if (r + 1) ** 3 > 2**profile.layout.log2_table:
                x, y, z = vertex[0], vertex[1] * 2654435761 % 2**32, vertex[2] * 805459861 % 2**32
                entry = table[(x ^ y ^ z) % 2**profile.layout.log2_table]
            else:
                entry = table[tuple(vertex)]
            total += weight * entry.astype(np.float64)
        out += list(total)
    return out


def test_encoding_against_slow_twin():
    profile = GridProfile(resolutions=(3, 8, 21, 300), log2_table=10, occupancy=4)
    assert [level.hashed for level in profile.layout.levels] == [False, False, True, True]
    rng = np.random.default_rng(1)
    weights = profile.initialise(rng)
    # Faces and corners of the cube, and of cells, are where an index goes out of range.
    special = [[0, 0, 0], [1, 1, 1], [1, 0.5, 0], [1 / 3, 2 / 3, 1 / 8], [np.nextafter(np.float32(1), 0)] * 3]
    points = np.concatenate([rng.random((40, 3)), special]).astype(np.float32)
    fast = profile.encode({k: torch.tensor(v) for k, v in weights.items()}, torch.tensor(points))
    slow = [slow_encode(profile, weights, point.astype(np.float64)) for point in points]
    np.testing.assert_allclose(fast, slow, atol=2e-5)


def test_harmonics_are_orthonormal():
    n = 40_000
    k = np.arange(n) + 0.5
    z, phi = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    terms = spherical_harmonics(torch.tensor(np.stack([r * np.cos(phi), r * np.sin(phi), z], 1))).numpy()
    np.testing.assert_allclose(terms.T @ terms * (4 * np.pi / n), np.eye(9), atol=1e-3)


def test_layout_is_what_the_format_says() -> None:
    layout = GridProfile(
        resolutions=(3, 9, 30, 12), log2_table=9, hidden=8, features=3, colour_hidden=4, occupancy=5
    ).layout
    hashed, dense = (512, 2), (4, 4, 4, 2)
    assert layout.shapes == {
        "grid.0": dense,
        "grid.1": hashed,
        "grid.2": hashed,
        "grid.3": hashed,
        "occupancy": (5, 5, 5),
        "density.0.weight": (8, 8),
        "density.0.bias": (8,),
        "density.1.weight": (4, 8),
        "density.1.bias": (4,),
        "colour.0.weight": (4, 12),
        "colour.0.bias": (4,),
        "colour.1.weight": (4, 4),
        "colour.1.bias": (4,),
        "colour.2.weight": (3, 4),
        "colour.2.bias": (3,),
    }
    assert [level.hashed for level in layout.levels] == [False, True, True, True]
    assert layout.entries == 64 + 3 * 512
    assert layout.table_mask == 511


def test_views_cover_a_flat_array_once_and_in_order() -> None:
    layout = GridProfile(resolutions=(3, 9), log2_table=9, hidden=8, features=3, colour_hidden=4, occupancy=5).layout
    table = np.arange(2 * layout.entries).reshape(-1, 2)
    views = layout.table_views(table)
    assert [view.size for view in views.values()] == [math.prod(layout.shapes[name]) for name in views]
    np.testing.assert_array_equal(np.concatenate(list(views.values())), table)
    for multiple in (1, 4):
        flat = torch.arange(2 * layout.layer_size(multiple)).reshape(2, -1)
        parts = layout.layer_views(flat, multiple)
        assert torch.equal(torch.cat([part.reshape(2, -1) for part in parts.values()], 1), flat)
        assert all(part.shape[1] % multiple == 0 for part in parts.values())
        assert all(part.data_ptr() >= flat.data_ptr() for part in parts.values())
        assert parts["colour.2.weight"].shape == (2, 4 if multiple == 4 else 3, 4)


def test_compiled_harmonics_agree_with_the_torch_ones() -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(size=(20, 3)).astype(np.float32)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    out = np.zeros((9, 20), np.float32)
    for column, view in enumerate(views):
        harmonics(view, out, column)
    np.testing.assert_allclose(out.T, spherical_harmonics(torch.tensor(views)), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"parts": -1}, DamagedError, "parts: -1 is less than 0"),
        ({"parts": 17}, LimitError, "parts: 17 is more than 16"),
        ({"hidden": 6}, DamagedError, "a layer of width 6"),
        ({"resolutions": [4]}, DamagedError, "a layer of width 2"),
        ({"samples": 0}, DamagedError, "samples: 0 is less than 1"),
        ({"log2_table": 25}, LimitError, "log2_table: 25 is more than 24"),
    ],
)
def test_hostile_configuration_is_refused(wrong: dict[str, object], error: type[InvError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        build("grid", wrong)


def test_parts_are_declared_only_if_there_are_any() -> None:
    profile, without = GridProfile(parts=3), GridProfile()
    assert "parts" not in without.config
    assert profile.config == {**without.config, "parts": 3}
    names = [spec.name for spec in profile.tensors]
    assert names.index("motion") == names.index("occupancy") + 1
    assert [name for name in names if name != "motion"] == [spec.name for spec in without.tensors]
    assert (profile.initialise(np.random.default_rng(0))["motion"] == 0).all()
    assert profile.layer_tensors["grid"][-2:] == ("occupancy", "motion")

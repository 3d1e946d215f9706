"""The torch engine: rendering against one ray and one sample at a time, training, occupancy."""

import math

import numpy as np
import pytest
import torch

from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.geometry.space import Rays, Space
from invcodec.render import reference
from invcodec.render.engine import Batch
from invcodec.render.networks import Network, Networks
from invcodec.render.reference import TorchEngine

BOX = Space("box", np.eye(3, 4), -np.ones(3), np.ones(3))
SPACES = [
    BOX,
    Space("contract", np.eye(3, 4), -np.ones(3), np.ones(3)),
    Space("ndc", np.eye(3, 4), np.array([-0.8, -0.8, 1.0]), np.array([0.8, 0.8, np.inf])),
]


def small_grid(**more):
    sizes = {"resolutions": (4, 9), "log2_table": 8, "hidden": 8, "features": 3, "colour_hidden": 4}
    return GridProfile(**(sizes | {"occupancy": 6, "samples": 24} | more))


def small_nerf(**more):
    sizes = {"depth": 3, "width": 32, "structure_layers": 1, "position_octaves": 4, "direction_octaves": 1}
    return NerfProfile(**(sizes | {"samples": 16, "importance": 16} | more))


def engine(profile, roles=("scene",), space=BOX, seed=0):
    """An engine with fresh weights, and those weights."""
    networks = Networks(Network(role, role, profile, space) for role in roles)
    weights = networks.initialise(np.random.default_rng(seed))
    made = TorchEngine(networks)
    made.load(weights)
    return made, weights


def solid_grid(space=BOX):
    """A grid that fills some of its cells with something dense enough to end rays, and its weights."""
    made, weights = engine(small_grid(), space=space)
    rng = np.random.default_rng(5)
    for level in range(2):
        weights["scene", f"grid.{level}"] *= 200
    weights["scene", "density.1.weight"] *= 4
    weights["scene", "occupancy"] = (rng.random((6, 6, 6)) < 0.7).astype(np.float32)
    made.load(weights)
    return made, weights


def toy_rays(rng, n):
    """World rays from all around towards the middle."""
    origins = rng.normal(size=(n, 3))
    origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
    return origins, (rng.uniform(-0.6, 0.6, (n, 3)) - origins) / 3


def toy_batch(rng, n, space=BOX):
    """A coloured ball in front of white."""
    o, d = toy_rays(rng, n)
    a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 0.25
    inside = b * b - a * c
    hit = o + ((-b - np.sqrt(np.maximum(inside, 0))) / a)[:, None] * d
    colour = np.where(inside[:, None] > 0, 0.5 + hit, 1).astype(np.float32)
    share = np.full(n, 1 / n, np.float32)
    return Batch(space.march(o, d), colour, np.ones((n, 3), np.float32), share, rng.random(n, np.float32))


def slow_position(ray, s, contracted):
    o, d = ray
    if not contracted:
        return [a + s * b for a, b in zip(o, d, strict=True)]
    tau = 2 * s if s < 0.5 else 1 / (2 - 2 * s)
    point = [a + tau * b for a, b in zip(o, d, strict=True)]
    norm = max(abs(v) for v in point)
    if norm > 1:
        point = [math.copysign(2 - 1 / norm, v) if abs(v) == norm else v / norm for v in point]
    return [v / 4 + 0.5 for v in point]


def slow_render(profile, weights, rays: Rays, background, contracted):
    """Colour, opacity and median depth, ray by ray and sample by sample."""
    torch_weights = {name: torch.tensor(value) for (_, name), value in weights.items()}
    cells, n = profile.layout.occupancy, profile.samples
    for r in range(len(rays)):
        ray = rays.origins[r].astype(float), rays.directions[r].astype(float)
        view = torch.tensor(rays.view[r : r + 1])
        left, median, sums = 1.0, 1.0, np.zeros(profile.layout.features)
        for i in range(n):
            s = (i + 0.5) / n
            point = slow_position(ray, s, contracted)
            if left <= 1e-3 or not all(0 <= v < 1 for v in point):
                continue
            if not weights["scene", "occupancy"][tuple(math.floor(v * cells) for v in point)]:
                continue
            if contracted:
                a = slow_position(ray, i / n, contracted)
                b = slow_position(ray, min((i + 1) / n, 1 - 0.25 / n), contracted)
                length = math.dist(a, b)
            else:
                length = math.hypot(*ray[1]) / n
            raw, features = profile.density(torch_weights, torch.tensor([point], dtype=torch.float32), view)
            alpha = 1 - math.exp(-math.exp(min(raw.item(), 12)) * length)
            sums += left * alpha * features[0].numpy()
            if left >= 0.5 > left * (1 - alpha):
                median = s
            left *= 1 - alpha
        opacity = torch.tensor([1 - left], dtype=torch.float32)
        sums = torch.tensor(sums[None], dtype=torch.float32)
        shade = profile.shade(torch_weights, sums, opacity, view)[0].numpy()
        yield shade + left * background, 1 - left, median


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.kind)
def test_render_against_slow_twin(space):
    made, weights = solid_grid(space)
    rng = np.random.default_rng(2)
    origins, directions = toy_rays(rng, 16)
    if space.kind == "ndc":
        origins = rng.normal(0, 0.1, (16, 3))
        directions = np.concatenate([rng.uniform(-0.6, 0.6, (16, 2)), np.full((16, 1), -1.0)], 1)
    rays = space.march(origins, directions)
    background = np.array([0.2, 0.9, 0.4], np.float32)
    pixels = made.render(rays, background)
    slow = list(slow_render(made.networks.shown.profile, weights, rays, background, space.contracted))
    np.testing.assert_allclose(pixels.rgb, [p[0] for p in slow], atol=1e-4)
    np.testing.assert_allclose(pixels.opacity, [p[1] for p in slow], atol=1e-4)
    np.testing.assert_allclose(pixels.s, [p[2] for p in slow], atol=1e-6)
    assert pixels.opacity.max() > 0.99
    assert (pixels.s < 1).any()


def test_empty_space_shows_the_background():
    made, _ = solid_grid()
    made.set_occupancy(np.zeros((6, 6, 6), bool))
    rays = BOX.march(*toy_rays(np.random.default_rng(0), 5))
    pixels = made.render(rays, np.array([0.1, 0.2, 0.3], np.float32))
    np.testing.assert_allclose(pixels.rgb, [[0.1, 0.2, 0.3]] * 5, rtol=1e-6)
    assert (pixels.opacity == 0).all()
    assert (pixels.s == 1).all()
    none = BOX.march(*toy_rays(np.random.default_rng(0), 0))
    assert made.render(none, np.zeros(3, np.float32)).rgb.shape == (0, 3)


def test_training_on_empty_space_changes_nothing():
    made, _ = solid_grid()
    made.set_occupancy(np.zeros((6, 6, 6), bool))
    before = made.weights()
    made.begin(list(before), 0.0)
    made.step(toy_batch(np.random.default_rng(0), 8), 0.1, 0.1)
    # The density's and the tables' gradients are exactly zero; nothing here reaches a colour.
    assert all((before[key] == value).all() for key, value in made.weights().items())


def test_result_does_not_depend_on_how_rays_are_split():
    results = []
    for size in (10**6, 24 * 7):
        made, weights = solid_grid()
        made._pass_samples = size
        batch = toy_batch(np.random.default_rng(1), 40)
        pixels = made.render(batch.rays, np.ones(3, np.float32))
        made.begin(list(weights), 0.0)
        steps = [made.step(batch, 1e-3, 1e-3) for _ in range(2)]
        results.append((*pixels, *(s.loss for s in steps), *(s.rgb for s in steps), made.take_cell_weights()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def loss_of_training(made, weights, steps, rate):
    rng = np.random.default_rng(3)
    made.begin(list(weights), 0.0)
    losses = [made.step(toy_batch(rng, 128), rate, rate).loss for _ in range(steps)]
    return np.mean(losses[:5]), np.mean(losses[-5:])


@pytest.mark.parametrize("roles", [("coarse", "fine"), ("scene",)], ids=len)
def test_small_nerf_learns(roles):
    first, last = loss_of_training(*engine(small_nerf(), roles), 90, 5e-3)
    assert last < first / 5


def test_small_grid_learns():
    made, weights = engine(small_grid(resolutions=(4, 8, 12, 18), log2_table=12, features=7))
    first, last = loss_of_training(made, weights, 60, 2e-2)
    assert last < first / 2.5


def test_training_repeats_exactly():
    results = []
    for _ in range(2):
        made, weights = engine(small_nerf(), ("coarse", "fine"))
        rng = np.random.default_rng(3)
        made.begin(list(weights), 0.0)
        for _ in range(3):
            made.step(toy_batch(rng, 32), 1e-3, 1e-3)
        results.append(made.weights())
    assert all((results[0][key] == results[1][key]).all() for key in weights)


def test_only_trainable_tensors_change_and_occupancy_never_does():
    made, weights = solid_grid()
    trainable = {("scene", "grid.1"), ("scene", "colour.2.bias"), ("scene", "occupancy")}
    made.begin(trainable, 0.0)
    made.step(toy_batch(np.random.default_rng(1), 64), 0.01, 0.01)
    changed = {key for key, value in made.weights().items() if (value != weights[key]).any()}
    assert changed == trainable - {("scene", "occupancy")}


def test_entries_without_gradient_are_left_alone():
    made, weights = solid_grid()
    near = np.zeros((6, 6, 6), bool)
    near[0, 0, 0] = True
    made.set_occupancy(near)
    corner = Rays(*(np.array([v], np.float32) for v in ([0.02] * 3, [0.1] * 3, [0, 0, 1], 0, 1)))
    one = np.ones((1, 3), np.float32)
    made.begin([("scene", "grid.0")], 0.0)
    made.step(Batch(corner, 0 * one, one, one[:, 0], 0.5 * one[:, 0]), 0.05, 0.0)
    change = np.abs(made.weights()["scene", "grid.0"] - weights["scene", "grid.0"]).max(-1)
    assert (change[:2, :2, :2] > 0).all()
    change[:2, :2, :2] = 0
    assert (change == 0).all()


def test_price_keeps_changes_small_and_a_high_one_prevents_them():
    moved = []
    for price in (0.0, 1e-5, 1e3):
        made, weights = solid_grid()
        made.begin(list(weights), price, delta=True)
        for _ in range(5):
            made.step(toy_batch(np.random.default_rng(1), 64), 0.01, 0.01)
        moved.append(np.mean(made.weights()["scene", "grid.0"] != weights["scene", "grid.0"]))
    assert moved[0] > moved[1] > moved[2] == 0


def test_a_keyframe_s_price_is_one_on_all_of_a_table_and_on_nothing_else():
    size = []
    for price in (0.0, 1e-5, 1e3):
        made, weights = solid_grid()
        made.begin(list(weights), price)
        for _ in range(5):
            made.step(toy_batch(np.random.default_rng(1), 64), 0.01, 0.01)
        after = made.weights()
        reached = after["scene", "grid.0"] != weights["scene", "grid.0"]
        size.append(np.abs(after["scene", "grid.0"][reached]).mean())
        assert (after["scene", "density.0.weight"] != weights["scene", "density.0.weight"]).any()
    assert size[0] > size[1] > size[2] == 0


def test_a_price_on_everything_is_higher_where_lattice_steps_are_finer():
    """Adam's first step is the rate whatever the gradient g; its threshold is rate * price / (step * |g|)."""
    made, weights = solid_grid()
    specs, rate = made.networks.tensors, 0.01

    def moved(price: float, *, delta: bool) -> dict:
        made.load(weights)
        made.begin(list(weights), price, delta=delta)
        made.step(toy_batch(np.random.default_rng(1), 64), rate, rate)
        return {key: np.abs(value - weights[key]) for key, value in made.weights().items()}

    free = moved(0.0, delta=True)
    for name in ("grid.0", "density.1.weight", "colour.2.weight"):
        key = "scene", name
        # The price at which a weight in the middle would stay where it is, counted in lattice steps.
        gradient = rate * 1e-6 / specs[key].step / (rate - moved(1e-6, delta=True)[key][free[key] > 0])
        price = float(np.median(gradient)) * specs[key].step
        stay = (moved(price, delta=True)[key] == 0) & (free[key] > 0)
        assert stay.sum() / (free[key] > 0).sum() == pytest.approx(0.5, abs=0.1), name
    assert all((change == 0).all() for change in moved(1e3, delta=True).values())
    assert moved(1e3, delta=False)["scene", "density.1.weight"].any()


def test_nerf_step_is_clipped_adam():
    """Two steps of a noiseless network against torch's own optimiser."""
    profile = small_nerf(importance=0)
    profile.recipe = type(profile.recipe)(clip=0.01)
    made, weights = engine(profile)
    twin, _ = engine(profile)
    batches = [toy_batch(np.random.default_rng(seed), 32) for seed in (1, 2)]
    made.begin(list(weights), 0.0)
    for batch in batches:
        made.step(batch, 2e-3, 1e-3)

    values = {name: torch.tensor(value, requires_grad=True) for (_, name), value in weights.items()}
    twin._weights["scene"] = values
    lead = [values[spec.name] for spec in profile.tensors if spec.lead]
    rest = [values[spec.name] for spec in profile.tensors if not spec.lead]
    adam = torch.optim.Adam([{"params": lead, "lr": 2e-3}, {"params": rest, "lr": 1e-3}])
    for batch in batches:
        rays = twin._rays(batch.rays)
        seen = twin._trace(rays, torch.tensor(batch.jitter), torch.tensor(batch.background), 16, True)
        loss = (torch.tensor(batch.weight) * (seen[0].rgb - torch.tensor(batch.target)).square().mean(1)).sum()
        adam.zero_grad()
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(list(values.values()), 0.01) > 0.01
        adam.step()
    for (_, name), value in made.weights().items():
        np.testing.assert_allclose(value, values[name].detach(), atol=2e-5, err_msg=name)


def test_mixed_precision_learns_the_same_and_renders_in_full(monkeypatch):
    # Emulated where the hardware has none.
    monkeypatch.setattr(reference, "_multiplies_bfloat16", lambda device: True)
    batches = [toy_batch(np.random.default_rng(seed), 32) for seed in range(3)]
    losses, made = {}, {}
    for mixed in (False, True):
        made[mixed], weights = engine(small_nerf(importance=0))
        made[mixed].begin(list(weights), 0.0, mixed=mixed)
        losses[mixed] = [made[mixed].step(batch, 1e-3, 1e-3).loss for batch in batches]
    assert losses[True] != losses[False]
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.02)
    weights = made[True].weights()
    moved = [np.abs(weights[key] - value).max() for key, value in made[False].weights().items()]
    assert max(moved) < 3 * 2e-3
    made[False].load(weights)
    pixels = [made[mixed].render(batches[0].rays, np.ones(3, np.float32)) for mixed in (False, True)]
    for full, mixed in zip(*pixels, strict=True):
        np.testing.assert_array_equal(full, mixed)


def test_mixed_precision_waits_for_hardware(monkeypatch):
    for known, expected in (({"avx512_bf16": True}, True), ({"avx512_f": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert reference._multiplies_bfloat16(torch.device("cpu")) is expected


def test_fine_network_takes_its_samples_where_the_coarse_one_saw_something():
    made, _ = engine(small_nerf(samples=8, importance=24), ("coarse", "fine"))
    seen = []
    density = made._shown.profile.density

    def spy(weights, position, direction):
        seen.append(position)
        _, features = density(weights, position, direction)
        # A wall in the last quarter of the box.
        return torch.where(position[:, 2] > 0.75, 100.0, -1.0), features

    made._shown.profile.density = spy
    rays = Rays(*(np.array([v], np.float32) for v in ([0.5, 0.5, 0], [0, 0, 1], [0, 0, 1], 0, 1)))
    pixels = made.render(rays, np.ones(3, np.float32))
    coarse, fine = (p[:, 2] for p in seen)
    assert len(coarse) == 8
    assert len(fine) == 32
    assert (fine > 0.75).sum() == 2 + 24
    assert 0.75 < pixels.s[0] < 0.82


def test_cell_weights_are_those_of_visited_cells():
    made, weights = solid_grid()
    made.begin(list(weights), 0.0)
    ray = Rays(*(np.array([v], np.float32) for v in ([0.25, 0.6, 0.0], [0, 0, 1], [0, 0, 1], 0, 1)))
    one = np.ones((1, 3), np.float32)
    made.step(Batch(ray, one, one, one[:, 0], 0.5 * one[:, 0]), 0.0, 0.0)
    seen = made.take_cell_weights()
    visited = np.zeros((6, 6, 6), bool)
    visited[1, 3] = weights["scene", "occupancy"][1, 3] != 0
    assert seen.max() > 0
    assert (seen[~visited] == 0).all()
    assert (made.take_cell_weights() == 0).all()


def test_a_profile_without_occupancy_has_none():
    assert engine(small_nerf())[0].occupancy() is None

"""Every engine against the reference: the same pictures, the same training, the same occupancy.

Every engine in `invcodec.render.ENGINES` that can run on this machine is tested without changes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from subprocess import CalledProcessError
from typing import Any

import numpy as np
import pytest
import torch
from fields import EVERYTHING, PARTS, PROFILE, SPACES, batch, networks, rays, weights, with_parts

import invcodec.render
from invcodec.arrays import Array
from invcodec.errors import InvWarning, UsageError
from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.field.profile import TensorKey
from invcodec.geometry.space import Rays, Space
from invcodec.render import ENGINES, Engine, make_renderer, make_trainer
from invcodec.render.engine import Pixels, Renderer, Trainer
from invcodec.render.networks import Network, Networks
from invcodec.render.reference import TorchEngine

CUDA = torch.cuda.is_available()
HERE = [engine for engine in ENGINES if engine.requires is None or find_spec(engine.requires)]


@pytest.fixture(params=HERE, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    found: Engine = request.param
    if found.device == "cuda" and not CUDA:
        # Its kernels are interpreted, and the interpreter's time goes with programs, not with their width.
        monkeypatch.setattr("invcodec.render.gpu.BLOCK_RAYS", 64)
        monkeypatch.setattr("invcodec.render.gpu._FIELD_POINTS", 1 << 13)
    return found


def made(engine: Engine, own: Networks) -> Any:
    device = "cuda" if engine.device == "cuda" and CUDA else "cpu"
    return engine.load()(own, device=device, threads=2)


def rounds(engine: Engine) -> bool:
    """Whether training rounds what it multiplies to 11 bits."""
    return engine.device == "cuda" and CUDA


def pair(engine: Engine, space: Space, seed: int, *, parts: bool = False) -> tuple[Any, TorchEngine]:
    """An engine and the reference with the same weights; tables hold float16 values, which some engines train on."""
    held = weights(seed)
    for key, value in held.items():
        held[key] = value.astype(np.float16).astype(np.float32) if key[1].startswith("grid.") else value
    own = networks(space, PARTS if parts else PROFILE)
    held = with_parts(held, seed) if parts else held
    both = made(engine, own), TorchEngine(own)
    for each in both:
        each.load(held)
    return both


@pytest.mark.parametrize(("kind", "parts"), [*((kind, False) for kind in SPACES), ("box", True), ("contract", True)])
def test_engines_render_what_the_reference_renders(engine: Engine, kind: str, parts: bool) -> None:
    fast, plain = pair(engine, SPACES[kind], 1, parts=parts)
    # Not a multiple of an engine's chunk, so that the last chunk is partly filled.
    view = rays(SPACES[kind], np.random.default_rng(2), 150)
    background = np.array([0.2, 0.5, 0.9])
    a, b = fast.render(view, background), plain.render(view, background)
    assert 0.1 < b.opacity.mean() < 0.999
    np.testing.assert_allclose(a.rgb, b.rgb, atol=2e-4)
    np.testing.assert_allclose(a.opacity, b.opacity, atol=2e-4)
    # The median depth is a sample's: rounding may choose the next one where the light is at one half.
    assert np.mean(np.abs(a.s - b.s) < 1e-6) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "delta", "parts"),
    [*((kind, False, False) for kind in SPACES), ("box", True, False), ("ndc", True, True)],
)
def test_engines_train_what_the_reference_trains(engine: Engine, kind: str, delta: bool, parts: bool) -> None:
    fast, plain = pair(engine, SPACES[kind], 3, parts=parts)
    before = plain.weights()
    for each in (fast, plain):
        each.begin(EVERYTHING, 1e-8 if delta else 1e-6, delta=delta)
    for index in range(2):
        one = batch(SPACES[kind], np.random.default_rng(index), 100)
        a, b = (each.step(one, 0.01, 0.002, samples=20 + index) for each in (fast, plain))
        assert a.loss == pytest.approx(b.loss, rel=2e-2 if rounds(engine) else 2e-3)
        np.testing.assert_allclose(a.rgb, b.rgb, atol=2e-2 if rounds(engine) else 2e-3)
    after, twin = fast.weights(), plain.weights()
    assert after.keys() == twin.keys()
    for key, value in after.items():
        moved = np.abs(twin[key] - before[key])
        # Adam divides by the gradient's own size, so a gradient near zero may step either way.
        agree = np.abs(value - twin[key]) <= (0.2 if rounds(engine) else 0.05) * moved + 1e-4
        assert agree.mean() > 0.9, key
        assert key[1] in ("occupancy", "motion") or moved.max() > 0, key
    tolerance = 2e-2 if rounds(engine) else 2e-3
    np.testing.assert_allclose(fast.take_cell_weights(), plain.take_cell_weights(), atol=tolerance)
    assert fast.take_cell_weights().max() == 0


def test_only_trainable_tensors_change(engine: Engine) -> None:
    fast, _ = pair(engine, SPACES["box"], 5)
    before = fast.weights()
    fast.begin({("scene", "grid.1"), ("scene", "colour.0.weight"), ("scene", "occupancy")}, 0.0)
    fast.step(batch(SPACES["box"], np.random.default_rng(0), 64), 0.01, 0.01, samples=10)
    changed = {name for (_, name), value in fast.weights().items() if (value != before["scene", name]).any()}
    # Some engines train all tables together; the encoder codes only those that it needs.
    assert {"grid.1", "colour.0.weight"} <= changed <= {*(f"grid.{level}" for level in range(4)), "colour.0.weight"}
    before = fast.weights()
    fast.begin({("scene", "colour.0.weight")}, 0.0)
    fast.step(batch(SPACES["box"], np.random.default_rng(0), 64), 0.01, 0.01, samples=10)
    changed = {name for (_, name), value in fast.weights().items() if (value != before["scene", name]).any()}
    assert changed == {"colour.0.weight"}


@pytest.mark.parametrize("later", [False, True], ids=["begin", "set_price"])
@pytest.mark.parametrize("delta", [False, True], ids=["key", "delta"])
def test_a_high_price_keeps_weights_as_they_are_or_takes_tables_to_0(engine: Engine, later: bool, delta: bool) -> None:
    fast, _ = pair(engine, SPACES["box"], 5)
    before = fast.weights()
    trainable = EVERYTHING if delta else {("scene", f"grid.{level}") for level in range(4)}
    fast.begin(trainable, 0.0 if later else 1e3, delta=delta)
    if later:
        fast.set_price(1e3)
    fast.step(batch(SPACES["box"], np.random.default_rng(0), 64), 0.01, 0.01, samples=10)
    after = fast.weights()
    for key, value in after.items():
        stays = value == before[key]
        if key[1].startswith("grid") and not delta:
            assert (stays | (value == 0)).all()
            assert not stays.all()
        else:
            assert stays.all()


def test_the_warm_up_leaves_no_trace(engine: Engine) -> None:
    short = made(engine, networks(SPACES["box"], GridProfile(**{**PROFILE.config, "samples": 8})))
    short.load(weights(13))
    before = short.weights()
    short.warm_up()
    assert all((short.weights()[key] == before[key]).all() for key in before)
    assert short.take_cell_weights().max() == 0


def test_occupancy_is_set_read_and_rendered(engine: Engine) -> None:
    fast, _ = pair(engine, SPACES["box"], 1)
    np.testing.assert_array_equal(fast.occupancy(), weights(1)["scene", "occupancy"] != 0)
    cells = np.zeros((5, 5, 5), bool)
    cells[1, 2, 3] = True
    fast.set_occupancy(cells)
    np.testing.assert_array_equal(fast.occupancy(), cells)
    np.testing.assert_array_equal(fast.weights()["scene", "occupancy"], cells)
    fast.set_occupancy(np.zeros((5, 5, 5), bool))
    pixels = fast.render(rays(SPACES["box"], np.random.default_rng(0), 5), np.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(pixels.rgb, [[0.1, 0.2, 0.3]] * 5, rtol=1e-6)
    assert (pixels.opacity == 0).all()
    assert (pixels.s == 1).all()


def test_a_part_moves_as_a_whole_and_covers_what_does_not_move(engine: Engine) -> None:
    held = weights(1)
    shift = np.zeros((3, 12), np.float32)
    held["scene", "occupancy"] = np.ones((5, 5, 5), np.float32)
    still, _ = pair(engine, SPACES["box"], 1, parts=True)
    still.load(held | {("scene", "motion"): shift})
    # All cells belong to a part, which has moved by two cells: what was seen there is now seen here.
    moved, _ = pair(engine, SPACES["box"], 1, parts=True)
    shift[1, 3] = 0.4
    held["scene", "occupancy"][:] = 3
    moved.load(held | {("scene", "motion"): shift})
    np.testing.assert_array_equal(moved.occupancy(), 3)
    world = rays(SPACES["box"], np.random.default_rng(2), 50)
    onwards = rays(SPACES["box"], np.random.default_rng(2), 50)
    world.origins[:, 0] -= np.float32(0.4)
    a, b = moved.render(world, np.zeros(3)), still.render(onwards, np.zeros(3))
    whole = (onwards.origins[:, 0] > 0.45) & (onwards.origins[:, 0] + onwards.directions[:, 0] > 0.45)
    assert whole.sum() > 5
    np.testing.assert_allclose(a.rgb[whole], b.rgb[whole], atol=2e-4)
    assert b.opacity[whole].max() > 0.5


def test_no_rays_are_no_pixels(engine: Engine) -> None:
    fast, _ = pair(engine, SPACES["box"], 1)
    none = rays(SPACES["box"], np.random.default_rng(0), 0)
    assert fast.render(none, np.zeros(3)).rgb.shape == (0, 3)


def test_density_is_that_of_the_field(engine: Engine) -> None:
    profile = GridProfile(
        resolutions=(4, 5), log2_table=8, hidden=4, features=3, colour_hidden=4, occupancy=5, samples=8
    )
    fast = made(engine, networks(SPACES["box"], profile))
    held = {("scene", spec.name): np.zeros(spec.shape, np.float32) for spec in profile.tensors}
    # Raw density x + 10 y + 100 z, over 20: dense level 0 holds it at its vertices, and two layers pass it on.
    x, y, z = np.meshgrid(*[np.arange(5) / 4] * 3, indexing="ij")
    held["scene", "grid.0"][..., 0] = (x + 10 * y + 100 * z) / 20
    held["scene", "density.0.weight"][0, 0] = 1
    held["scene", "density.1.weight"][0, 0] = 1
    fast.load(held)
    points = np.random.default_rng(0).random((100, 3), np.float32)
    raw = 20 * np.log(fast.density(points))
    np.testing.assert_allclose(raw, points @ [1, 10, 100], atol=0.2 if rounds(engine) else 1e-3)


class Player(Renderer):
    """An engine that is not in the package: it paints everything in the mean of its first tensor."""

    def __init__(self, networks: Networks, *, device: str, threads: int) -> None:
        self.networks = networks
        self._grey = 0.0

    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        self._grey = float(next(iter(weights.values())).mean())

    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        n = len(rays)
        rgb: Array = np.full((n, 3), self._grey, np.float32)
        return Pixels(rgb, np.ones(n, np.float32), np.zeros(n, np.float32))


def test_an_engine_that_only_renders_is_one_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invcodec.render, "ENGINES", (Engine(__name__, "Player", device="cpu"), *ENGINES))
    player = make_renderer(networks(SPACES["box"]), device="cpu")
    assert isinstance(player, Player)
    player.load({("scene", "grid.0"): np.full((2, 2), 0.25, np.float32)})
    assert (player.render(rays(SPACES["box"], np.random.default_rng(0), 4), np.zeros(3)).rgb == 0.25).all()
    monkeypatch.undo()
    assert isinstance(make_trainer(networks(SPACES["box"]), device="cpu"), Trainer)


def nerf(role: str) -> Network:
    profile = NerfProfile(depth=1, width=4, structure_layers=1, position_octaves=1, direction_octaves=0, samples=4)
    return Network(role, role, profile, SPACES["box"])


@pytest.mark.filterwarnings("error::invcodec.errors.InvWarning")
def test_the_fastest_engine_that_fits_is_chosen() -> None:
    for make in (make_renderer, make_trainer):
        assert type(make(networks(SPACES["box"]), device="cpu", threads=1)).__name__ == "CompiledEngine"
        assert isinstance(make(Networks([nerf("scene")]), device="cpu"), TorchEngine)
        # The paper's configuration: no engine is faster, so there is no warning.
        assert isinstance(make(Networks([nerf("coarse"), nerf("fine")]), device="cpu"), TorchEngine)


def test_networks_that_need_the_slow_engine_only_together_cause_a_warning() -> None:
    both = Networks(Network(role, role, PROFILE, SPACES["box"]) for role in ("coarse", "fine"))
    with pytest.warns(
        InvWarning, match="through PyTorch alone, which is slow; CompiledEngine: it computes one network"
    ):
        assert isinstance(make_renderer(both, device="cpu"), TorchEngine)


def test_lead_tensors_that_the_kernels_cannot_train_cause_a_warning() -> None:
    own = Networks([Network("scene", "scene", PROFILE, SPACES["box"], frozenset({"grid.0"}))])
    with pytest.warns(InvWarning, match="its lead tensors are the grid's levels"):
        assert isinstance(make_trainer(own, device="cpu"), TorchEngine)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RuntimeError("Failed to find C compiler.\nPlease specify one."), "Failed to find C compiler."),
        (CalledProcessError(1, ["cc"]), "Command '['cc']' returned non-zero exit status 1."),
        (OSError(), "OSError"),
    ],
)
def test_an_engine_whose_kernels_cannot_be_compiled_is_skipped_with_a_warning(
    failure: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from invcodec.render.compiled import CompiledEngine

    def fail(self: CompiledEngine) -> None:
        raise failure

    monkeypatch.setattr(CompiledEngine, "probe", fail)
    with pytest.warns(InvWarning) as caught:
        assert isinstance(make_renderer(networks(SPACES["box"]), device="cpu"), TorchEngine)
    assert str(caught[0].message).endswith(f"CompiledEngine: its kernels cannot be compiled here ({reason})")


def test_a_device_can_be_named_with_its_index() -> None:
    named = make_trainer(networks(SPACES["box"]), device="cpu:0", threads=1)
    assert type(named) is type(make_trainer(networks(SPACES["box"]), device="cpu", threads=1))
    assert isinstance(make_renderer(Networks([nerf("scene")]), device="cpu:0"), TorchEngine)


def test_a_failed_assertion_of_an_engine_is_not_blamed_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from invcodec.render.compiled import CompiledEngine

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(CompiledEngine, "__init__", fail)
    with pytest.raises(AssertionError, match="a bug"):
        make_renderer(networks(SPACES["box"]), device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpu:x"])
def test_a_missing_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}' cannot be used here"):
        make_renderer(Networks([nerf("scene")]), device=device)

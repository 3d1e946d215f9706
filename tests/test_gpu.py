"""The GPU engine and its steps against their twins: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fields import EVERYTHING, PROFILE, SPACES, batch, networks, rays, weights

from invcodec.capture.capture import open_capture
from invcodec.decoding.evaluation import validate
from invcodec.decoding.video import Video
from invcodec.encoding.capacity import grid_config
from invcodec.encoding.encode import encode_capture
from invcodec.encoding.presets import resolve
from invcodec.field.grid import GridProfile
from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space
from invcodec.geometry.space import Space, positions
from invcodec.render.networks import Networks
from invcodec.render.reference import TorchEngine
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.trace import render
from invcodec.training.colour import ColourCorrection
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Budget, Schedule
from invcodec.training.steps import HostSteps

triton = pytest.importorskip("triton", reason="Triton is for Linux alone")
tl = triton.language
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = DEVICE == "cpu"
"""Whether products are those of float32; on a GPU, training rounds factors to 11 bits."""

from invcodec.render import gpu  # noqa: E402
from invcodec.render import gpu_kernels as kernels  # noqa: E402
from invcodec.render.gpu import GpuEngine  # noqa: E402
from invcodec.training.device import DeviceSteps, _Kind  # noqa: E402


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes with programs, not with their width."""
    if DEVICE == "cpu":
        monkeypatch.setattr(gpu, "BLOCK_RAYS", 64)
        monkeypatch.setattr(gpu, "_FIELD_POINTS", 1 << 13)


def with_samples(space: Space, samples: int) -> Networks:
    return networks(space, GridProfile(**{**PROFILE.config, "samples": samples}))


def engines(space: Space, seed: int) -> tuple[GpuEngine, TorchEngine]:
    """Both with the same weights; tables hold what float16 can, so that training reads the same ones."""
    held = weights(seed)
    for key, value in held.items():
        held[key] = value.astype(np.float16).astype(np.float32) if key[1].startswith("grid.") else value
    pair = GpuEngine(networks(space), device=DEVICE), TorchEngine(networks(space))
    for each in pair:
        each.load(held)
    return pair


@triton.jit
def _positions(point, direction, s, out, CONTRACTED: tl.constexpr, N: tl.constexpr):
    ray = tl.arange(0, N)
    valid = ray < N
    ox, oy, oz = kernels._vector(point, ray, valid)
    dx, dy, dz = kernels._vector(direction, ray, valid)
    x, y, z = kernels._position(ox, oy, oz, dx, dy, dz, tl.load(s + ray), CONTRACTED)
    tl.store(out + 3 * ray, x)
    tl.store(out + 3 * ray + 1, y)
    tl.store(out + 3 * ray + 2, z)


@pytest.mark.parametrize("contracted", [False, True])
def test_the_kernels_map_space_as_geometry_does(contracted: bool) -> None:
    rng = np.random.default_rng(6)
    n = 512
    origins = torch.tensor(rng.uniform(-1, 1, (n, 3)), dtype=torch.float32, device=DEVICE)
    directions = torch.tensor(rng.normal(size=(n, 3)) * 10 ** rng.uniform(-2, 2, (n, 1)), device=DEVICE).float()
    s = torch.linspace(0, 0.999, n, device=DEVICE)
    out = torch.empty_like(origins)
    _positions[(1,)](origins, directions, s, out, CONTRACTED=contracted, N=n)
    twin = positions(origins.double(), directions.double(), s.double()[:, None], contracted)[:, 0]
    np.testing.assert_allclose(out.cpu(), twin.cpu(), rtol=1e-5, atol=1e-5)


def test_rays_find_what_lies_behind_much_empty_space() -> None:
    longer = with_samples(SPACES["box"], 500)
    fused, plain = GpuEngine(longer, device=DEVICE), TorchEngine(longer)
    held = weights(1)
    held["scene", "occupancy"][:, :, 1:] = 0
    held["scene", "density.1.bias"][0] = 3
    for engine in (fused, plain):
        engine.load(held)
    view = rays(SPACES["box"], np.random.default_rng(2), 20)
    a, b = fused.render(view, np.zeros(3)), plain.render(view, np.zeros(3))
    assert 0.1 < b.opacity.mean() < 0.9
    np.testing.assert_allclose(a.opacity, b.opacity, atol=2e-4)
    np.testing.assert_allclose(a.rgb, b.rgb, atol=2e-4)


@pytest.mark.parametrize(("pixels", "finest"), [(200_000, 200.0), (27_000_000, 1600.0), (10**9, 1e9)])
def test_every_network_that_pictures_get_fits(pixels: int, finest: float) -> None:
    profile = GridProfile(**grid_config(pixels, finest))
    assert GpuEngine.obstacle(networks(SPACES["box"], profile)) is None


def test_networks_of_large_pictures_are_rendered_and_trained_as_by_their_twin() -> None:
    """Ten levels, of which sixteen fill a tile; 96 cells along an axis, no power of two; 384 steps along a ray."""
    config = {**grid_config(27_000_000, 1e9), "log2_table": 8}
    assert (len(config["resolutions"]), config["occupancy"], config["samples"]) == (10, 96, 384)
    profile, rng = GridProfile(**config), np.random.default_rng(3)
    held = {("scene", name): value for name, value in profile.initialise(rng).items()}
    for key, value in held.items():
        if key[1].startswith("grid."):
            # What float16 can hold, so that training reads the same tables.
            held[key] = (1000 * value).astype(np.float16).astype(np.float32)
    held["scene", "occupancy"] = (rng.random((96, 96, 96)) < 0.1).astype(np.float32)
    large = networks(SPACES["box"], profile)
    fused, plain = GpuEngine(large, device=DEVICE), TorchEngine(large)
    drawn = batch(SPACES["box"], rng, 12)
    pictures, steps, cells = [], [], []
    for engine in (fused, plain):
        engine.load(held)
        pictures.append(engine.render(drawn.rays, np.zeros(3)))
        engine.begin({("scene", f"grid.{level}") for level in range(10)}, 0.0)
        steps.append(engine.step(drawn, 0.01, 0.0))
        cells.append(engine.take_cell_weights())
    assert 0.05 < pictures[1].opacity.mean() < 0.999
    np.testing.assert_allclose(pictures[0].rgb, pictures[1].rgb, atol=2e-4)
    np.testing.assert_allclose(steps[0].rgb, steps[1].rgb, atol=2e-4 if EXACT else 5e-3)
    np.testing.assert_allclose(cells[0], cells[1], atol=2e-4 if EXACT else 5e-3)
    assert (cells[1] > 0.01).any()
    for key in (("scene", f"grid.{level}") for level in range(10)):
        moved, expected = (engine.weights()[key] - held[key] for engine in (fused, plain))
        assert np.isclose(moved, expected, atol=1e-4).mean() > (0.99 if EXACT else 0.9), key


def test_only_what_may_change_changes() -> None:
    fused, _ = engines(SPACES["box"], 5)
    before = fused.weights()
    fused.begin({("scene", "grid.1"), ("scene", "colour.0.weight")}, 0.0)
    fused.step(batch(SPACES["box"], np.random.default_rng(0), 20), 0.01, 0.01, samples=10)
    changed = {name for (_, name), value in fused.weights().items() if (value != before["scene", name]).any()}
    assert "colour.0.weight" in changed
    assert not changed & {"density.0.weight", "colour.1.weight", "colour.0.bias", "occupancy"}
    fused.begin({("scene", "grid.1")}, 0.0)
    before = fused.weights()
    fused.step(batch(SPACES["box"], np.random.default_rng(1), 20), 0.01, 0.01, samples=10)
    changed = {name for (_, name), value in fused.weights().items() if (value != before["scene", name]).any()}
    assert changed == {f"grid.{level}" for level in range(4)}


def rig() -> list[Camera]:
    return [camera for camera in synthetic_rig(4, (24, 18)) if not camera.held_out]


def steps_on(transparent: bool = False) -> tuple[DeviceSteps, Views, FramePixels, ColourCorrection]:
    """On a frame of which a part changed, with a colour correction that is not neutral."""
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    rng = np.random.default_rng(3)
    images = [render(camera, "moving", 0.0, 1.0) for camera in cameras]
    if transparent:
        images = [np.dstack([image, rng.integers(256, size=image.shape[:2], dtype=np.uint8)]) for image in images]
    frame = FramePixels.gather(images, [None] * len(cameras), views.validation)
    moved = np.zeros(len(views), bool)
    moved[rng.choice(frame.valid, 300, replace=False)] = True
    frame = replace(frame, changed_mask=moved)
    correction = ColourCorrection(len(cameras))
    correction.gain = rng.uniform(0.8, 1.2, (len(cameras), 3)).astype(np.float32)
    correction.offset = rng.uniform(-0.1, 0.1, (len(cameras), 3)).astype(np.float32)
    engine = GpuEngine(networks(views.space), device=DEVICE)
    return DeviceSteps(engine, views, correction), views, frame, correction


@pytest.mark.parametrize("transparent", [False, True])
def test_batches_are_what_the_host_would_make_of_the_same_pixels(transparent: bool) -> None:
    steps, views, frame, correction = steps_on(transparent)
    schedule = Schedule(Budget(steps=1), 512, 0.1, 0.1, attended_share=0.4, attended_weight=3.0, jitter=0.2)
    host = HostSteps(steps._engine, views, correction)
    for each in (steps, host):
        each.start(frame, schedule, np.random.default_rng(0), observe=False)
    # More visits than there are pixels, so that their order changes on the way.
    for count in (128, 512, 512, 128, 512, 512):
        kind = _Kind(count, 40, schedule.picked(count), 3.0, 0.2, (True, True), False)
        drawn, pixel, camera, seen = steps.draw(kind)
        steps._engine.control[3] += 1
        expected, pixels, plain, _ = host.draw(count)
        np.testing.assert_array_equal(pixel.cpu().numpy(), pixels)
        np.testing.assert_allclose(drawn.weight.cpu().numpy(), expected.weight, rtol=1e-5)
        assert 0.4 <= drawn.jitter.min() < 0.45 < 0.55 < drawn.jitter.max() <= 0.6
        assert plain.start == kind.picked
    np.testing.assert_array_equal(camera.cpu().numpy(), views.camera_of(pixels))
    twin = views.rays(pixels)
    for given, expected in (
        (drawn.origins, twin.origins),
        (drawn.directions, twin.directions),
        (drawn.view, twin.view),
    ):
        np.testing.assert_array_equal(given.cpu().numpy(), expected)
    colours = frame.target(pixels, drawn.background.cpu().numpy())
    np.testing.assert_allclose(seen.cpu().numpy(), colours, atol=1e-6)
    np.testing.assert_allclose(
        drawn.target.cpu().numpy(), correction.neutral(colours, views.camera_of(pixels)), atol=1e-5
    )


def test_exposures_are_fitted_to_what_the_host_would_have_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, views, frame, correction = steps_on()
    steps.start(frame, Schedule(Budget(steps=1), 256, 0.1, 0.1), np.random.default_rng(0), observe=True)
    twin = ColourCorrection(len(views.cameras))
    draw, step = steps.draw, steps._engine.step_on_device
    pairs: list[Any] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            pairs.append(function(*arguments))
            return pairs[-1]

        return call

    monkeypatch.setattr(steps, "draw", noted(draw))
    monkeypatch.setattr(steps._engine, "step_on_device", noted(step))
    steps._engine.begin(set(), 0.0)
    # Colours are those of uniformly drawn pixels, errors those of all.
    steps._take(_Kind(256, 10, 64, 1.0, 1.0, (True, False), True))
    (_, pixel, camera, seen), result = pairs
    twin.observe(result.rgb.cpu().numpy()[64:], seen.cpu().numpy()[64:], camera.cpu().numpy()[64:])
    errors = steps._pixel_errors.cpu().numpy()
    assert set(np.flatnonzero(~np.isnan(errors))) == {*pixel.tolist()}
    last = dict(zip(pixel.tolist(), result.error.tolist(), strict=True))
    seen_once = [number for number in last if pixel.tolist().count(number) == 1]
    np.testing.assert_array_equal(errors[seen_once], np.array([last[number] for number in seen_once], np.float32))
    twin.fit()
    steps.fit_colour()
    np.testing.assert_allclose(correction.gain, twin.gain, atol=1e-4)
    np.testing.assert_allclose(correction.offset, twin.offset, atol=1e-4)


def test_each_step_draws_other_pixels_and_each_frame_the_same() -> None:
    steps, _, frame, _ = steps_on()
    kind = _Kind(64, 40, 0, 1.0, 1.0, (True, True), False)
    drawn = []
    for _ in range(2):
        steps.start(frame, Schedule(Budget(steps=1), 64, 0.1, 0.1), np.random.default_rng(5), observe=False)
        steps._engine.begin(set(), 0.0)
        for _ in range(2):
            drawn.append(steps.draw(kind)[0])
            steps._engine.control[3] += 1
    assert all((a == b).all() for a, b in zip(drawn[0], drawn[2], strict=True))
    for name in ("jitter", "background"):
        one, other = getattr(drawn[0], name), getattr(drawn[1], name)
        assert (one != other).float().mean() > 0.9, name
    numbers = torch.cat([drawn[0].jitter[:, None], drawn[0].background], 1).cpu().numpy()
    assert 0 <= numbers.min() < 0.1 < 0.9 < numbers.max() < 1
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.5


@pytest.mark.skipif(DEVICE == "cpu", reason="recordings are CUDA graphs")
def test_recorded_steps_do_what_plain_ones_do() -> None:
    results = []
    for record in (True, False):
        _, views, frame, correction = steps_on()
        engine = GpuEngine(networks(views.space), device=DEVICE)
        engine.load(weights(3))
        steps = DeviceSteps(engine, views, correction, record=record)
        engine.begin(EVERYTHING, 1e-6)
        steps.start(frame, Schedule(Budget(steps=6), 256, 0.1, 0.1), np.random.default_rng(5), observe=True)
        errors = [steps.step(256, 40, 0.01, 0.002) for _ in range(6)]
        errors = [error for error in [*errors, steps.finish()] if error is not None]
        assert engine.control[3] == 6
        results.append((errors, engine.weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-3)
    for key, value in results[0][1].items():
        assert np.isclose(value, results[1][1][key], atol=1e-3).mean() > 0.95, key


def on_gpu(networks: Networks, **_: object) -> GpuEngine:
    return GpuEngine(networks, device=DEVICE)


@pytest.mark.slow
def test_frames_are_encoded_and_decoded(capture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole encode with a network that is small enough for the interpreter; any engine decodes it."""
    if DEVICE == "cpu":
        monkeypatch.setattr(gpu, "BLOCK_RAYS", 256)
    monkeypatch.setattr("invcodec.encoding.encoder.make_trainer", on_gpu)
    config = {**PROFILE.config, "samples": 10, "occupancy": 8}
    settings = resolve(steps=4)
    settings = replace(
        settings,
        networks=({**settings.networks[0], "config": config},),
        **{name: replace(getattr(settings, name), rays=256) for name in ("key", "warm", "delta")},
    )
    source = open_capture(capture, frames=(0, 3))
    reports = encode_capture(source, tmp_path / "out.inv", settings)
    assert [report.stage for report in reports] == ["key", "all", "all"]
    assert reports[2].fidelity.psnr > reports[0].fidelity.psnr - 1
    with Video(tmp_path / "out.inv", device="cpu") as video:
        for report, found in zip(reports, validate(video, source), strict=True):
            assert found["psnr"] == pytest.approx(report.fidelity.psnr, abs=0.02)
        shown = video[2].render(video.cameras[1])
    # Where the GPU renders, rays and pictures are tensors from beginning to end.
    monkeypatch.setattr("invcodec.decoding.video.make_renderer", on_gpu)
    with Video(tmp_path / "out.inv") as video:
        twin = video[2].render(video.cameras[1])
    assert np.abs(twin.rgb.astype(int) - shown.rgb).max() <= 1
    np.testing.assert_allclose(twin.alpha, shown.alpha, atol=2e-3)
    assert np.mean(np.isclose(twin.depth, shown.depth, rtol=1e-3)) > 0.97


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux alone")
def test_every_kernel_compiles_for_a_gpu_that_is_not_here() -> None:
    script = Path(__file__).with_name("compile_gpu_kernels.py")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, script, "90"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    names = {line.split()[1] for line in done.stdout.splitlines()}
    assert names == {"find_open", "field_density", "render", "train", "adam", "draw"}

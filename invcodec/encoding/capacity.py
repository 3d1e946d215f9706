"""How large a network and how much work suit a rig: what settings leave open is decided here, before any training.

Everything follows from the training pixels, the rig, and the preset, never from the machine. The result is stored in
the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from invcodec.encoding.settings import Settings
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.contraction import contract, march_distance
from invcodec.geometry.rig import MIN_TRAINING_CAMERAS, training_cameras
from invcodec.geometry.space import Space
from invcodec.names import DEFAULT_PRESET
from invcodec.training.schedule import Budget, Schedule

SMALL_PIXELS = 200_000
"""Training pixels that numbers below refer to: 16 cameras of 128x96. benchmarks/WAYS.md has the measurements behind
them, on that rig and on ones of 5.5 and 27 million pixels."""

STEPS = {"draft": (400, 60), "fast": (1200, 140), "medium": (3000, 300), "slow": (10_000, 1000)}
"""Steps of a keyframe and of every other frame. The same for all sizes: where there are more pixels, a step visits more
of them, and more of the network is hashed."""
MLP_STEPS = 2, 3
"""Of profile `nerf`, a keyframe and any other frame take so many times as many steps, of half and a quarter of the
samples. At equal time, that gave keyframes 1 dB and other frames 0.4 dB, and of what moves 1.1 dB."""
REFRESH_STEPS = 2 / 3
"""Share of a keyframe's steps that one gets which starts from the last frame."""
QUIET_STEPS, FULL_CHANGE = 0.125, 0.08
"""A frame in which nothing changed gets this share of the steps; one in which this share of the training pixels
changed, as is usual where people move, gets all of them."""

COARSEST, FINEST_RANGE = 16, (64, 2048)
"""Cells along each axis of the coarsest level, and limits of those of the finest. Its cells are about as large as a
pixel's footprint: finer detail cannot be seen, and coarser cells blur."""
LADDER, LEVELS_RANGE = 1.8, (8, 16)
"""A level has about as many times the cells of the last one as this, along each axis. Where levels lie closer, each
lookup tells less; at equal bytes, twelve were no better than eight, and took a quarter longer."""
LOG2_TABLE, LOG2_TABLE_GROWTH, LOG2_TABLE_RANGE = 15, 0.35, (13, 20)
"""Logarithm of the entries of a hashed level, and its growth when pixels double. Each surface is seen by many cameras,
so tables grow more slowly than pixels; where weights have a price, larger ones cost bytes."""
OCCUPANCY, FINE_OCCUPANCY, FINE_OCCUPANCY_FROM = 64, 96, 8 * SMALL_PIXELS
"""Occupancy cells along each axis, and the training pixels from which on there are more: then tighter cells save
samples and floating matter, and with it bytes. With 128, cells took too many steps to close."""
SAMPLES_PER_CELL, SAMPLES_RANGE, SAMPLES_MULTIPLE = 0.6, (64, 384), 32
"""Steps along a ray, per cell of the finest level along an axis. Fewer blur surfaces and cost bytes; more gained too
little for their time."""
IMAGE_COARSEST, IMAGE_FINEST_RANGE = 8, (16, 2048)
"""The same of the levels over a picture. With half as many cells along an axis, what moves was 2 dB worse whatever the
price."""
PARTS = 4
"""Parts that may move at a time. One that is not used takes no bytes and no time."""
PRICE_GROWTH = -0.8
"""The loss is a mean over pixels: of more pixels, one weight explains a smaller share. Prices follow with this power of
the pixels, so that larger pictures take more bytes, but fewer per pixel. Smaller ones than `SMALL_PIXELS` pay no more:
their few weights could not be learned."""


def check_rig(settings: Settings, cameras: Sequence[Camera]) -> None:
    """Check that there are as many cameras as the networks need.

    Raises:
        CaptureError: there are not.
    """
    training = len(training_cameras(cameras))
    if settings.flat and not training == len(cameras) == 1:
        raise CaptureError(
            f"profile '{settings.networks[0]['profile']}' is for the pictures of one camera, such as a single video; "
            f"here are {len(cameras)} cameras"
        )
    if not settings.flat and training < MIN_TRAINING_CAMERAS:
        raise CaptureError(
            f"{training} camera(s) to train on, at least {MIN_TRAINING_CAMERAS} are needed; profile 'image' takes one"
        )


def fit(settings: Settings, cameras: Sequence[Camera], space: Space) -> Settings:
    """Settings with everything decided that they leave open: networks, prices and steps for a rig.

    A number of steps that is given stays, and so does a configuration. Settings that were fitted stay as they are, so
    an encode that is continued trains as before.

    Args:
        cameras: of the rig; those that are held out count for nothing.
        space: of the scene.
    """
    if settings.pixels is not None:
        return settings
    rig = [cameras[index] for index in training_cameras(cameras)]
    pixels = sum(camera.width * camera.height for camera in rig)
    networks = settings.networks
    configs = {"grid": grid_config, "image": image_config}
    if all(network["profile"] in configs and not network["config"] for network in networks):
        cells = cells_per_axis(rig, space)
        parts = {"parts": PARTS} if settings.motion and not settings.flat else {}
        networks = tuple({**each, "config": configs[each["profile"]](pixels, cells) | parts} for each in networks)
    key_steps, steps = STEPS.get(settings.preset, STEPS[DEFAULT_PRESET])
    if all(network["profile"] == "nerf" for network in networks):
        key_steps, steps = (many * count for many, count in zip(MLP_STEPS, (key_steps, steps), strict=True))

    def fitted(schedule: Schedule, open_budget: Budget) -> Schedule:
        return replace(
            schedule,
            budget=replace(open_budget, seconds=schedule.budget.seconds)
            if schedule.budget.steps is None
            else schedule.budget,
            price=schedule.price * max(pixels / SMALL_PIXELS, 1.0) ** PRICE_GROWTH,
        )

    later = Budget(None, steps, round(QUIET_STEPS * steps), FULL_CHANGE)
    return replace(
        settings,
        pixels=pixels,
        networks=networks,
        key=fitted(settings.key, Budget(steps=key_steps)),
        warm=fitted(settings.warm, later),
        delta=fitted(settings.delta, later),
        refresh=settings.refresh and fitted(settings.refresh, Budget(steps=round(REFRESH_STEPS * key_steps))),
    )


def grid_config(pixels: int, finest: float) -> dict[str, Any]:
    """Configuration of a `grid` network.

    Args:
        pixels: of all training cameras.
        finest: cells along an axis of the unit cube that are as large as a pixel's footprint.
    """
    finest = _clip(finest, *FINEST_RANGE)
    rungs = 1 + math.log(finest / COARSEST) / math.log(LADDER)
    # Widths are multiples of 4, and a level has two features.
    ladder = np.geomspace(COARSEST, finest, _clip(2 * round(rungs / 2), *LEVELS_RANGE))
    entries = LOG2_TABLE + LOG2_TABLE_GROWTH * math.log2(pixels / SMALL_PIXELS)
    samples = SAMPLES_MULTIPLE * round(SAMPLES_PER_CELL * finest / SAMPLES_MULTIPLE)
    return {
        "resolutions": [round(float(cells)) for cells in ladder],
        "log2_table": _clip(round(entries), *LOG2_TABLE_RANGE),
        "occupancy": FINE_OCCUPANCY if pixels >= FINE_OCCUPANCY_FROM else OCCUPANCY,
        "samples": _clip(samples, *SAMPLES_RANGE),
    }


def image_config(pixels: int, finest: float) -> dict[str, Any]:
    """Configuration of an `image` network; arguments are as of `grid_config`."""
    finest = _clip(finest, *IMAGE_FINEST_RANGE)
    levels = 1 + round(math.log(finest / IMAGE_COARSEST) / math.log(LADDER))
    return {
        "resolutions": [round(float(cells)) for cells in np.geomspace(IMAGE_COARSEST, finest, levels)],
        "octaves": 0,
        "depth": 2,
        "width": 32,
        "structure_layers": 0,
    }


def _clip(value: Any, least: int, most: int) -> Any:
    return min(max(value, least), most)


_PLACES = 8
"""Pixels along each side of a picture at which footprints are measured."""


def cells_per_axis(cameras: Sequence[Camera], space: Space) -> float:
    """Cells along an axis of the unit cube that are as large as a pixel's footprint half-way along the cameras' rays.

    The median over a lattice of pixels of all cameras, so a few that see nothing, or the sky, do not matter.
    """
    sizes = []
    for camera in cameras:
        x, y = ((np.arange(_PLACES) + 0.5) / _PLACES * side for side in (camera.width, camera.height))
        pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        here, right, below = (_half_way(camera, pixels + step, space) for step in ((0, 0), (1, 0), (0, 1)))
        inside = ((here > 0) & (here < 1)).all(1)
        sizes += [np.linalg.norm(next_to - here, axis=1)[inside] for next_to in (right, below)]
    footprints = np.concatenate(sizes)
    footprints = footprints[footprints > 0]
    return 1 / float(np.median(footprints)) if len(footprints) else float(FINEST_RANGE[0])


def _half_way(camera: Camera, pixels: np.ndarray, space: Space) -> np.ndarray:
    """Points of the unit cube `[N, 3]` half-way along the rays through image points `[N, 2]`."""
    rays = space.march(*camera.rays(pixels))
    half = np.full(len(pixels), 0.5, np.float32)
    if not space.contracted:
        return rays.origins + half[:, None] * rays.directions
    return contract(rays.origins + march_distance(half)[:, None] * rays.directions)

"""Presets: a choice of quality against work, resolved into one settings object.

Presets differ in their steps, which `invcodec.encoding.capacity` decides together with everything else that depends on
the rig. The numbers come from the measurements in `benchmarks/`; docs/encode.md says what each preset costs and gives.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from invcodec.encoding.capacity import STEPS
from invcodec.encoding.rate import NO_TARGET, Target
from invcodec.encoding.settings import Settings
from invcodec.errors import UsageError
from invcodec.names import DEFAULT_KEY_EVERY, DEFAULT_PRESET, DEFAULT_QUALITY, QUALITY_RANGE, profiles
from invcodec.training.schedule import Budget, Schedule, check_seconds


def _scene(profile: str, **config: Any) -> tuple[dict[str, Any], ...]:
    return ({"name": "scene", "role": "scene", "profile": profile, "config": config},)


def _nerf(**config: Any) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": role,
            "role": role,
            "profile": "nerf",
            "config": {**config, "importance": 64 if role == "fine" else 0},
        }
        for role in ("coarse", "fine")
    )


_KEY_PRICE, _DELTA_PRICE = 6e-9, 6e-8
"""Price of a change by a lattice step, in the loss, at quality 50 and for small pictures. A keyframe's weights serve
every frame up to the next one, so they are cheaper."""


def _grid_settings(preset: str) -> Settings:
    delta = Schedule(
        Budget(),
        # Noisy gradients move weights to no purpose, and every move costs bytes: few large batches, sampled close to
        # where a decoder samples, gave fewer bytes and more quality than many small ones.
        rays=4096,
        lead_rate=0.12,
        rate=0.002,
        hold=0.5,
        decay=0.03,
        price=_DELTA_PRICE,
        attended_share=0.25,
        attended_weight=3.0,
        jitter=0.1,
    )
    key = Schedule(
        Budget(),
        rays=4096,
        lead_rate=0.16,
        rate=0.02,
        hold=0.5,
        decay=0.02,
        price=_KEY_PRICE,
        attended_share=0.4,
        jitter=0.3,
    )
    # From the last frame on, there is less to learn: at the rates of a first keyframe, *long* lost 0.6 dB.
    refresh = replace(key, lead_rate=0.08, rate=0.01)
    # Each change has its price, so layers stay as they are unless there is something that they alone can show, such as
    # a new colour. Held back, they had to be made up for by tables: more bytes, and new colours were never learned.
    return Settings(preset, _scene("grid"), key=key, warm=delta, delta=delta, refresh=refresh, warmup=None)


_PAPER = Schedule(
    # 5e-4 * 0.1^(step / 250,000), the step restarting with each frame.
    Budget(steps=10_000), 1024, lead_rate=5e-4, rate=5e-4, hold=0.0, decay=0.1 ** (10_000 / 250_000), attended_share=0.0
)  # fmt: skip


def _nerf_settings(preset: Settings) -> Settings:
    """A preset of the grid profile applied to one small MLP."""
    scene = {
        "name": "scene",
        "role": "scene",
        "profile": "nerf",
        # With 8 octaves, small pictures were learned more slowly.
        "config": {"depth": 5, "width": 128, "position_octaves": 7, "samples": 64, "importance": 0, "occupancy": 32},
    }
    key = Schedule(Budget(), rays=512, lead_rate=5e-3, rate=5e-3, attended_share=0.0, mixed=True, samples=4096)
    delta = replace(
        key,
        rays=256,
        samples=2048,
        # A high rate under a price moves few weights far; a low rate moves many a little.
        lead_rate=8e-3,
        rate=2e-3,
        decay=0.1,
        price=4e-8,
        attended_share=0.5,
        attended_weight=4.0,
    )
    # Four times the profile's own steps cost a keyframe 0.1 dB and halve the bytes of later frames at no cost.
    # Training the layers of colour in all frames takes a tenth longer and gains nothing (INV, section 3.2).
    return replace(preset, networks=(scene,), key=key, warm=delta, delta=delta, refresh=None, warmup=1, fine_step=4.0)


def _image_settings(preset: Settings) -> Settings:
    """A preset of scenes applied to the pictures of one camera: over a grid, or as published by an MLP alone."""
    published = all(network["profile"] == "nerf" for network in preset.networks)
    # Straight on from the camera, and only as wide as its picture: a position is one of the picture.
    return replace(
        preset,
        networks=_scene("image", octaves=10, depth=8, width=256) if published else _scene("image"),
        colour_correction=False,
        random_background=False,
        space="ndc",
    )


_APPLIED = {"nerf": _nerf_settings, "image": _image_settings}
"""By profile, how it is trained where a preset is of another; others are trained as the preset's own."""


PRESETS = {
    **{name: _grid_settings(name) for name in STEPS},
    "paper": Settings(
        "paper",
        _nerf(),
        key=_PAPER,
        warm=_PAPER,
        delta=_PAPER,
        warmup=30,
        fine_step=1.0,
        colour_correction=False,
        random_background=False,
        space="ndc",
    ),
}
"""Settings by name; `invcodec.names.PRESETS` describes them."""


def resolve(
    preset: str = DEFAULT_PRESET,
    *,
    profile: str | None = None,
    seconds_per_frame: float | None = None,
    key_seconds: float | None = None,
    steps: int | None = None,
    quality: float | None = None,
    target: Target = NO_TARGET,
    key_every: int = DEFAULT_KEY_EVERY,
    warmup: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str = "auto",
    colour_correction: bool = True,
    motion: bool = True,
) -> Settings:
    """Settings of a preset, with the given options applied.

    They are not fitted to a rig yet: the `Encoder` does that, since it knows the cameras.

    Args:
        profile: a profile's name (`invcodec.names.profiles`); the preset's own if None.
        seconds_per_frame: longest training time of every frame after the first.
        key_seconds: longest training time of the first keyframe.
        steps: optimiser steps of every frame, in place of the preset's.
        quality: 0 to 100; higher quality takes more bytes. DEFAULT_QUALITY if None.
        target: a target for the file, in place of a quality.
        key_every: most frames from one keyframe to the next; 0 for keyframes at cuts alone.
        warmup: frames after the first, and after a cut, in which everything is trained; the preset's own number if
            None.
        seed: of all random choices.
        threads: of the CPU; all cores if None.
        device: "auto", "cpu" or "cuda".
        colour_correction: learn each camera's exposure and white balance, if the preset does.
        motion: look for parts that move as a whole, in profiles that have parts.

    Raises:
        UsageError: an unknown name, or a number out of range.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset '{preset}'; choose from {', '.join(PRESETS)}")
    settings = PRESETS[preset]
    if profile is not None and profile not in profiles():
        raise UsageError(f"unknown profile '{profile}'; choose from {', '.join(profiles())}")
    for name, seconds in (("seconds per frame", seconds_per_frame), ("key seconds", key_seconds)):
        if seconds is not None:
            check_seconds(name, seconds)
    for name, value, least in (
        ("steps", steps, 1),
        ("key interval", key_every, 0),
        ("warm-up", warmup, 0),
        ("seed", seed, 0),
        ("threads", threads, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name}: {value} is too small, at least {least} is needed")
    target.check_exclusive(quality)
    quality = DEFAULT_QUALITY if quality is None else quality
    least, most = QUALITY_RANGE
    if not least <= quality <= most:
        raise UsageError(f"quality: {quality:g} is not between {least} and {most}")
    if profile is not None and {network["profile"] for network in settings.networks} != {profile}:
        applied = _APPLIED.get(profile)
        settings = applied(settings) if applied else replace(settings, networks=_scene(profile))

    def limited(schedule: Schedule, seconds: float | None) -> Schedule:
        return replace(schedule, budget=Budget(seconds, steps or schedule.budget.steps))

    settings = settings.at_quality(quality)
    return replace(
        settings,
        key=limited(settings.key, key_seconds),
        warm=limited(settings.warm, seconds_per_frame),
        delta=limited(settings.delta, seconds_per_frame),
        refresh=settings.refresh and (None if seconds_per_frame else limited(settings.refresh, None)),
        target=target,
        warmup=settings.warmup if warmup is None else warmup,
        key_every=key_every or None,
        seed=seed,
        threads=threads or os.cpu_count() or 1,
        device=device,
        colour_correction=colour_correction and settings.colour_correction,
        motion=motion,
    )

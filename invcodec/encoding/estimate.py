"""Estimates of an encode's time and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from invcodec.encoding.calibration import Kind, Speed
from invcodec.encoding.keyframes import keyframes_among
from invcodec.encoding.rate import POINTS_PER_OCTAVE
from invcodec.encoding.report import Estimate
from invcodec.encoding.settings import Settings
from invcodec.field.registry import build
from invcodec.names import DEFAULT_QUALITY
from invcodec.training.schedule import Schedule

_BITS = {"grid": (0.4, 0.04), "nerf": (3.5, 0.16), "image": (1.0, 0.1)}
"""Bits per weight of a keyframe and of a later frame, by profile; other profiles are taken to be like `nerf`."""
_FREE_BITS = 3.0
"""Bits per weight of later frames whose changes have no price."""


def usual_bytes(settings: Settings) -> tuple[float, float]:
    """Typical bytes of a keyframe's record and of a later one; actual sizes depend on the scene."""
    key = delta = 0.0
    for network in settings.networks:
        profile = build(network["profile"], network["config"])
        names = network.get("lead", profile.lead)
        lead = sum(spec.size for spec in profile.tensors if spec.name in names)
        key_bits, delta_bits = _BITS.get(network["profile"], _BITS["nerf"])
        key += sum(spec.size for spec in profile.tensors) * key_bits / 8
        delta += lead * (delta_bits if settings.delta.price else _FREE_BITS) / 8
    factor = 2.0 ** ((settings.quality - DEFAULT_QUALITY) / POINTS_PER_OCTAVE)
    return key * factor, delta * factor


def estimate(
    settings: Settings, frames: int, frame_rate: Fraction, speeds: Mapping[Kind, Speed | None] | None = None
) -> Estimate:
    """Estimate an encode of `frames` frames; actual sizes depend on the scene.

    Args:
        settings: fitted to a rig.
        speeds: of this machine, as far as they are known.
    """

    def seconds(kind: Kind, schedule: Schedule) -> float | None:
        speed = (speeds or {}).get(kind)
        return None if speed is None else speed.frame(schedule.budget)

    def steps(schedule: Schedule) -> int:
        return schedule.budget.steps or 0

    keys = keyframes_among(frames, settings.key_every)
    refreshed = (keys - 1) / max(frames - 1, 1) if settings.refresh else 0.0
    later, work = seconds("delta", settings.delta), float(steps(settings.delta))
    if settings.refresh:
        work += refreshed * (steps(settings.refresh) - work)
        if later is not None:
            later += refreshed * ((seconds("delta", settings.refresh) or later) - later)
    key, delta = usual_bytes(settings)
    target = settings.target
    size = keys * key + (frames - keys) * min(delta, target.max_frame_bytes or delta)
    if target.size is not None:
        size = target.size
    elif target.bitrate is not None:
        size = float(target.bitrate / 8 * frames / frame_rate)
    return Estimate(seconds("key", settings.key), later, work / (steps(settings.key) or 1), frames, round(size))

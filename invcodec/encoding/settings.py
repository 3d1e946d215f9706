"""The settings of an encode: every choice that it depends on apart from the capture's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from invcodec.coding.fit import DEAD_ZONE
from invcodec.encoding.rate import NO_TARGET, Target
from invcodec.field.registry import build
from invcodec.geometry.space import Kind
from invcodec.names import DEFAULT_QUALITY
from invcodec.training.schedule import Schedule

POINTS_PER_PRICE_OCTAVE, POINTS_PER_STEP_OCTAVE = 10.0, 30.0
"""Points of quality over which prices, and lattice steps, double. At low quality fewer weights serve better than
coarser ones, so most of the saving is left to the price."""
POINTS_PER_STEP_OCTAVE_UNTRAINED = 20.0
"""The same of steps where nothing is trained: without prices, coarser steps have to do all of the saving."""


@dataclass(frozen=True)
class Settings:
    """Every choice that an encode depends on apart from the capture; stored in the file.

    Attributes:
        networks: for each network its name, role, profile name and configuration, and the names of its lead tensors
            if these are not the profile's choice.
        key, warm, delta: how keyframes, warm-up frames and all later frames are trained.
        refresh: how keyframes that are only due are trained, from the last frame on; None: like any other frame.
        quality: 0 to 100; determines prices and steps.
        fine_step: factor on every lattice step; below 1 is finer.
        dead_zone: smallest change that is sent, in lattice steps (0.5 is plain rounding).
        warmup: frames after the first, and after a cut, in which everything is trained; None for all frames.
        key_every: most frames from one keyframe to the next, or None for keyframes at cuts alone.
        motion: whether parts that move as a whole are looked for, in profiles that have parts.
        space: the kind of space, or None for the one that suits the rig best.
        target: for the file's size or quality; frames may differ from `quality` to meet it.
        pixels: training pixels of the rig that the settings were fitted to (`invcodec.encoding.capacity`), or None
            while networks, rays, prices and steps are still to be decided.
    """

    preset: str
    networks: tuple[dict[str, Any], ...]
    key: Schedule
    warm: Schedule
    delta: Schedule
    refresh: Schedule | None = None
    quality: float = DEFAULT_QUALITY
    fine_step: float = 1.0
    dead_zone: float = DEAD_ZONE
    warmup: int | None = 1
    key_every: int | None = None
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    colour_correction: bool = True
    random_background: bool = True
    motion: bool = True
    space: Kind | None = None
    target: Target = NO_TARGET
    pixels: int | None = None

    def at_quality(self, quality: float) -> Settings:
        """These settings with the prices and steps of another quality, 0 to 100."""
        points = self.quality - quality

        def priced(schedule: Schedule) -> Schedule:
            return replace(schedule, price=schedule.price * 2.0 ** (points / POINTS_PER_PRICE_OCTAVE))

        return replace(
            self,
            quality=quality,
            fine_step=self.fine_step * 2.0 ** (points / POINTS_PER_STEP_OCTAVE),
            key=priced(self.key),
            warm=priced(self.warm),
            delta=priced(self.delta),
            refresh=self.refresh and priced(self.refresh),
        )

    @property
    def flat(self) -> bool:
        """Whether the networks are of one camera's pictures (`Profile.flat`)."""
        return any(build(network["profile"], network["config"]).flat for network in self.networks)

    def to_dict(self) -> dict[str, Any]:
        """The settings in plain types."""
        data = asdict(self)
        data["networks"] = list(data["networks"])
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError, UsageError: these are no settings.
        """
        settings = _built(cls, data)
        if settings.seed < 0 or settings.threads < 0:
            raise ValueError("negative")
        return settings


def _built(kind: type[Any], data: Any) -> Any:
    """A dataclass from a map of its fields, each of which must have its declared type."""
    if not isinstance(data, Mapping):
        raise TypeError(f"{data!r} is no map of fields")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], value) for name, value in data.items()})


def _read(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return _built(hint, value)  # type: ignore[arg-type]  # a class, not an instance
    kind, choices = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        for each in choices:
            with suppress(TypeError):
                return _read(each, value)
    elif kind is tuple and isinstance(value, list | tuple):
        return tuple(_read(choices[0], each) for each in value)
    elif (kind is Literal and value in choices) or type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{value!r} is no {hint}")

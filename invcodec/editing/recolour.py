"""Recolouring: another look for all frames, by training the colour layers of keyframes.

What the frame shows, with the look applied, is the only training data; no capture is needed. Only tensors that density
does not depend on are trained, so all shapes stay exactly as they are. See docs/layers.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from invcodec.coding.chain import StateReader
from invcodec.coding.quantize import from_lattice, to_lattice
from invcodec.coding.state import State
from invcodec.container.index import FrameEntry
from invcodec.editing.look import Look, matching
from invcodec.editing.rewriting import check_sound, rewrite
from invcodec.errors import UsageError
from invcodec.field.profile import TensorKey
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import training_cameras
from invcodec.metrics import Fidelity, to_8_bit
from invcodec.render import camera_colour, make_trainer
from invcodec.render.display import displayed
from invcodec.render.engine import Trainer
from invcodec.render.networks import build_networks
from invcodec.training import make_steps
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Budget, Schedule
from invcodec.training.validation import measure

STEPS = 300
"""Default number of training steps."""
_SCHEDULE = Schedule(
    # Lead tensors, which are structure, stay. Samples lie where decoders take them: what is learned is what is shown.
    Budget(), rays=2048, lead_rate=0.0, rate=0.02, attended_share=0.0, jitter=0.0
)  # fmt: skip
_MOST_PIXELS = 1 << 18
"""Pixels to train on; larger pictures are taken smaller."""


@dataclass(frozen=True)
class Recoloured:
    """Result of `recolour`.

    Attributes:
        frames: of the new file.
        trained: number of each frame that colours were trained on, a keyframe, with the fidelity to the
            look that was asked for on pixels that were not trained on.
    """

    frames: Sequence[FrameEntry]
    trained: dict[int, Fidelity]


def recolour(
    path: str | os.PathLike[str],
    out: BinaryIO,
    look: Look,
    *,
    picture: np.ndarray | None = None,
    steps: int = STEPS,
    device: str = "auto",
    threads: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Recoloured:
    """Write a file that has another look in all frames.

    Keyframes are trained, since they hold all weights anyway; the frames up to the next one take over their colour
    layers. Integers of all other layers are copied.

    Args:
        path: the source.
        out: writable binary file.
        look: for all colours.
        picture: `[H, W, 3]` uint8; first give all colours the mean and covariance that it has.
        steps: of training each keyframe.
        done: called after every step.

    Raises:
        UsageError: no such file, or it holds no frames.
        DamagedError: the source is damaged or truncated.
        UnsupportedError: unknown networks.
    """
    with StateReader(path) as reader:
        check_sound(reader)
        if not reader.frames:
            raise UsageError(f"{path}: holds no frames")
        painter = _Painter(reader, device, threads)
        trained: dict[int, Fidelity] = {}
        wanted: Look | None = None
        new: dict[TensorKey, np.ndarray] = {}
        steady: dict[TensorKey, int] = {}

        def change(entry: FrameEntry) -> tuple[dict[TensorKey, np.ndarray], dict[TensorKey, int]]:
            nonlocal wanted, new, steady
            state = reader.state_at(entry.number)
            if not trained or entry.is_key:
                shown = painter.show(state, reader.cameras_at(entry.number))
                if wanted is None:
                    wanted = look if picture is None else matching(shown[:, :3], picture).then(look)
                new, trained[entry.number] = painter.paint(shown, wanted, state, steps, done)
                steady = {key: state.qps[key] for key in new}
            return state.levels | new, state.qps | steady

        notes = {"recoloured": {"steps": steps}}
        return Recoloured(rewrite(reader, list(reader.frames), out, notes, change), trained)


class _Painter:
    """Trains the tensors that density does not depend on."""

    def __init__(self, reader: StateReader, device: str, threads: int | None) -> None:
        self._head = reader.head
        self._engine: Trainer = make_trainer(build_networks(reader.head), device=device, threads=threads)
        self._keys = [
            (network.name, name) for network in self._engine.networks for name in sorted(network.profile.shading)
        ]

    def show(self, state: State, cameras: Sequence[Camera]) -> np.ndarray:
        """What the training cameras see of a state, without their exposures: `[P, 3]` or `[P, 4]` uint8."""
        transparent = self._head.background is None
        rig = [cameras[index] for index in training_cameras(cameras)] or list(cameras)
        self._views = Views(_smaller(rig), self._engine.networks.space)
        self._engine.load(camera_colour.split(self._head, state.weights())[0])
        parts = []
        for first in range(0, len(self._views), self._engine.rays_at_once):
            some = np.arange(first, min(first + self._engine.rays_at_once, len(self._views)))
            # Over black, as steps without random backgrounds train.
            found = self._engine.render(self._views.rays(some), np.zeros(3, np.float32))
            colour = displayed(found, transparent=transparent)
            parts.append(np.column_stack([colour, to_8_bit(found.opacity)]) if transparent else colour)
        return np.concatenate(parts)

    def paint(
        self, shown: np.ndarray, look: Look, state: State, steps: int, done: Callable[[], None]
    ) -> tuple[dict[TensorKey, np.ndarray], Fidelity]:
        """Integers that show a look, on the lattices of a state, and how near they come."""
        target = np.concatenate([look.apply(shown[:, :3]), shown[:, 3:]], 1)
        frame = FramePixels.gather([target[:, None]], [None], self._views.validation)
        engine = self._engine
        taken = make_steps(engine, self._views, None, random_background=False)
        schedule = replace(_SCHEDULE, budget=Budget(steps=steps))
        engine.begin(self._keys, schedule.price)
        taken.start(frame, schedule, np.random.default_rng(0), observe=False)
        for number in range(steps):
            taken.step(schedule.rays, engine.networks.samples, *schedule.rates(number / steps))
            done()
        taken.finish()
        weights = engine.weights()
        levels = {key: to_lattice(weights[key], state.qps[key]) for key in self._keys}
        engine.load({key: from_lattice(levels[key], state.qps[key]) for key in self._keys})
        return levels, measure(engine, self._views, frame, None)


def _smaller(cameras: Sequence[Camera]) -> list[Camera]:
    """The cameras with pictures so small that they have `_MOST_PIXELS` together."""
    total = sum(camera.width * camera.height for camera in cameras)
    scale = min(1.0, (_MOST_PIXELS / total) ** 0.5)
    return [camera.scaled(max(1, int(scale * camera.width)), max(1, int(scale * camera.height))) for camera in cameras]

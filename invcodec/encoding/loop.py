"""The closed loop between a trainer's weights and the decoder's state.

Every frame is trained from the decoded integers of the last one, so what the decoder holds is what the encoder
trained on, and quantisation error does not accumulate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from invcodec.coding.codec import encode_key
from invcodec.coding.fit import Fitted, fit_change, fit_key
from invcodec.coding.guide import coding_order
from invcodec.coding.quantize import nearest_qp, to_lattice
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.encoding.settings import Settings
from invcodec.field.profile import TensorKey
from invcodec.render import camera_colour
from invcodec.render.camera_colour import CameraColour
from invcodec.render.engine import Trainer
from invcodec.training.colour import ColourCorrection


class Loop:
    """Holds the state that the decoder has, and turns the trainer's weights into the next one.

    Args:
        engine: renders and trains the networks that `head` declares.
        head: of the file.
        settings: of the encode.
        correction: the training cameras' colours, trained along with the scene; or None.
        training: indices of the training cameras among the header's.

    Attributes:
        state: what the decoder has, or None before the first frame.
        before: what it had before the last frame, or None.
    """

    def __init__(
        self,
        engine: Trainer,
        head: Head,
        settings: Settings,
        correction: ColourCorrection | None,
        training: Sequence[int],
    ) -> None:
        self.state: State | None = None
        self.before: State | None = None
        self._fresh = True
        self._engine = engine
        self._head = head
        self._settings = settings
        self._correction = correction
        self._training = list(training)
        self._specs = engine.networks.tensors
        if correction:
            self._specs |= camera_colour.specs(len(head.cameras))
        self._exact = {key for key, spec in self._specs.items() if spec.exact}

    def restart(self) -> None:
        """Drop training since the last frame: continue from the decoder's state, if there is one."""
        if self.state is not None:
            self.show(self.state)
            self._fresh = False

    def start_afresh(self, colour: np.ndarray, attempt: int = 0) -> None:
        """Begin the first frame of a scene with fresh weights and no correction of colours.

        Args:
            colour: `[3]`, which the untrained networks show.
            attempt: each has other weights.
        """
        self._fresh = True
        if self._correction:
            self._correction.reset()
        networks = self._engine.networks
        seed = [self._settings.seed, attempt] if attempt else self._settings.seed
        self._engine.load(networks.initialise(np.random.default_rng(seed)) | networks.tint(colour))

    def go_on(self, state: State) -> None:
        """Close the loop: continue from what the decoder has."""
        self.show(state)
        self.keep(state)

    def keep(self, state: State) -> None:
        """The decoder has what is shown: its record is in the file."""
        self.before, self.state = self.state, state
        self._fresh = False

    def show(self, state: State) -> None:
        """Load what the decoder would have after a record; until `keep`, `restart` goes back."""
        weights, colour = camera_colour.split(self._head, state.weights())
        self._engine.load(weights)
        if self._correction and colour:
            colour = colour.select(self._training)
            self._correction.gain, self._correction.offset = colour.gain, colour.offset

    def code(self, *, key: bool, quality: float, room: float) -> Fitted:
        """Code the trainer's weights into a record whose coded part takes at most `room` bytes, if possible.

        Args:
            key: whether the record is a KEY.
            quality: 0 to 100, which decides a keyframe's steps.
        """
        if key or self.state is None:
            weights = self._weights()
            return fit_key(lambda chosen: self._code_all(weights, chosen), quality, room)
        return fit_change(self.state, self._engine.weights(), self._settings.dead_zone, room, self._exact)

    def _weights(self) -> dict[TensorKey, np.ndarray]:
        """Everything that a keyframe codes. Colours are learned with the first frame of a scene and stay."""
        weights = self._engine.weights()
        colour: CameraColour | None = None
        if self.state is not None and not self._fresh:
            _, colour = camera_colour.split(self._head, self.state.weights())
        elif self._correction:
            names = [camera.name for camera in self._head.cameras]
            colour = CameraColour.of_some(names, self._training, self._correction.gain, self._correction.offset)
        return weights | (colour.weights() if colour else {})

    def _code_all(self, weights: Mapping[TensorKey, np.ndarray], quality: float) -> tuple[bytes, State]:
        """Every tensor on a fresh lattice."""
        fine_step = self._settings.at_quality(quality).fine_step
        levels, qps = {}, {}
        for key, value in weights.items():
            spec = self._specs[key]
            qps[key] = nearest_qp(spec.step * (1.0 if spec.exact else fine_step))
            levels[key] = to_lattice(value, qps[key])
        _clear_unread(self._head, levels)
        return encode_key(self._head, levels, qps)


def _clear_unread(head: Head, levels: Mapping[TensorKey, np.ndarray]) -> None:
    """Set entries of a keyframe's grids that no open cell reads to 0: they were trained before their cells closed.

    Args:
        levels: the integers of every tensor; changed in place.
    """
    for unit in coding_order(head, is_delta=False):
        values = levels[unit.key]
        hints = unit.hints()
        if hints is not None:
            values.reshape(len(hints), -1)[hints == 0] = 0
        unit.learn(np.zeros_like(values), values, None)

"""Transcoding: a smaller file without training, with weights on coarser lattices and small changes dropped.

The loop is closed as in the encoder: every change is taken from what was sent before, so errors do not accumulate. No
capture is needed; quality is measured against renderings of the source.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, TypedDict

import numpy as np

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import delta_frame, encode_key, key_frame
from invcodec.coding.fit import DEAD_ZONE, fit_change
from invcodec.coding.quantize import STEP_BITS, to_lattice
from invcodec.coding.state import State
from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.writer import Writer, record_bytes
from invcodec.encoding.rate import NO_TARGET, Costs, Result, Target, account
from invcodec.encoding.report import Outcome, OutcomeDescription
from invcodec.encoding.settings import POINTS_PER_STEP_OCTAVE_UNTRAINED
from invcodec.errors import DamagedError, UsageError
from invcodec.geometry.camera import Camera
from invcodec.limits import MAX_QP
from invcodec.metrics import Fidelity
from invcodec.names import DEFAULT_QUALITY
from invcodec.render import camera_colour, make_renderer
from invcodec.render.networks import build_networks
from invcodec.training.change import differing
from invcodec.training.pixels import Views
from invcodec.training.validation import seen
from invcodec.version import __version__

SCHEMA = 1
"""Version of `TranscodedDescription`; raised when a field changes its meaning or is removed."""

_HALVINGS = 7
PASSES = _HALVINGS + 3
"""Most passes over the source."""


@dataclass(frozen=True)
class Transcoded:
    """Result of `transcode`.

    Attributes:
        frames: of the new file.
        size, source_size: bytes of both files.
        quality: of the new file, on the source's scale.
        fidelities: of each frame, against renderings of the source, on the validation pixels of its cameras.
        outcomes: whether each target was met.
    """

    frames: Sequence[FrameEntry]
    size: int
    source_size: int
    quality: float
    fidelities: list[Fidelity]
    outcomes: list[Outcome]

    @property
    def fidelity(self) -> Fidelity:
        """Means over frames."""
        return Fidelity.mean(self.fidelities)

    def describe(self, name: str, source: str) -> TranscodedDescription:
        """In types that JSON has.

        Args:
            name, source: of the new file and of the one that it was made from.
        """
        mean = self.fidelity
        return {
            "schema": SCHEMA,
            "file": name,
            "source": source,
            "frames": [
                {
                    "number": entry.number,
                    "kind": entry.kind,
                    "bytes": entry.length,
                    "psnr": each.psnr,
                    "psnr_moving": each.psnr_moving,
                }
                for entry, each in zip(self.frames, self.fidelities, strict=True)
            ],
            "bytes": self.size,
            "source_bytes": self.source_size,
            "quality": self.quality,
            "psnr": mean.psnr,
            "psnr_moving": mean.psnr_moving,
            "targets": [outcome.describe() for outcome in self.outcomes],
        }


class TranscodedFrame(TypedDict):
    """One frame."""

    number: int
    kind: str
    bytes: int
    psnr: float
    """In dB against the source."""
    psnr_moving: float | None
    """Of pixels that differ from the source's frame before; None if they are not known or too few."""


class TranscodedDescription(TypedDict):
    """Result of `Transcoded.describe`."""

    schema: int
    file: str
    source: str
    frames: list[TranscodedFrame]
    bytes: int
    source_bytes: int
    quality: float
    psnr: float
    """Mean over frames, in dB against the source."""
    psnr_moving: float | None
    """Mean over the frames where it is known."""
    targets: list[OutcomeDescription]


def transcode(
    path: str | os.PathLike[str],
    out: BinaryIO,
    *,
    quality: float | None = None,
    target: Target = NO_TARGET,
    device: str = "auto",
    threads: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Transcoded:
    """Write a smaller version of a file; its frames keep their numbers, times and cameras.

    Tensors that hold integers, such as occupancy, and the cameras' colours stay as they are. So do the frames'
    statistics, except for their PSNR, which no longer holds. A target is met by a search for the quality: the highest
    for a size or bit rate, the lowest for a PSNR. That takes some ten passes over the source, one frame at a time.

    Args:
        path: the source.
        out: writable binary file.
        quality: constant, on the encoder's scale; not above the source's own.
        target: its `psnr` is against renderings of the source; pixels move that differ in its frame before.
        done: called after every frame, at most PASSES times the number of frames.

    Raises:
        UsageError: neither quality nor target, or out of reach; no such file, or it holds no frames.
        DamagedError: the source is damaged or truncated.
        UnsupportedError: unknown networks.
    """
    if quality is None and target == NO_TARGET:
        raise UsageError("nothing to do; give a quality, a target size, a target PSNR, a bit rate or a frame size")
    target.check_exclusive(quality)
    with StateReader(path) as reader:
        if not reader.frames:
            raise UsageError(f"{path}: holds no frames")
        if reader.status in ("damaged", "truncated"):
            raise DamagedError(f"{path}: is {reader.status} ({reader.problems[0]}); repair it first")
        source = _Source(reader, target, make_viewer=lambda: _Viewer(reader, device, threads), done=done)
        highest = source.quality
        if quality is not None and quality > highest:
            raise UsageError(f"{path}: its quality is {highest:g}; without training it cannot become {quality:g}")
        chosen = highest if quality is None else quality
        if target.psnr is not None:
            chosen = _search(source.meets, 0.0, highest)
        elif target.decides_quality:
            chosen = _search(source.meets, highest, 0.0)
        return source.write(chosen, out, look=True)


def _search(meets: Callable[[float], bool], best: float, least: float) -> float:
    """The quality nearest to `best` that meets something, roughly; `least` if none does."""
    if meets(best):
        return best
    for _ in range(_HALVINGS):
        middle = (best + least) / 2
        best, least = (best, middle) if meets(middle) else (middle, least)
    return least


class _Source:
    """A file that is read in several passes."""

    def __init__(
        self, reader: StateReader, target: Target, make_viewer: Callable[[], _Viewer], done: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._target = target
        self._done = done
        self._viewer = make_viewer()
        self.quality = _quality_of(reader.head.encoder)
        self._exact = {
            (network.name, tensor.name)
            for network in reader.head.networks
            for tensor in network.tensors
            if network.name not in self._viewer.changeable or tensor.name not in self._viewer.changeable[network.name]
        }
        # Refuses a target that nothing could meet.
        head = self._head(self.quality)
        means = [[e.length for e in reader.frames if e.kind == kind] or [1] for kind in ("key", "delta")]
        self._costs = Costs.of(head, *(sum(sizes) / len(sizes) for sizes in means))
        account(target, self._costs, head.frame_rate, len(reader.frames), None)

    def _head(self, quality: float) -> Head:
        head = self._reader.head
        made = {"quality": quality, "target": asdict(self._target)}
        kept = {key: value for key, value in head.encoder.items() if key == "origin"}
        return replace(head, encoder={"name": "invcodec", "version": __version__, "transcoded": made, **kept})

    def meets(self, quality: float) -> bool:
        """Whether a file of this quality meets the target."""
        with open(os.devnull, "wb") as nowhere:
            tried = self.write(quality, nowhere, look=self._target.psnr is not None)
        return all(outcome.met for outcome in tried.outcomes)

    def write(self, quality: float, out: BinaryIO, *, look: bool) -> Transcoded:
        """Write a file of this quality; with `look`, measure its frames."""
        octaves = (self.quality - quality) / POINTS_PER_STEP_OCTAVE_UNTRAINED
        # qps are integers; the remainder goes into the dead zone.
        coarser = math.floor(octaves * 2**STEP_BITS)
        dead_zone = DEAD_ZONE * 2.0 ** (octaves - coarser / 2**STEP_BITS)
        head = self._head(quality)
        writer = Writer(out, head)
        result = Result(self._target, self._costs, head.frame_rate)
        fidelities: list[Fidelity] = []
        before: State | None = None
        self._viewer.start()
        for entry in self._reader.frames:
            shown = self._reader.state_at(entry.number)
            frame, _ = self._reader.frame(entry)
            stats = replace(frame.stats, centidecibels=None, centidecibels_moving=None)
            if entry.is_key or before is None:
                coded, state = self._key(shown, coarser)
                frame = key_frame(state, frame.time, stats, frame.cameras)
            else:
                coded, state = self._delta(before, shown, frame, dead_zone)
                frame = delta_frame(state, frame.time, writer.entries[-1].number, stats, frame.cameras)
            written = writer.frame(entry.number, frame, coded)
            found = None
            if look:
                found = self._viewer.compare(shown, state, self._reader.cameras_at(entry.number))
                fidelities.append(found)
            result.add(written.is_key, written.time, written.length, found)
            before = state
            self._done()
        writer.finish(self._reader.status == "complete")
        outcomes = result.outcomes(writer.size)
        return Transcoded(writer.entries, writer.size, self._reader.size, quality, fidelities, outcomes)

    def _key(self, shown: State, coarser: int) -> tuple[bytes, State]:
        levels, qps = {}, {}
        for key, weights in shown.weights().items():
            qps[key], levels[key] = shown.qps[key], shown.levels[key]
            if key not in self._exact and coarser:
                qps[key] = min(qps[key] + coarser, MAX_QP)
                levels[key] = to_lattice(weights, qps[key])
        return encode_key(shown.head, levels, qps)

    def _delta(self, before: State, shown: State, frame: FrameHead, dead_zone: float) -> tuple[bytes, State]:
        cap = self._target.max_frame_bytes
        room = math.inf if cap is None else cap - record_bytes(frame, b"")
        fitted = fit_change(before, shown.weights(), dead_zone, room, self._exact)
        return fitted.coded, fitted.state


def _quality_of(encoder: dict[str, Any]) -> float:
    """The quality that a file was encoded or transcoded at."""
    for part in ("transcoded", "settings"):
        said = encoder.get(part)
        if isinstance(said, dict) and isinstance(said.get("quality"), (int, float)) and 0 <= said["quality"] <= 100:
            return float(said["quality"])
    return DEFAULT_QUALITY


class _Viewer:
    """Renders two states of a file's networks at the same pixels.

    Attributes:
        changeable: for each rendered network, its tensors that hold no integers.
    """

    def __init__(self, reader: StateReader, device: str, threads: int | None) -> None:
        self._networks = build_networks(reader.head)
        self._engine = make_renderer(self._networks, device=device, threads=threads)
        self._transparent = reader.head.background is None
        self._cameras: tuple[Camera, ...] = ()
        self._views: Views | None = None
        self._order: list[int] = []
        self._last: np.ndarray | None = None
        self.changeable = {
            network.name: {spec.name for spec in network.profile.tensors if not spec.exact}
            for network in self._networks
        }

    def start(self) -> None:
        """The next state to compare is that of the first frame."""
        self._last = None

    def compare(self, a: State, b: State, cameras: tuple[Camera, ...]) -> Fidelity:
        """Of state `b` against `a`, seen from the training cameras, or from all if there are none."""
        if self._views is None or cameras != self._cameras:
            self._cameras = cameras
            self._last = None
            chosen = [index for index, camera in enumerate(cameras) if not camera.held_out]
            self._order = chosen or list(range(len(cameras)))
            self._views = Views([cameras[i] for i in self._order], self._networks.space)
        now = self._look(a, self._views)
        moving = None if self._last is None else differing(now, self._last)
        self._last = now
        return Fidelity.measure(now, self._look(b, self._views), moving)

    def _look(self, state: State, views: Views) -> np.ndarray:
        weights, colour = camera_colour.split(state.head, state.weights())
        self._engine.load(weights)
        chosen = colour.select(self._order) if colour else None
        return seen(self._engine, views, views.validation, chosen, transparent=self._transparent)

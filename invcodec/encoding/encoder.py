"""The closed loop: images in, one record per frame out.

Every frame is trained from the decoded integers of the last one, so what the decoder holds is what the encoder
trained on, and quantisation error does not add up.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter as clock
from typing import Any, BinaryIO, cast

import numpy as np

from invcodec.capture.capture import Capture, Frame
from invcodec.coding.chain import StateReader
from invcodec.coding.entropy import CODER
from invcodec.coding.fit import MOST_STATS, Fitted, fit_change, fit_key
from invcodec.coding.quantize import nearest_qp, to_lattice
from invcodec.coding.state import State, TensorKey, delta_frame, encode_key, key_frame, table
from invcodec.container.reader import Reader, reopen
from invcodec.container.records import FrameEntry, Writer, record_bytes
from invcodec.container.schema import DIGEST_BYTES, FrameHead, Head, Stats
from invcodec.encoding.presets import Settings, usual_bytes
from invcodec.encoding.rate import Controller, Costs
from invcodec.encoding.report import FrameReport, Progress, Stage
from invcodec.errors import CaptureError, Interrupted, UsageError
from invcodec.field.profile import TensorSpec
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import choose_space
from invcodec.interrupts import plain_interrupts
from invcodec.limits import MIN_QP
from invcodec.metrics import BEST_PSNR, over_white, psnr
from invcodec.output import Output, check_output
from invcodec.render import make_engine
from invcodec.render.networks import (
    COLOUR_NETWORK,
    COLOUR_SPECS,
    colour_levels,
    declare,
    declare_colour,
    networks_from_settings,
)
from invcodec.training import make_steps
from invcodec.training.change import ChangeFinder
from invcodec.training.colour import ColourCorrection
from invcodec.training.frames import FrameTrainer, all_tensors, lead_tensors
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Schedule
from invcodec.training.validation import seen
from invcodec.version import __version__

_REFRESH_LOSS = 2.0
"""A frame this many dB worse than the scene was learned calls for its colour layers: the next frame trains all."""
_TICKS_PER_FRAME = 1000


@dataclass(frozen=True)
class Written:
    """What a file that is being continued holds: its last state, and its frames with what was said of them."""

    state: State
    entries: list[FrameEntry]
    stats: list[Stats]


class Encoder:
    """Encodes frames as they arrive.

    Args:
        cameras: the rig, held-out cameras included; their images are not looked at.
        out: writable binary file.
        settings: see `invcodec.encoding.presets.resolve`.
        fps: the capture's frame rate.
        source_size: width and height before downscaling; the first camera's own if None.
        transparent: whether images carry alpha, over a transparent background.
        frames: how many frames there will be; a target size needs to know.
        pace: frames a second that will be pushed, where that is fewer than `fps`; a bit rate is shared among those.
        origin: what `resume` needs to find the capture again; stored in the file.
        resume: what a file that is being continued holds.

    Raises:
        CaptureError: too few cameras.
        UsageError: a target that cannot be reached.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        out: BinaryIO,
        settings: Settings,
        *,
        fps: Fraction,
        source_size: tuple[int, int] | None = None,
        downscale: int = 1,
        transparent: bool = False,
        frames: int | None = None,
        pace: Fraction | None = None,
        origin: Mapping[str, Any] | None = None,
        resume: Written | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.cameras = tuple(cameras)
        self.settings = settings
        self.progress = progress or Progress()
        self._training = [i for i, camera in enumerate(self.cameras) if not camera.held_out]
        if len(self._training) < 2:
            raise CaptureError(f"{len(self._training)} camera(s) to train on, at least 2 are needed")
        rig = [self.cameras[i] for i in self._training]
        space = choose_space(self.cameras, transparent=transparent)
        networks = networks_from_settings(settings.networks, space)
        self._engine = make_engine(networks, device=settings.device, threads=settings.threads)
        self._engine.warm_up()
        self._specs: dict[TensorKey, TensorSpec] = {
            (network.name, spec.name): spec for network in networks for spec in network.profile.tensors
        }
        declared = [declare(network) for network in networks]
        self._correction = ColourCorrection(len(rig)) if settings.colour_correction else None
        if self._correction:
            declared.append(declare_colour(len(self.cameras)))
            self._specs |= {(COLOUR_NETWORK, spec.name): spec for spec in COLOUR_SPECS}
        head = Head(
            frame_rate=fps,
            time_base=Fraction(1, fps.numerator * _TICKS_PER_FRAME),
            source_size=source_size or (self.cameras[0].width, self.cameras[0].height),
            downscale=downscale,
            background=None if transparent else (0.0, 0.0, 0.0),
            cameras=self.cameras,
            networks=tuple(declared),
            encoder={
                "name": "invcodec",
                "version": __version__,
                "settings": settings.to_dict(),
                "origin": dict(origin or {}),
            },
        )
        self._rate = Controller(
            settings.target,
            settings.quality,
            Costs.of(head, *usual_bytes(settings)),
            frame_rate=min(pace or fps, fps),
            frames=frames,
            key_every=settings.key_every,
        )
        self._views = Views(rig, space)
        self._steps = make_steps(
            self._engine, self._views, self._correction, random_background=settings.random_background
        )
        occupancy = self._engine.occupancy()
        self._finder = ChangeFinder(self._views, None if occupancy is None else len(occupancy))
        self._state: State | None = None
        self._last_pixels: FramePixels | None = None
        self._learned_psnr: float | None = None
        self._refresh = False
        if resume is None:
            rng = np.random.default_rng(settings.seed)
            for network in networks:
                self._engine.load({(network.name, k): v for k, v in network.profile.initialise(rng).items()})
            self._writer = Writer(out, head)
        else:
            self._state = resume.state
            self._load_state()
            self._writer = Writer(out, head, resume.entries)
            for entry, stats in zip(resume.entries, resume.stats, strict=True):
                self._rate.wrote(entry.kind == "key", entry.time, entry.length, stats.psnr)

    @property
    def frames(self) -> list[FrameEntry]:
        """What has been written."""
        return self._writer.entries

    def remember(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray | None] | None = None) -> None:
        """Take images as those of the last written frame, against which change is measured after resuming."""
        self._last_pixels = self._gather(images, masks)

    @plain_interrupts()
    def push(
        self,
        images: Sequence[np.ndarray],
        *,
        time: Fraction | float,
        number: int | None = None,
        masks: Sequence[np.ndarray | None] | None = None,
        seconds: float | None = None,
        captured: float | None = None,
    ) -> FrameReport:
        """Train one frame and write its record.

        Args:
            images: for each camera, `[H, W, 3]` or `[H, W, 4]` uint8; None for held-out ones is fine.
            time: presentation time in seconds; later than the last frame's.
            number: the capture's frame number; the next one if None.
            masks: for each camera `[H, W]` bool (False: ignore the pixel) or None.
            seconds: training time at most, in place of that of the settings.
            captured: when the images were captured, in seconds since 1970, if the file shall say so.

        Raises:
            UsageError: a time, number or image that does not fit.
        """
        started = clock()
        last = self.frames[-1] if self.frames else None
        if number is None:
            number = last.number + 1 if last else 0
        ticks = round(Fraction(time) / self._writer.head.time_base)
        shown_at = ticks * self._writer.head.time_base
        if last and (number <= last.number or shown_at <= last.time):
            raise UsageError(f"frame {number} at {float(time):g} s does not come after frame {last.number}")
        pixels = self._gather(images, masks)
        if self._last_pixels is not None:
            pixels = self._finder.find(pixels, self._last_pixels)
        index = len(self.frames)
        stage = self._stage(index)
        key = stage == "key" or (self.settings.key_every is not None and index % self.settings.key_every == 0)
        self.progress.frame_started(number, stage)
        trainer = FrameTrainer(self._engine, self._steps, np.random.default_rng([self.settings.seed, number]))
        milliseconds = None if captured is None else round(1000 * captured)
        around = self._bytes_around(key, ticks, milliseconds)

        def steer(fraction: float) -> float:
            quality = self._rate.steer(
                lambda: around + self._code(stage, key, math.inf).needed, lambda: self._measure(pixels)
            )
            return self._schedule(stage, quality).price

        schedule = self._schedule(stage, self._rate.begin(key, shown_at))
        if seconds is not None:
            schedule = replace(schedule, budget=replace(schedule.budget, seconds=seconds))
        if stage == "key":
            trained = trainer.train_keyframe(pixels, schedule, self.progress.step, steer)
        else:
            tensors = lead_tensors(self._engine) if stage == "transfer" else all_tensors(self._engine)
            trained = trainer.train_delta(pixels, schedule, tensors, self.progress.step, steer)
        fitted = self._code(stage, key, self._rate.allowance.limit - around)
        self._state = fitted.state
        self._load_state()
        quality = self._measure(pixels)
        self._judge(stage, quality)
        took = round(1000 * (clock() - started))
        stats = Stats(stage, trained.steps, took, round(100 * quality), milliseconds)
        if key or last is None:
            frame = key_frame(self._state, ticks, stats)
        else:
            frame = delta_frame(self._state, ticks, last.number, stats)
        with _uninterrupted():
            entry = self._writer.frame(number, frame, fitted.coded)
        self._rate.end(key, around + fitted.needed, entry.length, quality)
        self._last_pixels = pixels
        report = FrameReport(
            number,
            entry.kind,
            stage,
            entry.time,
            clock() - started,
            trained.steps,
            trained.loss,
            quality,
            entry.length,
        )
        self.progress.frame_done(report)
        return report

    def close(self, complete: bool = True) -> None:
        """Write index and end mark; an incomplete file can be resumed."""
        with _uninterrupted():
            self._writer.finish(complete)
        if complete:
            for outcome in self._rate.outcomes(self._writer.size):
                self.progress.target_done(outcome)

    def _gather(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray | None] | None) -> FramePixels:
        if len(images) != len(self.cameras):
            raise UsageError(f"{len(images)} images for {len(self.cameras)} cameras")
        for i in self._training:
            camera, shape = self.cameras[i], images[i].shape
            if shape[:2] != (camera.height, camera.width):
                raise UsageError(
                    f"camera '{camera.name}': image is {shape[1]}x{shape[0]}, expected {camera.width}x{camera.height}"
                )
        chosen = [None if masks is None else masks[i] for i in self._training]
        pixels = FramePixels.gather([images[i] for i in self._training], chosen, self._views.validation)
        if not pixels.valid_mask.any():
            raise CaptureError("every pixel of every training camera is masked out")
        return pixels

    def _measure(self, frame: FramePixels) -> float:
        """PSNR in dB of the decoded frame on its validation pixels."""
        if not len(frame.validation):
            return BEST_PSNR
        captured = frame.colour[frame.validation]
        gain, offset = (self._correction.gain, self._correction.offset) if self._correction else (None, None)
        transparent = captured.shape[1] == 4
        decoded = seen(self._engine, self._views, frame.validation, gain, offset, transparent=transparent)
        return psnr(over_white(captured), decoded)

    def _stage(self, index: int) -> Stage:
        if self._state is None:
            return "key"
        if index <= self.settings.warmup:
            return "warmup"
        return "refresh" if self._refresh else "transfer"

    def _schedule(self, stage: Stage, quality: float) -> Schedule:
        settings = self.settings.at_quality(quality)
        if stage == "key":
            return settings.key
        return settings.delta if stage == "transfer" else settings.warm

    def _judge(self, stage: Stage, psnr: float) -> None:
        """Decide whether the next frame needs its colour layers."""
        if self._learned_psnr is None or stage in ("key", "warmup"):
            self._learned_psnr = psnr
        self._refresh = stage != "refresh" and psnr < self._learned_psnr - _REFRESH_LOSS

    def _weights(self, stage: Stage) -> dict[TensorKey, np.ndarray]:
        weights = self._engine.weights()
        if self._correction and stage == "key":
            levels = colour_levels(self._correction.gain, self._correction.offset, self._training, len(self.cameras))
            weights |= {(COLOUR_NETWORK, name): value for name, value in levels.items()}
        elif self._correction:
            assert self._state is not None
            known = self._state.weights()
            weights |= {(COLOUR_NETWORK, spec.name): known[COLOUR_NETWORK, spec.name] for spec in COLOUR_SPECS}
        return weights

    def _code(self, stage: Stage, key: bool, room: float) -> Fitted:
        """What the engine's weights become in a record, whose coded part takes at most `room` bytes if that can be."""
        before = self._state
        if key or before is None:
            weights = self._weights(stage)
            return fit_key(lambda quality: self._code_all(weights, quality), self._rate.quality, room)
        exact = {key for key, spec in self._specs.items() if spec.exact}
        return fit_change(before, self._engine.weights(), self.settings.dead_zone, room, exact)

    def _code_all(self, weights: Mapping[TensorKey, np.ndarray], quality: float) -> tuple[bytes, State]:
        """Every tensor on a fresh lattice."""
        fine_step = self.settings.at_quality(quality).fine_step
        levels, qps = {}, {}
        for key, value in weights.items():
            spec = self._specs[key]
            qps[key] = nearest_qp(spec.step * (1.0 if spec.exact else fine_step))
            levels[key] = to_lattice(value, qps[key])
        return encode_key(self._writer.head, levels, qps)

    def _bytes_around(self, key: bool, ticks: int, captured: int | None) -> int:
        """What the next record takes at most beside what it codes, before it is known what is to be said of it."""
        qps = tuple([MIN_QP] * len(table(self._writer.head))) if key else None
        reference = None if key else self.frames[-1].number
        stats = replace(MOST_STATS, captured=captured)
        return record_bytes(FrameHead(ticks, reference, bytes(DIGEST_BYTES), CODER, qps, stats), b"")

    def _load_state(self) -> None:
        """Close the loop: go on from what a decoder has."""
        assert self._state is not None
        weights = self._state.weights()
        self._engine.load({key: value for key, value in weights.items() if key[0] != COLOUR_NETWORK})
        if self._correction:
            self._correction.gain = weights[COLOUR_NETWORK, "gain"][self._training]
            self._correction.offset = weights[COLOUR_NETWORK, "offset"][self._training]


def encode_capture(
    capture: Capture,
    path: str | os.PathLike[str] | BinaryIO,
    settings: Settings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[FrameReport]:
    """Encode a capture to a file.

    The file appears under its name with its first keyframe; until then an existing one is untouched.

    Args:
        path: of the file, or a file object to write to, such as a pipe.
        force: replace an existing file.

    Raises:
        UsageError: the file exists, or cannot be written.
        Interrupted: stopped by Ctrl-C; what was finished is in the file.
    """
    target = Path(path) if isinstance(path, (str, os.PathLike)) else None
    if target is not None:
        check_output(target, force)
    # The fingerprint reads a frame: a broken capture is found before anything is written.
    origin = {
        "layout": capture.layout,
        "source": capture.source,
        "frames": [capture.numbers.start, capture.numbers.stop],
        "downscale": capture.downscale,
        "holdout": [camera.name for camera in capture.cameras if camera.held_out],
        "fingerprint": capture.fingerprint(),
    }
    with ExitStack() as stack:
        output = None if target is None else stack.enter_context(Output(target))
        stack.enter_context(shown(progress, len(capture.numbers)))
        file = output.file if output else cast(BinaryIO, path)
        encoder = _encoder(capture, file, settings, origin, progress)
        return _run(encoder, capture, capture.numbers.start, output.publish if output else lambda: None)


def resume(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], *, progress: Progress | None = None
) -> list[FrameReport]:
    """Go on with a file whose encoding was cut short; all options come from the file.

    Raises:
        UsageError: nothing to resume, or the capture is not the one that the file was made from.
        Interrupted: stopped by Ctrl-C again.
    """
    from invcodec.capture.capture import open_capture

    with Reader(path) as reader:
        origin, made_with = reader.head.encoder.get("origin"), reader.head.encoder.get("settings")
        finished = reader.status == "complete"
    try:
        settings = Settings.from_dict(made_with or {})
        assert origin
        options = {key: origin[key] for key in ("layout", "source", "downscale", "holdout")}
        first, stop = origin["frames"]
        fingerprint = origin["fingerprint"]
    except (KeyError, TypeError, ValueError, AssertionError):
        raise UsageError(f"{path}: was not written by this version's 'encode' and cannot be resumed") from None
    capture = open_capture(folder, frames=(first, stop), **options)
    if capture.fingerprint() != fingerprint:
        raise UsageError(f"{folder}: is not the capture that {path} was made from (its cameras or pixels differ)")
    if finished:
        raise UsageError(f"{path}: already holds all frames {first}:{stop}; nothing to resume")
    file, found = reopen(path), StateReader(path)
    left = len(capture.numbers) - len(found.frames)
    with file, found, shown(progress, left):
        last = found.frames[-1].number
        stats = [found.frame(entry)[0].stats for entry in found.frames]
        so_far = Written(found.state_at(last), found.frames, stats)
        encoder = _encoder(capture, file, settings, origin, progress, so_far)
        return _run(encoder, capture, last, lambda: None)


def _encoder(
    capture: Capture,
    file: BinaryIO,
    settings: Settings,
    origin: Mapping[str, Any],
    progress: Progress | None,
    resume: Written | None = None,
) -> Encoder:
    return Encoder(
        capture.cameras,
        file,
        settings,
        fps=capture.fps,
        source_size=capture.source_size,
        downscale=capture.downscale,
        transparent=capture.transparent,
        frames=len(capture.numbers),
        origin=origin,
        resume=resume,
        progress=progress,
    )


@contextmanager
def shown(progress: Progress | None, frames: int | None) -> Iterator[None]:
    """Progress from before the first compilation to the end, whatever that is."""
    if progress is None:
        yield
        return
    progress.start(frames)
    try:
        yield
    finally:
        progress.finish()


def _run(encoder: Encoder, capture: Capture, start: int, publish: Callable[[], None]) -> list[FrameReport]:
    """Push a capture's frames from `start` on; a frame that is already written is only remembered."""
    reports: list[FrameReport] = []
    try:
        frames: Iterator[Frame] = capture.frames(start)
        for frame in frames:
            if encoder.frames and frame.number <= encoder.frames[-1].number:
                encoder.remember(frame.images, frame.masks)
                continue
            reports.append(encoder.push(frame.images, time=frame.time, number=frame.number, masks=frame.masks))
            publish()
    except KeyboardInterrupt:
        if not encoder.frames:
            raise Interrupted("interrupted before the first frame was finished; nothing was written") from None
        # It may have come between a frame's last byte and its publication.
        publish()
        encoder.close(complete=False)
        last = encoder.frames[-1].number
        raise Interrupted(
            f"interrupted; the file holds frames up to {last} and can be continued with --resume"
        ) from None
    except BaseException:
        if encoder.frames:
            with suppress(OSError):
                publish()
                encoder.close(complete=False)
        raise
    encoder.close()
    return reports


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back while a record is written, so that no half record is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending:
            signal.raise_signal(signal.SIGINT)

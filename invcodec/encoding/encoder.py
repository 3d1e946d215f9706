"""The encoder: images in, one record per frame out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from time import perf_counter as clock
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import delta_frame, key_frame
from invcodec.coding.coders import CODER
from invcodec.coding.fit import MOST_STATS
from invcodec.coding.state import State, table
from invcodec.container.frame import DIGEST_BYTES, FrameHead, Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.writer import record_bytes
from invcodec.encoding.calibration import KINDS, Kind, Stopwatch, remembered
from invcodec.encoding.capacity import check_rig, fit
from invcodec.encoding.estimate import estimate, usual_bytes
from invcodec.encoding.loop import Loop
from invcodec.encoding.plan import FramePlan, Planner, time_base_of
from invcodec.encoding.presets import resolve
from invcodec.encoding.rate import Controller, Costs
from invcodec.encoding.recording import Recording
from invcodec.encoding.report import FrameReport, Progress
from invcodec.encoding.segment import Segment
from invcodec.encoding.settings import Settings
from invcodec.errors import CaptureError, InvError, InvWarning, UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space, nearest_depths
from invcodec.geometry.rig import training_cameras
from invcodec.interrupts import deferred, interruptible
from invcodec.limits import MIN_QP
from invcodec.render import camera_colour, make_trainer
from invcodec.render.networks import declare, networks_from_settings
from invcodec.training import make_steps
from invcodec.training.change import ChangeFinder
from invcodec.training.colour import ColourCorrection
from invcodec.training.cuts import is_cut
from invcodec.training.failure import NOT_FINITE, failure
from invcodec.training.frames import FrameTrainer, SteeringPoint, Trained
from invcodec.training.parts import PartTracker
from invcodec.training.pixels import FramePixels, Views, held
from invcodec.training.schedule import Budget
from invcodec.training.validation import measure
from invcodec.version import __version__

_CAUTION = 4.0
"""Divides the learning rates of a keyframe that is tried again."""


class Encoder:
    """Encodes frames as they arrive; a context manager.

    >>> import io
    >>> import invcodec
    >>> from invcodec.synth.rig import synthetic_rig
    >>> from invcodec.synth.trace import render
    >>> cameras = synthetic_rig(4, (20, 16))
    >>> file = io.BytesIO()  # or a path
    >>> with invcodec.Encoder(file, cameras, invcodec.resolve("draft", steps=2), fps=10) as encoder:
    ...     for index in range(2):
    ...         images = [render(camera, "moving", index / 10, 1.0) for camera in cameras]
    ...         report = encoder.push(images, time=index / 10)
    >>> report.kind, report.number, float(report.time)
    ('delta', 1, 0.1)

    Leaving the context closes the file: complete, or after an exception incomplete with all frames that were finished.

    Args:
        out: path of the file, which appears with its first frame; or a binary file object, or a `Recording`.
        cameras: the rig, held-out cameras included; their images are ignored.
        settings: see `invcodec.resolve`; the default preset if None.
        fps: the capture's frame rate.
        force: replace an existing file.
        source_size: width and height before downscaling; the first camera's own if None.
        downscale: the factor by which images were shrunk, for the record.
        transparent: whether images carry alpha, over a transparent background.
        points: `[N, 3]` reconstructed points of the scene, which help to choose its space.
        frames: how many frames there will be; a target size needs to know.
        pace: expected frames per second if below `fps`; a bit rate is divided accordingly.
        origin: what `invcodec.resume` needs to find the capture again; stored in the file.
        segment: which piece of a larger file this one is; stored in the file. Its budget replaces a target size, and
            whether targets are met is not said.
        progress: receives callbacks for each frame.

    Raises:
        CaptureError: too few cameras, or too many.
        UsageError: the file exists or cannot be written, a target that cannot be reached, or cameras that do not fit
            the space that the settings ask for.
    """

    def __init__(
        self,
        out: str | os.PathLike[str] | BinaryIO | Recording,
        cameras: Sequence[Camera],
        settings: Settings | None = None,
        *,
        fps: Fraction | float = 30,
        force: bool = False,
        source_size: tuple[int, int] | None = None,
        downscale: int = 1,
        transparent: bool = False,
        points: np.ndarray | None = None,
        frames: int | None = None,
        pace: Fraction | None = None,
        origin: Mapping[str, Any] | None = None,
        segment: Segment | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.cameras = tuple(cameras)
        self.progress = progress or Progress()
        self._training = training_cameras(self.cameras)
        self._asked = settings or resolve()
        check_rig(self._asked, self.cameras)
        fps = Fraction(fps).limit_denominator(1001)
        if fps <= 0:
            raise UsageError(f"frame rate: {float(fps):g} is not positive")
        self._channels = 4 if transparent else 3
        rig = [self.cameras[i] for i in self._training]
        space = choose_space(self.cameras, points=points, transparent=transparent, kind=self._asked.space)
        self.settings = settings = fit(self._asked, self.cameras, space)
        networks = networks_from_settings(settings.networks, space)
        self._correction = ColourCorrection(len(rig)) if settings.colour_correction else None
        declared = [declare(network) for network in networks]
        if self._correction:
            declared.append(camera_colour.declare(len(self.cameras)))
        head = Head(
            frame_rate=fps,
            time_base=time_base_of(fps),
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
                **({"segment": segment.note()} if segment else {}),
            },
        )
        self._segment = segment
        try:
            # What no decoder would accept is refused before anything is trained or written.
            Head.from_bytes(head.to_bytes())
        except InvError as error:
            raise UsageError(str(error)) from None
        if isinstance(out, Recording) and out.so_far is not None and (differing := out.head.difference(head)):
            raise UsageError(f"the file cannot be continued: its {differing} is not what its settings lead to")
        self._rate = Controller(
            settings.target,
            settings.quality,
            Costs.of(head, *usual_bytes(settings)),
            frame_rate=min(pace or fps, fps),
            frames=frames,
            key_every=settings.key_every,
            budget=segment.budget if segment else None,
        )
        self._recording = out if isinstance(out, Recording) else Recording(out, force=force)
        try:
            with deferred(), interruptible():
                # Compiles, which takes a while the first time.
                self._engine = make_trainer(networks, device=settings.device, threads=settings.threads)
                self._engine.warm_up()
                self._views = Views(rig, space)
                self._steps = make_steps(
                    self._engine, self._views, self._correction, random_background=settings.random_background
                )
            occupancy = self._engine.occupancy()
            nearest = nearest_depths(self.cameras, points=points, transparent=transparent)
            self._finder = ChangeFinder(self._views, None if occupancy is None else len(occupancy), nearest)
            self._tracker = PartTracker(self._engine, self._views, self._correction)
            self._planner = Planner(settings.warmup, settings.key_every, settings.refresh is not None, head.time_base)
            self._loop = Loop(self._engine, head, settings, self._correction, self._training)
            self._last_pixels: FramePixels | None = None
            if (so_far := self._recording.so_far) is not None:
                for state in so_far.states:
                    self._loop.go_on(state)
                for entry, stats in zip(so_far.entries, so_far.stats, strict=True):
                    self._planner.observe(entry.is_key, stats)
                    self._rate.wrote(entry.is_key, entry.time, entry.length, stats.fidelity)
            self._recording.begin(head)
            self._stopwatch = Stopwatch(settings)
            if frames is not None:
                speeds = {kind: remembered(settings, kind) for kind in KINDS}
                self.progress.prepared(estimate(settings, frames, fps, speeds))
        except BaseException as error:
            self._recording.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with deferred(), self._recording:
            if kind is None:
                self.close()

    @property
    def frames(self) -> Sequence[FrameEntry]:
        """Frames written so far."""
        return self._recording.frames

    def start_from(
        self,
        base: StateReader,
        images: Sequence[np.ndarray | None],
        masks: Sequence[np.ndarray | None] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Go on from the last frame of another file, in place of a first frame that is trained from nothing.

        The next frame is a keyframe; its scene is that of the other file, unless it is behind a cut. Call this before
        the first frame.

        Args:
            base: a file of the same networks and cameras.
            images, masks: of that frame, as of `push`.
            keep: that frame is also the first of this file.

        Raises:
            UsageError: the file declares something else.
        """
        if differing := self._recording.head.difference(base.head):
            raise UsageError(f"{base.name}: its {differing} is not what these settings lead to")
        last = base.frames[-1]
        frame, coded = base.frame(last)
        self._loop.go_on(base.state_at(last.number))
        self.remember(images, masks)
        if keep:
            entry = self._recording.add(last.number, frame, coded)
            self._planner.observe(entry.is_key, frame.stats)
            self._rate.wrote(entry.is_key, entry.time, entry.length, frame.stats.fidelity)
        else:
            self._planner.begin_within_scene(frame.stats)

    def remember(self, images: Sequence[np.ndarray | None], masks: Sequence[np.ndarray | None] | None = None) -> None:
        """Set the images of the last written frame, so that change detection works after resuming.

        Where that frame lacks some, those before it come first.
        """
        self._last_pixels = self._gather(images, masks)

    def push(
        self,
        images: Sequence[np.ndarray | None],
        *,
        time: Fraction | float,
        number: int | None = None,
        masks: Sequence[np.ndarray | None] | None = None,
        seconds: float | Callable[[str], float] | None = None,
        captured: float | None = None,
    ) -> FrameReport:
        """Train one frame and write its record.

        Ctrl-C abandons a frame that is being trained; one that is being written is finished first.

        Args:
            images: for each camera `[H, W, 3]` uint8, or `[H, W, 4]` with straight alpha if the encoder is transparent;
                None for cameras that have none at this time. Those of held-out cameras are ignored.
            time: presentation time in seconds; later than the last frame's.
            number: the capture's frame number; the next one if None.
            masks: for each camera `[H, W]` bool (False: ignore the pixel) or None.
            seconds: training time, in place of the budget of the settings; steps that were asked for still end it. Or a
                function that gives it for a record of kind "key" or "delta".
            captured: when the images were captured, in seconds since 1970, if the file is to say so.

        Raises:
            UsageError: a time, number or image that does not fit.
        """
        started = clock()
        with deferred():
            try:
                with interruptible():
                    pixels = self._gather(images, masks)
                    before = self._last_pixels
                    cut = before is not None and is_cut(self._views, pixels, before)
                    last = self.frames[-1] if self.frames else None
                    hurried = seconds is not None
                    plan = self._planner.plan(last, time, number, captured, cut=cut, hurried=hurried)
                    if before is not None and not cut:
                        pixels = self._finder.find(pixels, before)
                        if not hurried:
                            pixels = self._tracker.follow(pixels, self._before_last(plan))
                    limit = seconds(plan.kind) if callable(seconds) else seconds
                    self.progress.frame_started(plan.number, plan.stage)
                    overhead = self._overhead(plan)
                    began = clock()
                    train = self._train_first if plan.stage == "key" else self._train
                    trained = train(plan, pixels, overhead, limit)
                    training = clock() - began
                room = self._rate.allowance.limit - overhead
                fitted = self._loop.code(key=plan.key, quality=self._rate.quality, room=room)
                self._loop.show(fitted.state)
                fidelity = measure(self._engine, self._views, pixels, self._correction)
                stats = Stats.of(plan.stage, trained.steps, fidelity, plan.captured)
                if plan.key:
                    frame = key_frame(fitted.state, plan.ticks, stats)
                else:
                    frame = delta_frame(fitted.state, plan.ticks, self.frames[-1].number, stats)
                entry = self._recording.add(plan.number, frame, fitted.coded)
            except BaseException:
                # Another frame may be pushed: it starts from what the decoder has.
                self._loop.restart()
                raise
            self._loop.keep(fitted.state)
            self._planner.observe(plan.key, stats)
            self._rate.end(plan.key, overhead + fitted.needed, entry.length, fidelity)
            self._last_pixels = pixels
            report = FrameReport(
                number=plan.number,
                kind=entry.kind,
                stage=plan.stage,
                time=entry.time,
                seconds=clock() - started,
                steps=trained.steps,
                loss=trained.loss,
                fidelity=fidelity,
                bytes=entry.length,
            )
            kind: Kind = "key" if plan.stage == "key" else "delta"
            self._stopwatch.add(kind, trained.steps, training, report.seconds - training)
            self.progress.frame_done(report)
        return report

    def close(self, complete: bool = True) -> None:
        """Write index and end mark and close the file; a file object that was given stays open.

        Args:
            complete: whether this is all that was to be encoded; an incomplete file can be resumed.
        """
        with deferred():
            if self._recording.close(complete=complete) and complete and self._segment is None:
                for outcome in self._rate.outcomes(self._recording.size):
                    self.progress.target_done(outcome)

    def _train_first(self, plan: FramePlan, pixels: FramePixels, overhead: int, seconds: float | None) -> Trained:
        """Optimise the first frame of a scene; if that has failed, it is tried another way, unless it has a deadline.

        Raises:
            InvError: the weights are not finite, so they cannot be coded.
        """
        self._loop.start_afresh(pixels.mean_colour())
        trained = self._train(plan, pixels, overhead, seconds)
        reason = self._failure(pixels, trained)
        if reason and seconds is None:
            self._loop.start_afresh(pixels.mean_colour(), attempt=1)
            again = self._train(plan, pixels, overhead, seconds, caution=_CAUTION)
            trained = replace(again, steps=trained.steps + again.steps)
            reason = self._failure(pixels, trained)
        if reason:
            retried = "also at lower learning rates" if seconds is None else "with no time to try again"
            message = f"frame {plan.number} was not learned: {reason}, {retried}; check poses and images"
            if reason is NOT_FINITE:
                raise InvError(message)
            warnings.warn(message, InvWarning, stacklevel=3)
        return trained

    def _failure(self, pixels: FramePixels, trained: Trained) -> str | None:
        return failure(self._engine, self._views, pixels, self._correction, trained)

    def _train(
        self, plan: FramePlan, pixels: FramePixels, overhead: int, seconds: float | None, *, caution: float = 1.0
    ) -> Trained:
        """Optimise one frame, steering its quality towards the target; learning rates are divided by `caution`."""
        shown_at = plan.ticks * self._recording.head.time_base
        schedule = plan.schedule(self.settings.at_quality(self._rate.begin(plan.key, shown_at)))
        schedule = replace(schedule, lead_rate=schedule.lead_rate / caution, rate=schedule.rate / caution)
        if seconds is not None:
            budget = Budget(seconds, plan.schedule(self._asked).budget.steps)
        else:
            budget = schedule.budget.for_change(pixels.change)
        schedule = replace(schedule, budget=budget)
        trainer = FrameTrainer(
            self._engine, self._steps, np.random.default_rng([self.settings.seed, plan.number]), self._finder.empty
        )
        training = trainer.train(plan.stage, pixels, schedule)
        price: float | None = None
        while True:
            try:
                event = training.send(price)
            except StopIteration as done:
                return done.value
            price = None
            if isinstance(event, SteeringPoint):
                price = self._steer(plan, pixels, overhead)
            else:
                self.progress.step(event.fraction, event.loss, event.psnr)

    def _steer(self, plan: FramePlan, pixels: FramePixels, overhead: int) -> float:
        """The price to train on with, from what the frame's record and quality would be now."""
        size = fidelity = None
        if self._rate.needs_size:
            size = overhead + self._loop.code(key=plan.key, quality=self._rate.quality, room=math.inf).needed
        if self._rate.needs_psnr:
            fidelity = measure(self._engine, self._views, pixels, self._correction)
        return plan.schedule(self.settings.at_quality(self._rate.steer(size, fidelity))).price

    def _gather(self, images: Sequence[np.ndarray | None], masks: Sequence[np.ndarray | None] | None) -> FramePixels:
        if len(images) != len(self.cameras):
            raise UsageError(f"{len(images)} images for {len(self.cameras)} cameras")
        for i in self._training:
            camera, image = self.cameras[i], images[i]
            expected = (camera.height, camera.width, self._channels)
            if image is not None and (image.shape != expected or image.dtype != np.uint8):
                raise UsageError(
                    f"camera '{camera.name}': its image is {image.dtype} {list(image.shape)}, "
                    f"expected uint8 {list(expected)} (height, width, channels)"
                )
        chosen = [None if masks is None else masks[i] for i in self._training]
        for place, i in enumerate(self._training):
            if images[i] is None:
                chosen[place] = np.zeros((self.cameras[i].height, self.cameras[i].width), bool)
        before = None if self._last_pixels is None else self._views.split(self._last_pixels.colour)
        pictures = held([images[i] for i in self._training], before, self._views.cameras, self._channels)
        # Pixels that were never seen tell what is known of a scene; a picture is only to be remembered.
        reserve = not self.settings.flat
        pixels = FramePixels.gather(pictures, chosen, self._views.validation, reserve=reserve)
        if not pixels.valid_mask.any():
            raise CaptureError("every pixel of every training camera is masked out, or missing")
        return pixels

    def _before_last(self, plan: FramePlan) -> State | None:
        """The state before the last frame, if that and the planned one follow it without a gap."""
        numbers = [*(entry.number for entry in self.frames[-2:]), plan.number]
        return self._loop.before if np.diff(numbers).tolist() == [1, 1] else None

    def _overhead(self, plan: FramePlan) -> int:
        """Bytes that the next record takes at most beside its coded part, before its statistics are known."""
        qps = tuple([MIN_QP] * len(table(self._recording.head))) if plan.key else None
        reference = None if plan.key else self.frames[-1].number
        stats = replace(MOST_STATS, captured=plan.captured)
        return record_bytes(FrameHead(plan.ticks, reference, bytes(DIGEST_BYTES), CODER, qps, stats), b"")

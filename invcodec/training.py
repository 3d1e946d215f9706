"""One frame's optimisation: which rays are visited, where samples are spent, how fast to learn, when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from invcodec.capture.camera import Camera
from invcodec.render.engine import Batch, Engine, TensorKey
from invcodec.render.space import Rays, Space
from invcodec.validation import validation_pixels

StepCallback = Callable[[float, float, float], None]
"""Called after a step with the fraction done, the loss and the PSNR so far."""

Steer = Callable[[float], float | None]
"""Called now and then while a frame is trained, with the fraction done; returns the price from there on, or None."""

_STEER_AT = (0.4, 0.55, 0.7, 0.8, 0.9)
"""Fractions of the budget at which a frame is steered: once its size can be foretold, while it still follows."""

_PERCEPTIBLE = 8
"""Smallest change of an 8-bit value that counts as one."""
_NOISE_FACTOR = 5.0
_MIN_DENSITY = 6.0
"""Density per unit of march length below which a cell counts as empty while a keyframe is trained."""
_COARSE_STEPS = 64
"""Opening steps of a keyframe, on few rays with few samples, while all of space is still open."""
_LEAST_OPEN = 1e-3
"""Share of the cells that any scene must leave open."""
_SETTLED = 0.4
"""Fraction of a later frame's budget after which cells that stayed dark are closed."""
_LIGHT_CELL = 0.02
"""A keyframe keeps cells open in which, or beside which, some ray had more than this compositing weight."""
_CHANGED_CELL = 0.05
"""And a later frame those that may have changed and in which some ray had more than this. It is stricter since
nothing else stops cells from opening from frame to frame, and every one costs time, bytes and, as fog, quality."""


@dataclass(frozen=True)
class Budget:
    """When a frame's training ends: after a wall time in seconds or a number of steps, whichever comes first."""

    seconds: float | None = None
    steps: int | None = None

    def fraction(self, elapsed: float, step: int) -> float:
        parts = [elapsed / self.seconds if self.seconds else 0.0, step / self.steps if self.steps else 0.0]
        return max(parts)


@dataclass(frozen=True)
class Schedule:
    """How one kind of frame is trained.

    Attributes:
        budget: when to stop.
        rays: per step.
        lead_rate: learning rate of the lead tensors (a grid's tables).
        rate: learning rate of the others.
        hold: fraction of the budget for which the rates stay constant.
        decay: what the rates have fallen to at the end, as a factor.
        price: loss per unit of absolute change of a lead weight (rate in the loss).
        changed_share: part of each batch drawn from pixels that changed since the last frame.
        changed_weight: what such a pixel counts in the loss, where any other counts 1.
        jitter: how far samples are moved within their steps, where 1 is anywhere and 0 is where a decoder takes them.
        mixed: multiply matrices in bfloat16 where the hardware does that faster; weights stay float32.
    """

    budget: Budget
    rays: int
    lead_rate: float
    rate: float
    hold: float = 0.3
    decay: float = 0.05
    price: float = 0.0
    changed_share: float = 0.25
    changed_weight: float = 1.0
    jitter: float = 1.0
    mixed: bool = False

    def rates(self, fraction: float) -> tuple[float, float]:
        factor = self.decay ** max(0.0, (fraction - self.hold) / (1 - self.hold))
        return self.lead_rate * factor, self.rate * factor


class Views:
    """All pixels of the training cameras, numbered through: their rays, and one frame's colours.

    Args:
        cameras: the training cameras.
        space: where their rays run.

    Attributes:
        validation: `[V]` pixel numbers that no training sees.
    """

    def __init__(self, cameras: Sequence[Camera], space: Space) -> None:
        self.cameras = tuple(cameras)
        self.space = space
        self.sizes = [camera.width * camera.height for camera in cameras]
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        chosen = validation_pixels(cameras)
        self.validation = np.concatenate([own + first for own, first in zip(chosen, self.offsets[:-1], strict=True)])
        self._rotation = np.stack([camera.pose[:, :3] for camera in cameras], -1)
        self._centre = np.stack([camera.pose[:, 3] for camera in cameras], -1)
        # Image-plane coordinates cost 8 bytes a pixel; whole rays would cost 44.
        plane = [camera.rays()[1] @ camera.pose[:, :3] for camera in cameras]
        self._plane = np.concatenate([d[:, :2].astype(np.float32) for d in plane])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def camera_of(self, pixels: np.ndarray) -> np.ndarray:
        """Index of the camera `[R]` that each pixel number `[R]` belongs to."""
        return np.searchsorted(self.offsets, pixels, side="right") - 1

    def rays(self, pixels: np.ndarray) -> Rays:
        camera = self.camera_of(pixels)
        x, y = self._plane[pixels].T
        right, up, back = self._rotation[:, 0, camera], self._rotation[:, 1, camera], self._rotation[:, 2, camera]
        return self.space.march(self._centre[:, camera].T, (right * x + up * y - back).T)


@dataclass(frozen=True)
class FramePixels:
    """One frame of all training cameras.

    Attributes:
        colour: `[P, 3]` or `[P, 4]` uint8 (straight alpha), in the order of `Views`.
        valid: `[N]` pixel numbers to train on: those that are neither masked out nor kept for validation.
        validation: `[V]` pixel numbers to measure quality on.
        changed: `[C]` those of them that changed since the last frame.
        hull: `[M, M, M]` bool, cells that may hold the change, or None.
    """

    colour: np.ndarray
    valid: np.ndarray
    validation: np.ndarray
    changed: np.ndarray
    hull: np.ndarray | None = None

    @cached_property
    def has_changed(self) -> np.ndarray:
        """`[P]` bool, whether a pixel is among those that changed."""
        mask = np.zeros(len(self.colour), bool)
        mask[self.changed] = True
        return mask

    @classmethod
    def gather(
        cls, images: Sequence[np.ndarray], masks: Sequence[np.ndarray | None], validation: np.ndarray
    ) -> FramePixels:
        """Of images `[H, W, C]` and masks `[H, W]` (False: ignore), in the order of `Views`; validation is `[V]`."""
        colour = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
        keep = np.concatenate(
            [
                np.ones(image.shape[0] * image.shape[1], bool) if mask is None else mask.reshape(-1)
                for image, mask in zip(images, masks, strict=True)
            ]
        )
        measured = validation[keep[validation]]
        keep[measured] = False
        return cls(colour, np.flatnonzero(keep), measured, np.empty(0, np.int64))

    def target(self, pixels: np.ndarray, background: np.ndarray) -> np.ndarray:
        """Colours `[R, 3]` float32 in [0, 1] over backgrounds `[R, 3]`."""
        value = self.colour[pixels].astype(np.float32) / 255
        if value.shape[1] == 3:
            return value
        alpha = value[:, 3:]
        return value[:, :3] * alpha + (1 - alpha) * background


class ChangeFinder:
    """Finds the pixels that changed from one frame to the next, and the cells of space that may hold the change.

    A cell may hold it if most cameras that see the cell see a change there: the visual hull of the change.

    Args:
        views: the training pixels.
        cells: occupancy cells along each axis, or None if the network has no occupancy.
    """

    _AGREEMENT = 0.7

    def __init__(self, views: Views, cells: int | None) -> None:
        self.views = views
        self.cells = cells
        self._projection: list[tuple[np.ndarray, np.ndarray, int]] = []
        if cells is None:
            return
        axis = (np.arange(cells) + 0.5) / cells
        centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        world = views.space.world(centres)
        for camera in views.cameras:
            pixels, depth = camera.project(world)
            with np.errstate(invalid="ignore"):
                inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
            seen = np.flatnonzero(inside)
            column, row = pixels[seen].astype(np.int32).T
            self._projection.append(
                (seen.astype(np.int32), row * camera.width + column, _cell_reach(pixels, inside, cells))
            )

    def find(self, now: FramePixels, before: FramePixels) -> FramePixels:
        """`now`, with what changed since `before` filled in."""
        difference = np.abs(now.colour.astype(np.int16) - before.colour).max(1)
        noise = float(np.median(difference))
        moved = difference >= max(_PERCEPTIBLE, _NOISE_FACTOR * noise)
        changed = np.zeros(len(moved), bool)
        votes = np.zeros(self.cells**3 if self.cells else 0, np.int16)
        seen_by = np.zeros_like(votes)
        for index, camera in enumerate(self.views.cameras):
            part = slice(self.views.offsets[index], self.views.offsets[index + 1])
            picture = moved[part].reshape(camera.height, camera.width)
            changed[part] = spread(picture, 1).reshape(-1)
            if self.cells:
                seen, pixel, reach = self._projection[index]
                votes[seen] += spread(picture, 1 + reach).reshape(-1)[pixel]
                seen_by[seen] += 1
        hull = None
        if self.cells:
            enough = np.maximum(np.ceil(self._AGREEMENT * seen_by), 1)
            hull = (votes >= enough).reshape((self.cells,) * 3)
        valid = np.zeros(len(moved), bool)
        valid[now.valid] = True
        return replace(now, changed=np.flatnonzero(changed & valid), hull=hull)


def _cell_reach(pixels: np.ndarray, inside: np.ndarray, cells: int) -> int:
    """Half the typical distance in pixels between neighbouring cells: how far a change may lie off a cell's centre."""
    grid = pixels.reshape(cells, cells, cells, 2)
    inside = inside.reshape(cells, cells, cells)
    gaps = [0.0]
    for axis in range(3):
        both = np.logical_and(inside, np.roll(inside, -1, axis)).take(range(cells - 1), axis)
        if both.any():
            gaps.append(float(np.median(np.abs(np.diff(grid, axis=axis)).max(-1)[both])))
    return min(int(np.ceil(max(gaps) / 2)), 64)


def spread(mask: np.ndarray, reach: int) -> np.ndarray:
    """Dilate a boolean array of any dimension by a box of `2 * reach + 1`."""
    out = mask.astype(np.int32)
    for axis in range(mask.ndim):
        size = mask.shape[axis]
        total = np.cumsum(np.insert(out, 0, 0, axis), axis)
        index = np.arange(size)
        upper = np.take(total, np.minimum(index + reach + 1, size), axis)
        out = (upper - np.take(total, np.maximum(index - reach, 0), axis) > 0).astype(np.int32)
    return out.astype(bool)


class ColourCorrection:
    """Per-camera gain and offset, fitted by least squares while the scene is learned.

    A camera shows `gain * colour + offset` for each channel. Over all cameras the gains multiply to one and the
    offsets add to zero, so that the scene keeps the rig's average look.
    """

    _RIDGE = 0.02

    def __init__(self, cameras: int) -> None:
        self.gain = np.ones((cameras, 3), np.float32)
        self.offset = np.zeros((cameras, 3), np.float32)
        self._sums = np.zeros((5, cameras, 3))

    def neutral(self, colour: np.ndarray, camera: np.ndarray) -> np.ndarray:
        """What the scene must show `[R, 3]` for camera indices `[R]` to see these colours `[R, 3]`."""
        return (colour - self.offset[camera]) / self.gain[camera]

    def observe(self, scene: np.ndarray, seen: np.ndarray, camera: np.ndarray) -> None:
        """Remember pairs of scene colour `[R, 3]` and camera colour `[R, 3]`."""
        for total, value in zip(
            self._sums, (np.ones_like(scene), scene, seen, scene * scene, scene * seen), strict=True
        ):
            for channel in range(3):
                total[:, channel] += np.bincount(camera, value[:, channel], len(total))

    def fit(self) -> None:
        """Update gains and offsets from what was observed since the last call."""
        n, x, y, xx, xy = self._sums
        n = np.maximum(n, 1)
        mean_x, mean_y = x / n, y / n
        # The ridge pulls towards gain 1: a camera that sees a flat wall says nothing about contrast.
        gain = (xy / n - mean_x * mean_y + self._RIDGE) / (xx / n - mean_x**2 + self._RIDGE)
        gain = np.clip(gain, 0.25, 4)
        gain /= np.exp(np.log(gain).mean(0))
        offset = mean_y - gain * mean_x
        self.gain = gain.astype(np.float32)
        self.offset = (offset - offset.mean(0)).astype(np.float32)
        self._sums[:] = 0


@dataclass(frozen=True)
class Trained:
    """What training one frame took and reached, on training pixels drawn without preference."""

    steps: int
    seconds: float
    loss: float
    psnr: float


class FrameTrainer:
    """Trains frames on one engine.

    Args:
        engine: holds the weights.
        views: the training pixels.
        correction: colour correction to fit with keyframes and to apply, or None.
        rng: source of all randomness.
        random_background: show rays a background of random colour, so that what is opaque must be learned as opaque.
    """

    def __init__(
        self,
        engine: Engine,
        views: Views,
        correction: ColourCorrection | None,
        rng: np.random.Generator,
        *,
        random_background: bool = True,
    ) -> None:
        self.engine = engine
        self.views = views
        self.correction = correction
        self.rng = rng
        self.random_background = random_background
        self._order = np.empty(0, np.int64)

    def train_keyframe(
        self, frame: FramePixels, schedule: Schedule, progress: StepCallback, steer: Steer | None = None
    ) -> Trained:
        """Train everything from the weights that the engine holds, finding the occupancy on the way."""
        density: np.ndarray | None = None
        light = np.zeros(1, np.float32)
        samples = self.engine.networks[0].profile.samples
        epoch = max(1, len(frame.valid) // schedule.rays)
        if (cells := self.engine.occupancy()) is not None:
            self.engine.set_occupancy(np.ones_like(cells))

        def before_step(step: int, fraction: float) -> tuple[int, int]:
            nonlocal density, light
            coarse = _COARSE_STEPS if schedule.budget.steps is None else min(_COARSE_STEPS, schedule.budget.steps // 8)
            if cells is not None and step < coarse:
                return max(schedule.rays // 4, 64), max(samples // 2, 1)
            if cells is not None and (step - coarse) % (16 if fraction < 0.3 else 48) == 0:
                now = self.engine.cell_density(self.rng)
                density = now if density is None else np.maximum(0.8 * density, now)
                light = np.maximum(light, self.engine.take_cell_weights())
                open_cells = density > _MIN_DENSITY
                if fraction > 0.15:
                    open_cells &= spread(light > _LIGHT_CELL, 1)
                # What is still fog would be closed as a whole, and could never be learned.
                if open_cells.mean() > _LEAST_OPEN:
                    self.engine.set_occupancy(open_cells)
            if step % epoch == 0:
                light = 0.5 * light
            if self.correction and step % 32 == 0 and 0.1 < fraction < 0.9:
                self.correction.fit()
            return schedule.rays, samples

        keys = all_tensors(self.engine)
        return self._optimise(frame, schedule, keys, before_step, progress, steer, observed=self.correction)

    def train_delta(
        self,
        frame: FramePixels,
        schedule: Schedule,
        trainable: Collection[TensorKey],
        progress: StepCallback,
        steer: Steer | None = None,
    ) -> Trained:
        """Train the change from the last frame, starting from the weights that the engine holds."""
        samples = self.engine.networks[0].profile.samples
        before = self.engine.occupancy()
        if before is not None and frame.hull is not None:
            self.engine.set_occupancy(before | frame.hull)
            self.engine.take_cell_weights()
        settled = False

        def before_step(step: int, fraction: float) -> tuple[int, int]:
            nonlocal settled
            if not settled and fraction >= _SETTLED:
                # By now light has found the new surfaces; what stayed dark would only cost samples.
                settle()
                settled = True
            return schedule.rays, samples

        def settle() -> None:
            if before is not None and frame.hull is not None:
                light = self.engine.take_cell_weights()
                self.engine.set_occupancy(np.where(frame.hull, light > _CHANGED_CELL, before))

        trained = self._optimise(frame, schedule, trainable, before_step, progress, steer)
        settle()
        return trained

    def _optimise(
        self,
        frame: FramePixels,
        schedule: Schedule,
        trainable: Collection[TensorKey],
        before_step: Callable[[int, float], tuple[int, int]],
        progress: StepCallback,
        steer: Steer | None,
        observed: ColourCorrection | None = None,
    ) -> Trained:
        """Take steps until the budget is used up; `before_step` gives each one's rays and samples along them."""
        start = time.perf_counter()
        self._order = np.empty(0, np.int64)
        self.engine.begin(trainable, schedule.price, mixed=schedule.mixed)
        step, loss = 0, float("nan")
        corners = list(_STEER_AT) if steer else []
        while (fraction := schedule.budget.fraction(time.perf_counter() - start, step)) < 1:
            rays, samples = before_step(step, fraction)
            if corners and fraction >= corners[0]:
                corners = [corner for corner in corners if corner > fraction]
                price = steer(fraction) if steer else None
                if price is not None:
                    self.engine.set_price(price)
            batch, pixels, plain, seen = self._batch(frame, rays, schedule)
            lead_rate, rate = schedule.rates(fraction)
            result = self.engine.step(batch, lead_rate, rate, samples=samples)
            error = float(((result.rgb[plain] - batch.target[plain]) ** 2).mean())
            # A running mean over some twenty steps: one batch is too noisy to show.
            loss = error if step < 2 else loss + (error - loss) * max(0.05, 1 / step)
            if observed is not None:
                observed.observe(result.rgb, seen, self.views.camera_of(pixels))
            step += 1
            progress(min(fraction, 1.0), loss, -10 * float(np.log10(max(loss, 1e-10))))
        return Trained(step, time.perf_counter() - start, loss, -10 * float(np.log10(max(loss, 1e-10))))

    def _batch(self, frame: FramePixels, rays: int, schedule: Schedule) -> tuple[Batch, np.ndarray, slice, np.ndarray]:
        """A batch, its pixel numbers, the part of it that was drawn without preference, and the camera's colours."""
        picked = int(rays * schedule.changed_share) if len(frame.changed) else 0
        pixels = np.concatenate(
            [
                frame.changed[self.rng.integers(len(frame.changed), size=picked)],
                self._next(frame.valid, rays - picked),
            ]
            if picked
            else [self._next(frame.valid, rays)]
        )
        background = np.zeros((rays, 3), np.float32)
        if self.random_background:
            background = self.rng.random((rays, 3), np.float32)
        seen = frame.target(pixels, background)
        target = seen
        if self.correction is not None:
            target = self.correction.neutral(seen, self.views.camera_of(pixels))
        batch = Batch(
            self.views.rays(pixels),
            target,
            background,
            self._share(frame, pixels, picked, schedule.changed_weight),
            np.float32(0.5) + np.float32(schedule.jitter) * (self.rng.random(rays, np.float32) - np.float32(0.5)),
        )
        return batch, pixels, slice(picked, rays), seen

    def _share(self, frame: FramePixels, pixels: np.ndarray, picked: int, changed_weight: float) -> np.ndarray:
        """What each pixel of a batch `[R]` counts, so that in the mean the loss is that of all pixels.

        That is the mean squared error over all valid pixels, in which a changed one counts `changed_weight` times. The
        batch's first `picked` pixels were drawn from those that changed, the others from all.
        """
        rest, valid, changed = len(pixels) - picked, len(frame.valid), frame.changed
        if not picked:
            return np.full(len(pixels), 1 / rest, np.float32)
        visits = picked / len(changed) + rest / valid
        share = np.full(len(pixels), 1 / rest, np.float32)
        share[frame.has_changed[pixels]] = changed_weight / (valid * visits)
        return share

    def _next(self, valid: np.ndarray, count: int) -> np.ndarray:
        """The next pixels of an endless shuffled walk over all valid ones."""
        while len(self._order) < count:
            self._order = np.concatenate([self._order, self.rng.permutation(valid)])
        taken, self._order = self._order[:count], self._order[count:]
        return taken


def all_tensors(engine: Engine) -> set[TensorKey]:
    return {(network.name, spec.name) for network in engine.networks for spec in network.profile.tensors}


def lead_tensors(engine: Engine) -> set[TensorKey]:
    """What is trained once the warm-up is over: the first structure layers (INV, section 3.2)."""
    return {(network.name, spec.name) for network in engine.networks for spec in network.profile.tensors if spec.lead}

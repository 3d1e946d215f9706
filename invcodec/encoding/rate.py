"""Rate control: targets for a file's size or quality, and the quality of each frame that meets them.

The encoder has one knob, the quality from 0 to 100 (`invcodec.encoding.presets`). A `Controller` sets it before a
frame and while the frame is trained. It knows only bytes and decibels.

A target PSNR is one of `Fidelity.weighted`: moving pixels have a quarter of the weight however few they are, or a small
thing that moves could be a blur in a file that meets its target. They do not count alone, because much of what makes
them worse than still ones, such as highlights that move with them, no bits cure.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction

from invcodec.coding.fit import largest_empty_delta
from invcodec.container.head import Head
from invcodec.container.index import INDEX_ROW_BYTES, end_of_last
from invcodec.container.writer import bytes_without_frames
from invcodec.encoding.keyframes import keyframes_among
from invcodec.encoding.report import Outcome
from invcodec.errors import UsageError
from invcodec.metrics import Fidelity
from invcodec.names import PSNR_RANGE

BUFFER_SECONDS = 2
"""Size of the buffer of a bit rate, in seconds of that rate."""

POINTS_PER_OCTAVE = 10.0
"""Points of quality that roughly double the bytes; each measurement corrects the error of this estimate."""
_POINTS_PER_DECIBEL = 5.0
_LARGEST_STEP = 12.0
"""Largest correction in points of quality that one measurement makes: it may be poor, early in a frame or at a cut."""
_KEY_MARGIN, _DELTA_MARGIN = 1.15, 2.0
"""How far a record may exceed its share of a file's size; later frames make up for the excess of one."""
_TOLERANCE = 0.1
"""Shortfall in dB below which a target PSNR counts as met."""
_LARGEST_SURPLUS = 3.0
"""By how many dB the PSNR of all pixels is raised above a target for the sake of moving ones; beyond, it is missed."""


@dataclass(frozen=True)
class Target:
    """Targets for a file; without any, quality is constant. `max_frame_bytes` combines with each of the others.

    Attributes:
        psnr: mean of `Fidelity.weighted` over frames, in dB.
        size: of the whole file, in bytes.
        bitrate: in bits a second of capture, through a buffer of BUFFER_SECONDS.
        max_frame_bytes: of the record of any frame that is no keyframe.

    Raises:
        UsageError: values out of range, or mutually exclusive ones.
    """

    psnr: float | None = None
    size: int | None = None
    bitrate: int | None = None
    max_frame_bytes: int | None = None

    def __post_init__(self) -> None:
        self.check_exclusive()
        least, most = PSNR_RANGE
        if self.psnr is not None and not least <= self.psnr <= most:
            raise UsageError(f"target PSNR: {self.psnr:g} dB is not between {least} and {most}")
        for name, value in (("size", self.size), ("bit rate", self.bitrate), ("frame size", self.max_frame_bytes)):
            if value is not None and value <= 0:
                raise UsageError(f"target {name}: {value} is not positive")

    def check_exclusive(self, quality: float | None = None) -> None:
        """Refuse more than one of a constant quality, a PSNR, a size and a bit rate.

        Raises:
            UsageError
        """
        if sum(value is not None for value in (quality, self.psnr, self.size, self.bitrate)) > 1:
            raise UsageError("quality, target PSNR, target size and bit rate are mutually exclusive")

    @property
    def decides_quality(self) -> bool:
        """Whether the target determines the quality of frames, in place of a given one."""
        return any(value is not None for value in (self.psnr, self.size, self.bitrate))


NO_TARGET = Target()


@dataclass(frozen=True)
class Costs:
    """Byte counts known before a file's first frame.

    Attributes:
        fixed: header, index and end mark of a file without frames.
        row: a frame's row in the index.
        empty: the record of a frame that changes nothing.
        key, delta: typical record sizes at the default quality.
    """

    fixed: int
    row: int
    empty: int
    key: float
    delta: float

    @classmethod
    def of(cls, head: Head, key: float, delta: float) -> Costs:
        """The costs of a file with this header, given its typical record sizes."""
        return cls(bytes_without_frames(head), INDEX_ROW_BYTES, largest_empty_delta(head), key, delta)


@dataclass(frozen=True)
class Allowance:
    """Bytes of a record: the size to aim for, and the limit."""

    wanted: float = math.inf
    limit: float = math.inf


class Account(ABC):
    """A budget of bytes."""

    @abstractmethod
    def allowance(self, key: bool) -> Allowance:
        """For the record of the next frame."""

    @abstractmethod
    def spend(self, key: bool, size: int) -> None:
        """A record was written."""

    @abstractmethod
    def elapse(self, seconds: float) -> None:
        """The next frame is shown this many seconds after the last one."""


class FileSize(Account):
    """A whole file's bytes, shared out among a known number of frames.

    Keyframes and later frames share in proportion to their typical sizes. What a frame saves or overspends is spread
    over those that remain.
    """

    def __init__(self, size: int, frames: int, key_every: int | None, costs: Costs) -> None:
        least = costs.fixed + frames * (costs.row + costs.empty)
        if size < least:
            raise UsageError(f"a file of {size} bytes cannot hold {frames} frames: even empty ones take {least}")
        self._left = size - costs.fixed - frames * costs.row
        self._frames = frames
        self._key_every = key_every
        self._costs = costs
        self._done = 0
        self._since_key = 0

    def allowance(self, key: bool) -> Allowance:
        frames = max(self._frames - self._done, 1)
        # A cut may begin a keyframe where none was due.
        keys = int(key) + keyframes_among(frames - 1, self._key_every, 1 if key else self._since_key + 1)
        shares = keys * self._costs.key + (frames - keys) * self._costs.delta
        share = self._left * (self._costs.key if key else self._costs.delta) / shares
        spare = self._left - (frames - 1) * self._costs.empty
        limit = min(share * (_KEY_MARGIN if key else _DELTA_MARGIN), spare)
        return Allowance(max(share, self._costs.empty), max(limit, self._costs.empty))

    def spend(self, key: bool, size: int) -> None:
        self._left -= size
        self._done += 1
        self._since_key = 1 if key else self._since_key + 1

    def elapse(self, seconds: float) -> None:
        """Time does not matter."""


class Bucket(Account):
    """A leaky bucket: it holds BUFFER_SECONDS of the rate, starts full, and refills at the rate.

    So any T-second window of a file carries at most T + BUFFER_SECONDS seconds of bits, and a client that receives at
    this rate and buffers BUFFER_SECONDS never stalls. The header and the first keyframe drain the bucket; later frames
    then get a little less than the rate until there is a reserve again, and save for a later keyframe. Only a keyframe
    that is too large even at quality 0 can overdraw it; the frames after it pay back half of what they get.
    """

    _RESERVE = 0.25

    def __init__(self, bitrate: int, frame_rate: Fraction, key_every: int | None, costs: Costs) -> None:
        self._size = BUFFER_SECONDS * bitrate / 8
        self._rate = bitrate / 8
        # Per frame, assuming that coming frames are spaced like the last two.
        self._flow = float(self._rate / frame_rate) - costs.row
        if self._flow < costs.empty:
            least = math.ceil(8 * (costs.empty + costs.row) * frame_rate)
            raise UsageError(
                f"a bit rate of {bitrate} cannot hold {float(frame_rate):g} frames a second; "
                f"even empty ones take {least}"
            )
        if self._size < costs.fixed:
            raise UsageError(
                f"a bit rate of {bitrate} is too low: the header takes {costs.fixed} bytes, "
                f"more than {BUFFER_SECONDS} seconds hold"
            )
        self._credit = self._size - costs.fixed
        self._key_every = key_every
        self._costs = costs
        self._since_key = 0

    def allowance(self, key: bool) -> Allowance:
        # As far ahead as the buffer reaches, or to the next keyframe.
        ahead = max(self._size / self._flow, 1.0)
        reserve = self._RESERVE * self._size
        if self._key_every is not None and self._key_every <= ahead:
            ahead = float(self._key_every)
            reserve = min(0.9 * self._size, self._key_share(ahead) * ahead * self._flow)
            if not key:
                ahead = float(self._key_every - self._since_key)
        plan = self._credit + (ahead - 1) * self._flow - reserve
        if key:
            wanted = min(max(plan, self._credit / 2) * self._key_share(ahead), 0.9 * self._credit)
            return Allowance(max(wanted, self._costs.empty), max(self._credit, self._costs.empty))
        # Stay below a full bucket's allowance, or an easy passage would spend the reserve.
        wanted = _clamp(plan / ahead, self._flow / 4, 2 * self._flow)
        limit = max(self._credit, self._flow / 2, self._costs.empty)
        return Allowance(_clamp(wanted, self._costs.empty, limit), limit)

    def _key_share(self, frames: float) -> float:
        """The keyframe's typical share of the bytes of a group of `frames` frames that it begins."""
        return self._costs.key / (self._costs.key + (frames - 1) * self._costs.delta)

    def spend(self, key: bool, size: int) -> None:
        self._credit = self._credit - size - self._costs.row
        self._since_key = 1 if key else self._since_key + 1

    def elapse(self, seconds: float) -> None:
        self._credit = min(self._credit + self._rate * seconds, self._size)
        self._flow = max(min(self._rate * seconds, self._size) - self._costs.row, self._costs.empty)


class Controller:
    """Chooses the quality of each frame: call `begin`, then `steer` at each measurement, then `end`.

    Args:
        target: of the file.
        quality: to start from; constant without a target.
        costs: of the file.
        frame_rate: of the capture.
        frames: how many there will be, if known.
        key_every: most frames from one keyframe to the next, or None for keyframes at cuts alone.
        budget: bytes of the records, of a file that is one piece of that which the target is for.

    Attributes:
        quality: 0 to 100, of the current frame.
        allowance: for its record.

    Raises:
        UsageError: a target that no encode can reach.
    """

    def __init__(
        self,
        target: Target,
        quality: float,
        costs: Costs,
        *,
        frame_rate: Fraction,
        frames: int | None,
        key_every: int | None,
        budget: int | None = None,
    ) -> None:
        self.target = target
        self.quality = quality
        self.allowance = Allowance()
        self._account = account(target, costs, frame_rate, frames, key_every, budget)
        # A cap alone only ever lowers quality.
        self._best = quality if target.psnr is None and self._account is None else 100.0
        self._usual = {True: costs.key, False: costs.delta}
        self._next: dict[bool, float] = {}
        self._first = self._begun = quality
        self._time: Fraction | None = None
        self._result = Result(target, costs, frame_rate)

    def begin(self, key: bool, time: Fraction) -> float:
        """The quality at which to start training the next frame, shown at `time` seconds."""
        self._reach(time)
        self.allowance = self._account.allowance(key) if self._account else Allowance()
        cap = self.target.max_frame_bytes
        if cap is not None and not key:
            # A little below, so that few frames have to be truncated.
            self.allowance = Allowance(min(self.allowance.wanted, 0.85 * cap), min(self.allowance.limit, cap))
        if key not in self._next:
            first = self.quality
            if self._account:
                first = self._first + POINTS_PER_OCTAVE * math.log2(self.allowance.wanted / self._usual[key])
            self._next[key] = _clamp(first, 0, self._best)
        self.quality = self._begun = self._next[key]
        return self.quality

    @property
    def needs_size(self) -> bool:
        """Whether `steer` goes by what the record would take."""
        return self.allowance.wanted < math.inf

    @property
    def needs_psnr(self) -> bool:
        """Whether `steer` goes by the frame's quality."""
        return self.target.psnr is not None

    def steer(self, size: int | None, fidelity: Fidelity | None) -> float:
        """The quality to continue with.

        Args:
            size: what the record would take now, in bytes, if `needs_size`.
            fidelity: of the frame's pixels now, if `needs_psnr`.
        """
        # Bytes respond immediately; PSNR rises anyway, so its corrections must not accumulate.
        self.quality = self._corrected(size, fidelity, self._begun)
        return self.quality

    def end(self, key: bool, needed: int, size: int, fidelity: Fidelity) -> None:
        """A frame was written: the bytes it needed without a limit, the bytes it took, and its fidelity."""
        self._next[key] = self._corrected(needed, fidelity, self.quality)
        self._spend(key, size, fidelity)

    def wrote(self, key: bool, time: Fraction, size: int, fidelity: Fidelity | None) -> None:
        """Account for a frame that a resumed file already holds."""
        self._reach(time)
        self._spend(key, size, fidelity)

    def _reach(self, time: Fraction) -> None:
        if self._account and self._time is not None:
            self._account.elapse(float(time - self._time))
        self._time = time

    def _spend(self, key: bool, size: int, fidelity: Fidelity | None) -> None:
        assert self._time is not None
        if self._account:
            self._account.spend(key, size)
        self._result.add(key, self._time, size, fidelity)

    def outcomes(self, size: int) -> list[Outcome]:
        """The outcome of each target for a finished file of `size` bytes."""
        return self._result.outcomes(size)

    def _corrected(self, size: int | None, fidelity: Fidelity | None, quality_from: float) -> float:
        """The quality that follows from the measurements: the lowest, where there are several targets.

        Args:
            quality_from: the one that a measured PSNR corrects.
        """
        found = []
        if self.needs_size:
            assert size is not None
            step = POINTS_PER_OCTAVE * math.log2(self.allowance.wanted / size)
            found.append(self.quality + _clamp(step, -_LARGEST_STEP, _LARGEST_STEP))
        if self.target.psnr is not None:
            assert fidelity is not None
            reached = max(fidelity.weighted, fidelity.psnr - _LARGEST_SURPLUS)
            step = _POINTS_PER_DECIBEL * (self.target.psnr - reached)
            found.append(quality_from + _clamp(step, -_LARGEST_STEP, _LARGEST_STEP))
        return _clamp(min(found, default=self._best), 0, self._best)


class Both(Account):
    """Two budgets at once."""

    def __init__(self, *accounts: Account) -> None:
        self._accounts = accounts

    def allowance(self, key: bool) -> Allowance:
        each = [account.allowance(key) for account in self._accounts]
        return Allowance(min(one.wanted for one in each), min(one.limit for one in each))

    def spend(self, key: bool, size: int) -> None:
        for account in self._accounts:
            account.spend(key, size)

    def elapse(self, seconds: float) -> None:
        for account in self._accounts:
            account.elapse(seconds)


def account(
    target: Target,
    costs: Costs,
    frame_rate: Fraction,
    frames: int | None,
    key_every: int | None,
    budget: int | None = None,
) -> Account | None:
    """The budget of a target that limits bytes, else None.

    Args:
        budget: bytes of the records of `frames` frames, of a file that is one piece of that which the target is for.

    Raises:
        UsageError: a target that no encode can reach.
    """
    cap = target.max_frame_bytes
    if cap is not None and cap < costs.empty:
        raise UsageError(f"frames of at most {cap} bytes are too small; even empty ones take up to {costs.empty}")
    if budget is not None:
        assert frames is not None
        share = FileSize(budget, frames, key_every, replace(costs, fixed=0, row=0))
        if target.bitrate is None:
            return share
        # Every piece finds a full bucket, and its budget leaves it a full one.
        return Both(share, Bucket(target.bitrate, frame_rate, key_every, costs))
    if target.size is not None:
        if frames is None:
            raise UsageError("a target size needs to know the number of frames; give a bit rate instead")
        return FileSize(target.size, frames, key_every, costs)
    if target.bitrate is not None:
        return Bucket(target.bitrate, frame_rate, key_every, costs)
    return None


class Result:
    """Gathers sizes and qualities, and judges a target by them."""

    def __init__(self, target: Target, costs: Costs, frame_rate: Fraction) -> None:
        self._target = target
        self._costs = costs
        self._frame_rate = frame_rate
        self._sizes: list[int] = []
        self._times: list[Fraction] = []
        self._largest_delta = 0
        self._fidelities: list[Fidelity] = []

    def add(self, key: bool, time: Fraction, size: int, fidelity: Fidelity | None) -> None:
        """Add a frame: presentation time in seconds, bytes of its record, its fidelity if known."""
        self._sizes.append(size)
        self._times.append(time)
        if not key:
            self._largest_delta = max(self._largest_delta, size)
        if fidelity is not None:
            self._fidelities.append(fidelity)

    def outcomes(self, size: int) -> list[Outcome]:
        """The outcomes for a finished file of `size` bytes."""
        target, found = self._target, []
        if target.psnr is not None and self._fidelities:
            reached = sum(each.weighted for each in self._fidelities) / len(self._fidelities)
            met = reached >= target.psnr - _TOLERANCE
            found.append(Outcome("psnr", target.psnr, reached, met, Fidelity.mean(self._fidelities)))
        if target.size is not None:
            found.append(Outcome("size", target.size, size, size <= target.size))
        if target.bitrate is not None:
            rate = self._lowest_rate(target.bitrate)
            found.append(Outcome("bitrate", target.bitrate, rate, rate <= target.bitrate))
        if target.max_frame_bytes is not None:
            cap, largest = target.max_frame_bytes, self._largest_delta
            found.append(Outcome("max_frame_bytes", cap, largest, largest <= cap))
        return found

    def _lowest_rate(self, asked: float) -> float:
        """The lowest bit rate whose bucket is never overdrawn, rounded up by at most a thousandth."""
        high = asked
        while not self.holds(high):
            high *= 2
        low = high / 2
        while self.holds(low):
            low, high = low / 2, low
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.holds(middle) else (middle, high)
        return high

    def holds(self, bitrate: float) -> bool:
        """Whether this bit rate's bucket (see `Bucket`) is never overdrawn."""
        full, rate = BUFFER_SECONDS * bitrate / 8, bitrate / 8
        credit = full - self._costs.fixed
        for size, seconds in zip(self._sizes, self._durations, strict=True):
            credit -= size
            if credit < 0:
                return False
            credit = min(credit - self._costs.row + rate * seconds, full)
        return credit >= 0

    @property
    def _durations(self) -> list[float]:
        """Seconds for which each frame is shown."""
        ends = [*self._times[1:], end_of_last(self._times[-1], self._frame_rate)] if self._times else []
        return [float(end - time) for time, end in zip(self._times, ends, strict=True)]


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)

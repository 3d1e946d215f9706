"""Rate control: its controller on a simulated encoder, and what the command line makes of it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from invcodec.coding.chain import StateReader
from invcodec.encoding.keyframes import is_due
from invcodec.encoding.rate import BUFFER_SECONDS, Controller, Costs, Target
from invcodec.encoding.report import Outcome
from invcodec.errors import UsageError
from invcodec.metrics import Fidelity

COSTS = Costs(fixed=2000, row=20, empty=100, key=60_000, delta=6_000)
RATE = Fraction(30)


@dataclass
class Simulated:
    """An encoder whose bytes and decibels follow from the quality, with noise, and unlike what is usual.

    Attributes:
        key, delta: bytes at quality 50.
        bend: octaves of bytes for 10 points of quality.
        noise: of the bytes, in octaves; decibels have half as many.
        gap: frame times from one frame to the next are 1 to this many.
        cuts: frames that are keyframes although none is due.
    """

    target: Target
    frames: int = 40
    key_every: int | None = None
    key: float = COSTS.key
    delta: float = COSTS.delta
    bend: float = 0.7
    noise: float = 0.3
    gap: int = 1
    cuts: tuple[int, ...] = ()
    seed: int = 0
    times: list[Fraction] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    psnrs: list[float] = field(default_factory=list)

    def run(self) -> list[Outcome]:
        rng = random.Random(self.seed)
        made = Controller(self.target, 50, COSTS, frame_rate=RATE, frames=self.frames, key_every=self.key_every)
        since = 0
        for index in range(self.frames):
            key = is_due(since, self.key_every) or index in self.cuts
            since = 1 if key else since + 1
            usual = (self.key if key else self.delta) * 2 ** rng.uniform(-self.noise, self.noise)
            shift = rng.uniform(-self.noise, self.noise) / 2

            def size(quality: float, usual: float = usual) -> int:
                return max(round(usual * 2 ** ((quality - 50) / 10 * self.bend)), COSTS.empty)

            def psnr(quality: float, shift: float = shift) -> float:
                return 30 + (quality - 50) * 0.06 + shift

            self.times.append(self.times[-1] + rng.randint(1, self.gap) / RATE if index else Fraction(7))
            quality = made.begin(key, self.times[-1])
            for fraction in (0.4, 0.55, 0.7, 0.8, 0.9):
                # Half-trained frames are larger and worse than they will be.
                early = 1 - fraction
                quality = made.steer(
                    round(size(quality) * (1 + early)) if made.needs_size else None,
                    Fidelity(psnr(quality) - 2 * early) if made.needs_psnr else None,
                )
            needed, limit = size(quality), made.allowance.limit
            # As `invcodec.coding.fit` does it: deltas can always be cut, keyframes down to quality 0.
            taken = needed if needed <= limit else max(math.floor(limit), size(0) if key else COSTS.empty)
            made.end(key, needed, taken, Fidelity(psnr(quality)))
            self.sizes.append(taken)
            self.keys.append(key)
            self.qualities.append(quality)
            self.psnrs.append(psnr(quality))
        return made.outcomes(self.size)

    @property
    def size(self) -> int:
        return COSTS.fixed + sum(self.sizes) + COSTS.row * len(self.sizes)


scenes = st.fixed_dictionaries(
    {
        "key": st.floats(30_000, 120_000),
        "delta": st.floats(3_000, 20_000),
        "bend": st.floats(0.4, 1.0),
        "noise": st.floats(0, 0.5),
        "seed": st.integers(0, 1000),
        "frames": st.integers(10, 120),
        "gap": st.sampled_from([1, 1, 3, 40]),
    }
)


def reachable(scene: dict[str, float], key_every: int | None, low: float, high: float) -> tuple[float, float]:
    """File sizes at two constant qualities."""
    frames = int(scene["frames"])
    keys = 1 if key_every is None else -(-frames // key_every)
    usual = keys * scene["key"] + (frames - keys) * scene["delta"]
    a, b = (usual * 2 ** ((quality - 50) / 10 * scene["bend"]) for quality in (low, high))
    return a + COSTS.fixed + frames * COSTS.row, b + COSTS.fixed + frames * COSTS.row


@given(scenes, st.sampled_from([None, 8]), st.floats(0, 1))
def test_a_size_is_never_exceeded_and_nearly_used_up(scene: dict[str, float], key_every: int | None, at: float) -> None:
    low, high = reachable(scene, key_every, 20, 60)
    asked = round(low * (high / low) ** at)
    made = Simulated(Target(size=asked), key_every=key_every, **scene)  # type: ignore[arg-type]
    (outcome,) = made.run()
    assert outcome == Outcome("size", asked, made.size, True)
    assert made.size <= asked
    assert made.size > 0.9 * asked


@given(scenes, st.sampled_from([None, 8, 30]), st.integers(100_000, 4_000_000))
def test_the_bound_of_the_buffer_holds(scene: dict[str, float], key_every: int | None, asked: int) -> None:
    made = Simulated(Target(bitrate=asked), key_every=key_every, **scene)  # type: ignore[arg-type]
    (outcome,) = made.run()
    # Any frames in a row, the first of which may find the buffer full.
    most = BUFFER_SECONDS * asked / 8
    held = True
    for first in range(len(made.sizes)):
        spent = COSTS.fixed if first == 0 else 0
        for count, size in enumerate(made.sizes[first:]):
            spent += size
            seconds = made.times[first + count] - made.times[first]
            held = held and spent <= most + asked / 8 * seconds - count * COSTS.row + 1e-6
    assert outcome.met == (outcome.achieved <= asked) == held
    # Only keyframes too large even at quality 0 can break it.
    smallest = scene["key"] * 2 ** (-5 * scene["bend"] + scene["noise"])
    if key_every is None and smallest + COSTS.fixed < most:
        assert held


def test_a_bit_rate_is_used() -> None:
    made = Simulated(Target(bitrate=1_000_000), frames=600)
    made.run()
    rate = 8 * made.size * RATE / 600
    assert 0.95e6 < rate < 1.15e6
    # A reserve is built up after the keyframe, and no frame is starved for it.
    assert min(made.sizes) > 1_000_000 / 8 / 30 / 4


def test_frames_that_are_dropped_leave_their_bytes_to_the_others() -> None:
    made = Simulated(Target(bitrate=300_000), frames=300, gap=15)
    (outcome,) = made.run()
    assert outcome.met
    seconds = made.times[-1] - made.times[0] + 1 / RATE
    assert 0.85 * 300_000 < 8 * made.size / seconds < 1.15 * 300_000


def test_later_keyframes_are_saved_up_for() -> None:
    made = Simulated(Target(bitrate=1_500_000), frames=240, key_every=24)
    (outcome,) = made.run()
    assert outcome.met
    keys = [quality for quality, key in zip(made.qualities, made.keys, strict=True) if key]
    deltas = [quality for quality, key in zip(made.qualities, made.keys, strict=True) if not key]
    assert abs(sum(keys[2:]) / len(keys[2:]) - sum(deltas[48:]) / len(deltas[48:])) < 15


@given(scenes, st.floats(28, 32))
def test_a_quality_is_reached_in_the_mean(scene: dict[str, float], asked: float) -> None:
    made = Simulated(Target(psnr=asked), **{**scene, "frames": 60})  # type: ignore[arg-type]
    (outcome,) = made.run()
    assert outcome.achieved == pytest.approx(sum(made.psnrs) / 60)
    assert abs(sum(made.psnrs[5:]) / 55 - asked) < 0.3
    assert outcome.met == (outcome.achieved >= asked - 0.1)


def steered(target: float, fidelity: Callable[[float], Fidelity], frames: int = 60) -> tuple[float, Outcome]:
    """The quality of the last of some frames whose fidelity follows from it, and the outcome."""
    made = Controller(Target(psnr=target), 50, COSTS, frame_rate=RATE, frames=frames, key_every=None)
    for index in range(frames):
        quality = made.begin(index == 0, index / RATE)
        for _ in range(4):
            quality = made.steer(None, fidelity(quality))
        made.end(index == 0, 6000, 6000, fidelity(quality))
    (outcome,) = made.outcomes(1_000_000)
    return quality, outcome


def blurred(moving: float) -> Callable[[float], Fidelity]:
    """By quality: 30 dB at 50 over still pixels, and this many less over the 2 % that move."""

    def fidelity(quality: float) -> Fidelity:
        still = 30 + (quality - 50) * 0.1
        error = 0.98 * 10 ** (-still / 10) + 0.02 * 10 ** (-(still - moving) / 10)
        return Fidelity(-10 * math.log10(error), still - moving, 0.02)

    return fidelity


def test_a_target_is_not_met_by_still_pixels_alone() -> None:
    alike, outcome = steered(30, blurred(0))
    assert outcome.met
    assert alike == pytest.approx(50, abs=1)
    # Moving pixels that are somewhat worse are made up for, by both.
    worse, outcome = steered(30, blurred(6))
    assert outcome.met
    assert outcome.achieved == pytest.approx(30, abs=0.1)
    assert outcome.fidelity is not None
    assert outcome.fidelity.psnr > 31
    assert outcome.fidelity.psnr_moving is not None
    assert outcome.fidelity.psnr_moving < 27
    assert worse > alike + 10


def test_what_bits_do_not_cure_does_not_cost_without_limit() -> None:
    def stuck(quality: float) -> Fidelity:
        still = 30 + (quality - 50) * 0.1
        error = 0.98 * 10 ** (-still / 10) + 0.02 * 10**-2
        return Fidelity(-10 * math.log10(error), 20.0, 0.02)

    quality, outcome = steered(27, stuck)
    assert not outcome.met
    assert outcome.achieved < 26
    # All pixels together end 3 dB above the target.
    assert stuck(quality).psnr == pytest.approx(30, abs=0.2)
    assert quality < 65


@pytest.mark.parametrize("key_every", [None, 16])
def test_a_target_holds_when_cuts_bring_keyframes_that_nobody_expected(key_every: int | None) -> None:
    for cuts in [(20,), (5, 39, 41), (119,)]:
        made = Simulated(Target(size=2_000_000), frames=120, key_every=key_every, cuts=cuts)
        [outcome] = made.run()
        assert outcome.met
        assert outcome.achieved > 0.85 * 2_000_000
        [outcome] = Simulated(Target(bitrate=3_000_000), frames=120, key_every=key_every, cuts=cuts).run()
        assert outcome.met


@given(scenes, st.integers(100, 10_000), st.sampled_from([None, 7]))
def test_no_later_frame_exceeds_the_cap(scene: dict[str, float], cap: int, key_every: int | None) -> None:
    for target in (Target(max_frame_bytes=cap), Target(psnr=32, max_frame_bytes=cap)):
        made = Simulated(target, key_every=key_every, **scene)  # type: ignore[arg-type]
        outcome = made.run()[-1]
        later = [size for size, key in zip(made.sizes, made.keys, strict=True) if not key]
        assert max(later) <= cap
        assert outcome == Outcome("max_frame_bytes", cap, max(later), True)
        if target.psnr is None:
            # A cap makes nothing better than it was asked to be.
            assert max(made.qualities) <= 50


def test_without_a_target_nothing_is_measured_and_the_quality_stays() -> None:
    made = Controller(Target(), 37, COSTS, frame_rate=RATE, frames=None, key_every=None)
    for time, key in enumerate((True, False, False)):
        assert made.begin(key, Fraction(time)) == 37
        assert not made.needs_size
        assert not made.needs_psnr
        assert made.steer(None, None) == 37
        made.end(key, 99_999, 99_999, Fidelity(10.0))
    assert made.outcomes(1_000_000) == []


def test_what_was_written_before_counts() -> None:
    target = Target(size=100_000)
    made = Controller(target, 50, COSTS, frame_rate=RATE, frames=10, key_every=None)
    made.wrote(True, Fraction(0), 60_000, Fidelity(30.0))
    made.wrote(False, 1 / RATE, 20_000, Fidelity(30.0))
    made.begin(False, 2 / RATE)
    assert made.allowance.wanted == pytest.approx((100_000 - 2000 - 10 * 20 - 80_000) / 8)


def test_what_no_file_can_be_is_refused() -> None:
    for target, part in [
        (Target(size=2500), "even empty ones take 3200"),
        (Target(bitrate=20_000), "even empty ones take 28800"),
        (Target(max_frame_bytes=99), "even empty ones take up to 100"),
    ]:
        with pytest.raises(UsageError, match=part):
            Controller(target, 50, COSTS, frame_rate=RATE, frames=10, key_every=None)
    with pytest.raises(UsageError, match="number of frames"):
        Controller(Target(size=99_000), 50, COSTS, frame_rate=RATE, frames=None, key_every=None)
    with pytest.raises(UsageError, match="mutually exclusive"):
        Target(psnr=30, size=99_000)
    for bad in ({"psnr": 99.0}, {"size": 0}, {"bitrate": -1}, {"max_frame_bytes": 0}):
        with pytest.raises(UsageError):
            Target(**bad)  # type: ignore[arg-type]


# the command line


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def sizes(path: Path) -> list[tuple[str, int]]:
    with StateReader(path) as reader:
        assert reader.status == "complete"
        return [(entry.kind, entry.length) for entry in reader.frames]


@pytest.mark.slow
def test_a_file_of_a_size(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.inv"
    done = cli("encode", capture, path, "--steps", 12, "--target-size", "30k", "--progress", "json")
    assert done.code == 0
    *frames, target = lines(done.err)
    assert target == {"target": "size", "asked": 30_000, "achieved": path.stat().st_size, "met": True}
    assert 20_000 < path.stat().st_size <= 30_000
    assert [frame["bytes"] for frame in frames] == [size for _, size in sizes(path)]
    with StateReader(path) as reader:
        assert reader.head.encoder["settings"]["target"]["size"] == 30_000
        cut = reader.frames[2].offset + 40
    # Cut short, it is finished with the same target.
    path.write_bytes(path.read_bytes()[:cut])
    done = cli("encode", capture, path, "--resume", "--progress", "json")
    assert done.code == 0
    assert lines(done.err)[-1] == target | {"achieved": path.stat().st_size}
    assert path.stat().st_size <= 30_000
    assert len(sizes(path)) == 4


@pytest.mark.slow
def test_a_bit_rate_and_a_largest_frame(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "thin.inv"
    options = ("--bitrate", "160 kbit/s", "--max-frame-bytes", "700", "--progress", "json")
    done = cli("encode", capture, path, "--steps", 12, "--frames", "0:3", *options)
    assert done.code == 0
    rate, cap = lines(done.err)[-2:]
    assert (rate["target"], rate["asked"], rate["met"]) == ("bitrate", 160_000, True)
    # Two seconds of the rate, and a tenth of one for each further frame.
    assert path.stat().st_size <= 40_000 + 2 * 2_000
    later = [size for kind, size in sizes(path) if kind == "delta"]
    assert (cap["target"], cap["achieved"], cap["met"]) == ("max_frame_bytes", max(later), True)
    assert max(later) <= 700
    assert cli("verify", path).code == 0


def test_a_missed_target_is_said_and_no_failure(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "poor.inv"
    done = cli("encode", capture, path, "--steps", 8, "--frames", "0:1", "--target-psnr", 45)
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert done.err.startswith("invcodec: target missed: PSNR ")
    assert "requested 45.00 dB" in done.err


@pytest.mark.slow
def test_quality_decides_steps_and_size(cli: Cli, capture: Path, tmp_path: Path) -> None:
    found = []
    for quality in (10, 90):
        path = tmp_path / f"{quality}.inv"
        assert cli("encode", capture, path, "--steps", 10, "--frames", "0:1", "--quality", quality).code == 0
        with StateReader(path) as reader:
            # The occupancy is exact whatever the quality.
            qps = reader.state_at(0).qps
            found.append((path.stat().st_size, qps["scene", "grid.0"], qps["scene", "occupancy"]))
    (small, coarse, one), (large, fine, other) = found
    assert 4 * small < large
    # 80 points are 2 2/3 octaves of the step, with eight steps to an octave.
    assert coarse - fine in (21, 22)
    assert one == other


def test_options_that_cannot_be(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.inv"
    for options, part in [
        (("--quality", 40, "--target-size", "1M"), "--quality and --target-size are mutually exclusive"),
        (("--target-psnr", 30, "--bitrate", "1M"), "--target-psnr and --bitrate are mutually exclusive"),
        (("--quality", 101), "--quality"),
        (("--target-psnr", "high"), "--target-psnr"),
        (("--target-size", "2TB"), "use 500k, 1.5M or 2MB"),
        (("--bitrate", "fast"), "use 300k or 1.5M"),
        (("--max-frame-bytes", 0), "use 500k"),
        (("--target-size", "2k"), "a file of 2000 bytes cannot hold 4 frames"),
        (("--bitrate", "2k"), "cannot hold 10 frames a second"),
        (("--max-frame-bytes", 40), "too small"),
    ]:
        done = cli("encode", capture, path, "--steps", 5, *options)
        assert (done.code, done.err.count("\n")) == (2, 1), options
        assert part in done.err
        assert not path.exists()


def test_inspect_knows_the_target(cli: Cli, capture: Path) -> None:
    def size(*options: object) -> int:
        return json.loads(cli("inspect", capture, "--json", *options).out)["encode"]["bytes"]

    assert size("--target-size", "70k") == 70_000
    assert size("--bitrate", "1M") == 50_000
    assert size("--max-frame-bytes", "100") < size() < size("--quality", 70)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1234", 1234), ("500k", 500_000), ("1.5M", 1_500_000), ("2MB", 2_000_000), ("2 MiB", 2 * 2**20), (".5kb", 500)],
)
def test_sizes_as_they_are_written(text: str, size: int) -> None:
    from invcodec_cli.values import BitRate, ByteSize

    assert ByteSize().convert(text, None, None) == size
    assert BitRate().convert(text.lower().replace("b", "").replace("mi", "Mi"), None, None) == size


@pytest.mark.parametrize("size", [400, 5000])
def test_numbers_that_fit_no_type_are_refused(cli: Cli, capture: Path, tmp_path: Path, size: int) -> None:
    path, digits = tmp_path / "x.inv", "9" * size
    for option, value in (
        ("--bitrate", digits),
        ("--target-size", "99999999999G"),
        ("--max-frame-bytes", f"0.{digits}"),
        ("--key-seconds", digits),
        ("--seconds-per-frame", "999999999999"),
        ("--frames", f"0:{digits}"),
        ("--steps", digits),
        ("--quality", "nan"),
        ("--target-psnr", "nan"),
    ):
        done = cli("encode", capture, path, option, value)
        assert (done.code, done.err.count("\n"), "bug" in done.err) == (2, 1, False), done.err
    for arguments in (("decode", capture, "--size", f"{digits}x8"), ("recolour", capture, "-o", path, "--hue", "nan")):
        done = cli(*arguments)
        assert (done.code, done.err.count("\n"), "Invalid value" in done.err) == (2, 1, True), done.err
    assert not path.exists()

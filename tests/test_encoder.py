"""The encoder as a library: frames pushed one by one, the closed loop, what is trained when."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import invcodec
from invcodec.capture.capture import open_capture
from invcodec.container.frame import Stats
from invcodec.decoding.evaluation import validate
from invcodec.editing.verify import verify
from invcodec.encoding.calibration import Kind, Speed
from invcodec.encoding.encode import encode_capture
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.estimate import estimate, usual_bytes
from invcodec.encoding.keyframes import keyframes_among
from invcodec.encoding.plan import Planner
from invcodec.encoding.presets import PRESETS, resolve
from invcodec.encoding.rate import Bucket, Target
from invcodec.encoding.report import Outcome, Progress
from invcodec.encoding.settings import Settings
from invcodec.errors import CaptureError, UsageError
from invcodec.interrupts import plain_interrupts
from invcodec.names import DEFAULT_KEY_EVERY
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.trace import render
from invcodec.synth.write import write_synthetic
from invcodec.training.schedule import Budget

SIZE = (20, 16)
SETTINGS = resolve("draft", steps=12, threads=2)
SMALL = {"resolutions": [4, 9], "log2_table": 9, "occupancy": 8, "samples": 16}


def small(**changes: object) -> Settings:
    """Few steps on a tiny network."""
    return replace(SETTINGS, networks=({**SETTINGS.networks[0], "config": SMALL},), **changes)  # type: ignore[arg-type]


def images(time: float) -> list[np.ndarray]:
    return [render(camera, "moving", time, 1.0) for camera in RIG]


RIG = synthetic_rig(4, SIZE)
MOMENTS = [images(0.1 * k) for k in range(4)]


def encoder(out: io.BytesIO, settings: Settings | None = None) -> Encoder:
    return Encoder(out, RIG, settings or small(), fps=Fraction(10))


def written(out: io.BytesIO, folder: Path) -> Path:
    path = folder / "out.inv"
    path.write_bytes(out.getvalue())
    return path


def test_numbers_may_have_gaps_and_times_may_be_uneven(tmp_path: Path) -> None:
    out = io.BytesIO()
    made = encoder(out)
    for number, time, moment in [(5, Fraction(1, 2), 0), (6, Fraction(61, 100), 1), (9, Fraction(9, 10), 2)]:
        report = made.push(MOMENTS[moment], time=time, number=number)
        assert report.number == number
    made.close()
    with invcodec.open(written(out, tmp_path)) as video:
        assert [(frame.number, frame.time) for frame in video] == [
            (5, Fraction(1, 2)),
            (6, Fraction(61, 100)),
            (9, Fraction(9, 10)),
        ]
        assert video.at(0.7).number == 6
        with pytest.raises(UsageError, match="neighbours are 6 and 9"):
            video[7]


def test_a_frame_can_be_decoded_as_soon_as_it_was_pushed(tmp_path: Path) -> None:
    out = io.BytesIO()
    made = encoder(out)
    for number, moment in enumerate(MOMENTS[:3]):
        made.push(moment, time=number / 10)
        with invcodec.open(written(out, tmp_path)) as video:
            assert video.status == "open"
            assert video.frames[-1].number == number
            # The loop is closed: the encoder goes on from just what a decoder has.
            decoded = video.source.state_at(number).weights()
        held = made._engine.weights()
        assert all((held[key] == decoded[key]).all() for key in held)


def test_after_the_warm_up_only_the_first_structure_layer_changes(tmp_path: Path) -> None:
    out = io.BytesIO()
    made = encoder(out, small(warmup=1, warm=replace(SETTINGS.warm, budget=Budget(steps=60))))
    stages = [made.push(moment, time=number / 10).stage for number, moment in enumerate(MOMENTS)]
    assert stages[:3] == ["key", "all", "lead"]
    made.close()
    with invcodec.open(written(out, tmp_path)) as video:
        weights = [video[number].weights() for number in range(4)]
    changed = [{k for k in a if (a[k] != b[k]).any()} for a, b in pairwise(weights)]
    assert any(key.startswith("scene/colour") for key in changed[0])
    assert all(key.startswith("scene/grid") or key == "scene/occupancy" for key in changed[1])


def test_later_keyframes_stand_alone_and_do_not_start_over(tmp_path: Path) -> None:
    out = io.BytesIO()
    made = encoder(out, small(key_every=2, warmup=1))
    reports = [made.push(moment, time=number / 10) for number, moment in enumerate(MOMENTS)]
    made.close()
    assert [report.kind for report in reports] == ["key", "delta", "key", "delta"]
    assert [report.stage for report in reports] == ["key", "all", "refresh", "lead"]
    assert reports[2].fidelity.psnr > reports[0].fidelity.psnr - 3
    with invcodec.open(written(out, tmp_path)) as video:
        entry = video[2].entry
        whole = (tmp_path / "out.inv").read_bytes()
        assert entry.is_key
    # Without anything of the first segment but the header, the second still decodes.
    head = whole[: video[0].entry.offset]
    (tmp_path / "late.inv").write_bytes(head + whole[entry.offset :])
    with invcodec.open(tmp_path / "out.inv") as a, invcodec.open(tmp_path / "late.inv") as b:
        assert [frame.number for frame in b] == [2, 3]
        one, other = a[3].weights(), b[3].weights()
        assert all((one[key] == other[key]).all() for key in one)


def test_a_refresh_shrinks_the_layers_that_it_starts_from(tmp_path: Path) -> None:
    assert SETTINGS.refresh is not None
    out = io.BytesIO()
    settings = small(key=replace(SETTINGS.key, rate=0.3), key_every=1, refresh=replace(SETTINGS.refresh, rate=0.0))
    made = encoder(out, settings)
    for number, moment in enumerate(MOMENTS[:2]):
        made.push(moment, time=number / 10)
    made.close()
    with invcodec.open(written(out, tmp_path)) as video:
        before, after = (video[number].weights() for number in (0, 1))
    layers = [key for key in before if key.endswith((".bias", ".weight"))]
    assert all(max(abs(before[key]).max() for key in layers if key.endswith(kind)) > 1 for kind in ("bias", "weight"))
    for key in layers:
        kept = 0.85 if key.endswith(".bias") else 0.95
        np.testing.assert_allclose(after[key], kept * before[key], atol=0.5 * 0.03, rtol=0, err_msg=key)


def test_quality_does_not_fall_at_a_keyframe_that_is_due() -> None:
    assert SETTINGS.refresh is not None
    enough = Budget(steps=150)
    learned = small(
        warmup=1, key=replace(SETTINGS.key, budget=enough), refresh=replace(SETTINGS.refresh, budget=enough)
    )
    psnrs = []
    for key_every in (None, 2):
        made = encoder(io.BytesIO(), replace(learned, key_every=key_every))
        psnrs.append([made.push(moment, time=number / 10).fidelity.psnr for number, moment in enumerate(MOMENTS)])
    assert (np.subtract(*psnrs) < 0.3).all()


def test_a_keyframe_holds_no_entry_that_no_open_cell_reads(tmp_path: Path) -> None:
    out = io.BytesIO()
    made = encoder(out, small(key=replace(SETTINGS.key, budget=Budget(steps=80))))
    made.push(MOMENTS[0], time=0.0)
    trained = made._engine.weights()
    # A corner cell with matter that is closed after all, as far from the others as can be.
    cells = np.zeros((8, 8, 8), bool)
    cells[4:6, 4:6, 4:6] = True
    made._engine.load({("scene", "grid.0"): np.ones_like(trained["scene", "grid.0"])})
    made._engine.set_occupancy(cells)
    made._loop._fresh = True
    coded = made._loop.code(key=True, quality=50, room=float("inf")).state.levels
    read = np.zeros((5, 5, 5), bool)
    read[2:4, 2:4, 2:4] = True
    assert ((coded["scene", "grid.0"] != 0).all(-1) == read).all()


def test_a_scene_whose_colours_change_gets_its_colour_layers_back() -> None:
    # Enough steps to learn the first frame well, and too few to follow when the light goes down.
    long, short = Budget(steps=200), Budget(steps=6)
    settings = small(warmup=0)
    settings = replace(settings, key=replace(settings.key, budget=long), delta=replace(settings.delta, budget=short))
    made = encoder(io.BytesIO(), settings)
    stages = [made.push(MOMENTS[0], time=0.0).stage]
    for number in range(1, 4):
        darker = [image // 4 for image in MOMENTS[0]]
        stages.append(made.push(darker, time=number / 10).stage)
    assert stages[:2] == ["key", "lead"]
    assert "all" in stages[2:]


class _Outcomes(Progress):
    def __init__(self) -> None:
        self.all: list[Outcome] = []

    def target_done(self, outcome: Outcome) -> None:
        self.all.append(outcome)


def test_a_file_whose_few_moving_pixels_are_bad_misses_a_target_that_the_others_meet(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "capture", cameras=7, size=(64, 48), frames=3, fps=2)
    capture = open_capture(tmp_path / "capture")
    # The scene is learned, and what moved is not.
    settings = small(warmup=0)
    key, delta = (replace(settings.key, budget=Budget(steps=n)) for n in (450, 2))
    settings = replace(settings, key=key, delta=delta)
    free = [report.fidelity for report in encode_capture(capture, tmp_path / "free.inv", settings)]
    # Halfway between all pixels' mean and the weighted one, whatever the machine makes of so few steps.
    between = float(np.mean([(each.psnr + each.weighted) / 2 for each in free]))
    path, progress = tmp_path / "out.inv", _Outcomes()
    settings = replace(settings, target=Target(psnr=between))
    found = [report.fidelity for report in encode_capture(capture, path, settings, progress=progress)]
    assert (found[0].psnr_moving, found[0].moving_share) == (None, None)
    for each in found[1:]:
        assert each.psnr_moving is not None
        assert each.moving_share is not None
        assert 0.05 < each.moving_share < 0.2
        assert each.psnr_moving < each.psnr - 2.5
    (outcome,) = progress.all
    assert outcome.fidelity is not None
    assert outcome.fidelity.psnr > between
    assert outcome.achieved == pytest.approx(np.mean([each.weighted for each in found]))
    assert not outcome.met
    # The file says the same of each frame, and its pictures confirm it.
    with invcodec.open(path) as video:
        measured = validate(video, capture)
        for frame, each, again in zip(video, found, measured, strict=True):
            stored = frame.stats.fidelity
            assert stored is not None
            assert stored.weighted == pytest.approx(each.weighted, abs=0.02)
            for now, said, reported in (
                (again["psnr"], again["stored"], each.psnr),
                (again["psnr_moving"], again["stored_moving"], each.psnr_moving),
            ):
                assert now == pytest.approx(reported, abs=0.02)
                assert said == pytest.approx(reported, abs=0.006)


def test_what_does_not_fit_is_refused_and_nothing_is_written() -> None:
    out = io.BytesIO()
    made = encoder(out)
    made.push(MOMENTS[0], time=0.5, number=3)
    size = len(out.getvalue())
    for arguments, message in [
        ({"images": MOMENTS[1], "time": 0.6, "number": 3}, "does not come after"),
        ({"images": MOMENTS[1], "time": 0.5}, "does not come after"),
        ({"images": MOMENTS[1][:2], "time": 0.6}, "2 images for 4 cameras"),
        (
            {"images": [image[:, :5] for image in MOMENTS[1]], "time": 0.6},
            r"uint8 \[16, 5, 3\], expected",
        ),
    ]:
        with pytest.raises(UsageError, match=message):
            made.push(**arguments)  # type: ignore[arg-type]
    with pytest.raises(CaptureError, match="masked"):
        made.push(MOMENTS[1], time=0.6, masks=[np.zeros((16, 20), bool)] * 4)
    assert len(out.getvalue()) == size
    with pytest.raises(CaptureError, match="at least 2"):
        Encoder(io.BytesIO(), RIG[:2], small(), fps=Fraction(10))


def test_settings_survive_the_file() -> None:
    for name in PRESETS:
        settings = resolve(name, seed=3, key_every=7)
        assert Settings.from_dict(settings.to_dict()) == settings


def test_options_take_the_place_of_what_the_preset_says() -> None:
    settings = resolve("slow", seconds_per_frame=1.5, key_seconds=9, warmup=4, threads=1)
    assert (settings.delta.budget.seconds, settings.key.budget.seconds) == (1.5, 9)
    assert (settings.warmup, settings.threads) == (4, 1)
    assert resolve("fast", steps=7, key_seconds=2).key.budget == Budget(seconds=2, steps=7)
    assert resolve("fast", profile="nerf").networks[0]["profile"] == "nerf"
    for bad in ({"preset": "best"}, {"profile": "splats"}, {"steps": 0}, {"seconds_per_frame": -1.0}):
        with pytest.raises(UsageError):
            resolve(**bad)  # type: ignore[arg-type]


def test_estimates_grow_with_frames_and_keyframes() -> None:
    rate = Fraction(10)
    few, many = (estimate(resolve("fast"), frames, rate) for frames in (4, 40))
    keys = estimate(resolve("fast", key_every=2), 40, rate)
    assert few.bytes < many.bytes < keys.bytes
    assert few.seconds is None, "nothing is known of the machine"


def test_times_follow_from_steps_limits_and_the_speed_of_the_machine() -> None:
    speeds: dict[Kind, Speed | None] = {"key": Speed(0.5, 4), "delta": Speed(0.25, 1)}
    found = estimate(resolve(steps=100), 11, Fraction(10), speeds)
    assert (found.key, found.later, found.seconds) == (54, 26, 54 + 10 * 26)
    limited = estimate(resolve(steps=100, key_seconds=20, seconds_per_frame=90), 1, Fraction(10), speeds)
    assert (limited.key, limited.later, limited.seconds) == (24, 26, 24)
    assert estimate(resolve(steps=100), 3, Fraction(10), {"key": speeds["key"], "delta": None}).seconds is None


def test_quality_sets_prices_and_steps_together() -> None:
    plain, better = resolve("fast"), resolve("fast", quality=80)
    assert better.delta.price == pytest.approx(plain.delta.price / 8)
    assert better.key.price == pytest.approx(plain.key.price / 8)
    assert better.fine_step == pytest.approx(plain.fine_step / 2)
    assert better.at_quality(50).fine_step == pytest.approx(plain.fine_step)
    with pytest.raises(UsageError, match="quality: 101 is not between 0 and 100"):
        resolve("fast", quality=101)


def test_small_mlps_have_their_own_recipe_and_the_published_ones_keep_theirs() -> None:
    small, better = resolve("fast", profile="nerf"), resolve("fast", profile="nerf", quality=70)
    paper = resolve("paper")
    assert small.delta.mixed
    # After the first later frame, structure alone is trained.
    assert (small.warmup, paper.warmup) == (1, 30)
    assert better.delta.price < small.delta.price
    assert better.fine_step < small.fine_step
    for schedule in (paper.key, paper.warm, paper.delta):
        assert (schedule.rays, schedule.lead_rate, schedule.price, schedule.mixed) == (1024, 5e-4, 0, False)
        assert schedule.budget == Budget(steps=10_000)
    assert paper.fine_step == 1
    assert resolve("paper", profile="nerf") == paper
    # Without a price every weight changes.
    assert usual_bytes(paper)[1] > 20 * usual_bytes(small)[1]


def test_a_bit_rate_is_shared_among_the_frames_that_will_come() -> None:
    settings = small(target=Target(bitrate=400_000))
    flows = []
    for pace in (None, Fraction(1), Fraction(100)):
        made = Encoder(io.BytesIO(), RIG, settings, fps=Fraction(10), pace=pace)
        assert isinstance(made._rate._account, Bucket)
        flows.append(made._rate._account._flow)
    assert flows == pytest.approx([5_000, 50_000, 5_000], rel=0.01)


def test_ctrl_c_in_the_call_of_a_compiled_function_is_still_ctrl_c() -> None:
    # What CPython raises where functions return although an exception is pending.
    inner = SystemError("returned a result with an exception set")
    inner.__cause__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), plain_interrupts():
        raise SystemError("returned a result with an exception set") from inner
    with pytest.raises(SystemError), plain_interrupts():
        raise SystemError("something else")


def test_an_encoder_writes_a_file_by_its_path_and_completes_it_with_its_context(tmp_path: Path) -> None:
    path = tmp_path / "out.inv"
    with Encoder(path, RIG, small(), fps=10) as made:
        assert not path.exists(), "there is no frame yet"
        made.push(MOMENTS[0], time=0)
        with invcodec.open(path) as so_far:
            assert (so_far.status, len(so_far.frames)) == ("open", 1)
        made.push(MOMENTS[1], time=Fraction(1, 10))
    with invcodec.open(path) as video:
        assert (video.status, len(video.frames), video.head.frame_rate) == ("complete", 2, 10)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="already exists"):
        Encoder(path, RIG, small())


def test_an_exception_leaves_the_finished_frames_and_an_incomplete_file(tmp_path: Path) -> None:
    path = tmp_path / "out.inv"
    with pytest.raises(RuntimeError, match="the camera fell over"):
        _encode_and_fail(path, after=1)
    with invcodec.open(path) as video:
        assert (video.status, len(video.frames)) == ("incomplete", 1)
    other = tmp_path / "other.inv"
    other.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the camera fell over"):
        _encode_and_fail(other, after=0)
    assert other.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other.inv", "out.inv"]


def _encode_and_fail(path: Path, *, after: int) -> None:
    with Encoder(path, RIG, small(), fps=10, force=True) as made:
        for index in range(after):
            made.push(MOMENTS[index], time=Fraction(index, 10))
        raise RuntimeError("the camera fell over")


def test_what_no_decoder_would_accept_is_refused_before_training() -> None:
    twins = [RIG[0], RIG[1], replace(RIG[2], name=RIG[1].name), RIG[3]]
    for arguments, part in [
        ({"cameras": twins}, "same name"),
        ({"fps": 0}, "not positive"),
        ({"downscale": 5000}, "downscale"),
    ]:
        given: dict[str, Any] = {"cameras": RIG, "fps": 10, **arguments}
        with pytest.raises(UsageError, match=part):
            Encoder(io.BytesIO(), given.pop("cameras"), small(), **given)


def test_images_and_times_that_do_not_fit_are_refused() -> None:
    made = encoder(io.BytesIO())
    made.push(MOMENTS[0], time=0)
    wrong = [
        [image.astype(np.float32) / 255 for image in MOMENTS[1]],
        [np.dstack([image, image[..., 0]]) for image in MOMENTS[1]],
        [image[..., 0] for image in MOMENTS[1]],
        [image[:-1] for image in MOMENTS[1]],
    ]
    for images in wrong:
        with pytest.raises(UsageError, match=r"expected uint8 \[16, 20, 3\]"):
            made.push(images, time=0.1)
    for time, number in ((2**60, None), (0.1, 2**70), (math.nan, None), (math.inf, None)):
        with pytest.raises(UsageError, match="out of range"):
            made.push(MOMENTS[1], time=time, number=number)
    assert made.push(MOMENTS[1], time=0.1).number == 1


class _Abandoned(Progress):
    """Raises in the middle of training a frame."""

    def __init__(self, number: int) -> None:
        self._number, self._now = number, -1

    def frame_started(self, number: int, stage: str) -> None:
        self._now = number

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        if self._now == self._number and fraction > 0.5:
            raise KeyboardInterrupt


class _FullDisk(io.BytesIO):
    """Takes half of what is written while it is full."""

    full = False

    def write(self, data: Any) -> int:
        if self.full:
            super().write(data[: len(data) // 2])
            raise OSError("no space")
        return super().write(data)


@pytest.mark.parametrize("how", ["training", "writing"])
@pytest.mark.parametrize("abandoned", [0, 1])
def test_a_frame_that_was_abandoned_leaves_no_trace(abandoned: int, how: str, tmp_path: Path) -> None:
    files = []
    settings = small(key_every=2)
    for attempted in (False, True):
        out = _FullDisk()
        progress = _Abandoned(10 * abandoned) if attempted and how == "training" else None
        with Encoder(out, RIG, settings, fps=10, progress=progress) as made:
            for index in range(3):
                if attempted and index == abandoned:
                    out.full = how == "writing"
                    with pytest.raises((KeyboardInterrupt, OSError)):
                        made.push(MOMENTS[3], time=Fraction(2 * index + 1, 20), number=10 * index)
                    out.full = False
                    if progress:
                        progress._number = -1
                made.push(MOMENTS[index], time=Fraction(index + 1, 10), number=10 * index + 1)
        files.append(written(out, tmp_path).rename(tmp_path / f"{attempted}.inv"))
    assert verify(files[1]).problems == []
    with invcodec.open(files[0]) as plain, invcodec.open(files[1]) as resumed:
        assert [entry.kind for entry in resumed.frames] == [entry.kind for entry in plain.frames]
        for ours, theirs in zip(plain, resumed, strict=True):
            for name, weights in ours.weights().items():
                np.testing.assert_array_equal(theirs.weights()[name], weights)


@given(
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(1, 12)),
    st.sets(st.integers(1, 39)),
    st.integers(0, 39),
    st.booleans(),
)
def test_keyframes_are_due_as_many_frames_after_the_last_one_and_are_counted_ahead(
    frames: int, key_every: int | None, cuts: set[int], now: int, refreshes: bool
) -> None:
    planner = Planner(1, key_every, refreshes, Fraction(1, 10))
    keys, ahead = [], None
    for number in range(frames):
        cut = number in cuts and number < now
        hurried = number % 3 == 0
        plan = planner.plan(None, Fraction(number, 10), number, None, cut=cut, hurried=hurried)
        since = number - keys[-1] if keys else 0
        if number == now:
            ahead = keyframes_among(frames - number, key_every, since)
        assert plan.key == (cut or not keys or since == key_every)
        assert (plan.stage == "key") == (cut or number == 0)
        assert (plan.stage == "refresh") == (plan.key and plan.stage != "key" and refreshes and not hurried)
        if plan.key:
            keys.append(number)
        planner.observe(plan.key, Stats(plan.stage, 1, 3000))
    assert ahead is None or ahead == sum(number >= now for number in keys)


def test_the_interval_of_keyframes_is_given_or_usual_and_0_is_for_none() -> None:
    assert resolve().key_every == DEFAULT_KEY_EVERY
    assert resolve(key_every=7).key_every == 7
    assert resolve(key_every=0).key_every is None

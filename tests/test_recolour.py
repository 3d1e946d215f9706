"""`invcodec recolour`: looks are what they say, shapes stay, and all frames of a scene take the look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from invcodec.coding.chain import StateReader
from invcodec.decoding.video import Video
from invcodec.editing.look import adjusted, matching
from invcodec.editing.verify import verify
from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.metrics import psnr

SOME = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)


def test_hue_saturation_and_brightness() -> None:
    np.testing.assert_array_equal(adjusted().apply(SOME), SOME)
    # A third of a turn exchanges the channels: what was red is green.
    np.testing.assert_array_equal(adjusted(hue=120).apply(SOME), SOME[:, [2, 0, 1]])
    np.testing.assert_array_equal(adjusted(hue=120).then(adjusted(hue=-120)).apply(SOME), SOME)
    grey = adjusted(saturation=0).apply(SOME)
    assert (np.ptp(grey.astype(int), axis=1) == 0).all()
    np.testing.assert_allclose(grey[:, 0], SOME @ [0.2126, 0.7152, 0.0722], atol=0.51)
    np.testing.assert_allclose(adjusted(brightness=0.5).apply(SOME), SOME / 2, atol=0.51)
    assert adjusted(brightness=9).apply(SOME).max() == 255


def test_a_match_has_the_mean_and_covariance_of_the_other_picture() -> None:
    other = (60 + 0.3 * SOME @ [[1, 0.2, 0], [0, 0.7, 0.1], [0, 0.3, 0.4]]).astype(np.uint8)
    found = matching(SOME, other).apply(SOME)
    np.testing.assert_allclose(found.mean(0), other.mean(0), atol=0.5)
    np.testing.assert_allclose(np.cov(found.T), np.cov(other.T), atol=8)
    # A picture of one colour, and one that has it.
    plain = np.full((9, 3), 100, np.uint8)
    assert np.abs(matching(SOME, plain).apply(SOME).astype(int) - 100).max() <= 1
    np.testing.assert_array_equal(matching(plain, plain).apply(plain), plain)


def test_density_does_not_depend_on_what_is_trained() -> None:
    torch = pytest.importorskip("torch")
    for profile in (GridProfile(resolutions=(4, 6)), NerfProfile(depth=3, width=8, structure_layers=1)):
        weights = {name: torch.tensor(w) for name, w in profile.initialise(np.random.default_rng(0)).items()}
        points, views = torch.rand(20, 3), torch.nn.functional.normalize(torch.rand(20, 3), dim=1)
        before = profile.density(weights, points, views)[0]
        for name in profile.shading:
            weights[name] = weights[name] + 1
        assert torch.equal(profile.density(weights, points, views)[0], before)
        # There is nothing else that could be trained.
        for name in weights.keys() - profile.shading - {"occupancy"}:
            other = weights | {name: weights[name] + 1}
            assert not torch.equal(profile.density(other, points, views)[0], before), name


def test_all_frames_take_the_look_and_keep_their_shapes(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    green = tmp_path / "green.inv"
    done = cli("recolour", encoded, "--hue", 120, "--steps", 150, "-o", green, "--threads", 2)
    assert (done.code, done.err) == (0, "")
    assert "look learned from frame 1: " in done.out
    assert verify(green).sound
    with Video(encoded, threads=2) as before, Video(green, threads=2) as after:
        for number in (1, 2, 3):
            old, new = (video[number].render("cam00") for video in (before, after))
            np.testing.assert_array_equal(new.depth, old.depth)
            wanted = old.rgb[..., [2, 0, 1]]
            assert psnr(new.rgb, wanted) > max(27, psnr(old.rgb, wanted) + 8)
    with StateReader(encoded) as before, StateReader(green) as after:
        assert [(e.number, e.time, e.kind) for e in after.frames] == [(e.number, e.time, e.kind) for e in before.frames]
        colour = GridProfile().shading
        for number in (1, 2, 3):
            old, new = before.state_at(number), after.state_at(number)
            for key, levels in old.levels.items():
                if key[1] not in colour:
                    np.testing.assert_array_equal(new.levels[key], levels)
    # What was recoloured comes from the same encode, so it can be mixed.
    mixed = tmp_path / "mixed.inv"
    assert cli("mix", green, encoded, "-o", mixed).code == 0
    with StateReader(encoded) as before, StateReader(mixed) as after:
        assert all(after.state_at(n).digest() == before.state_at(n).digest() for n in (2, 3))


def test_progress_counts_the_steps_of_all_keyframes(
    cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, steps = [], []

    @contextmanager
    def counted(what: str, total: int) -> Iterator[Callable[[], None]]:
        totals.append(total)
        yield lambda: steps.append(1)

    monkeypatch.setattr("invcodec_cli.progress.counted", counted)
    assert cli("recolour", encoded, "--hue", 9, "--steps", 2, "-o", tmp_path / "out.inv", "--threads", 1).code == 0
    assert totals == [len(steps)] == [4]


def test_the_colours_of_a_picture(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray((40 + 0.3 * SOME.reshape(20, 25, 3)).astype(np.uint8)).save(picture)
    dark = tmp_path / "dark.inv"
    assert cli("recolour", encoded, "--from", picture, "-o", dark, "--threads", 2).code == 0
    wanted = np.asarray(Image.open(picture)).reshape(-1, 3)
    with Video(dark, threads=2) as video:
        found = np.concatenate([video[1].render(camera).rgb.reshape(-1, 3) for camera in video.cameras[1:]])
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=4)
    np.testing.assert_allclose(found.std(0), wanted.std(0), atol=5)


def test_bad_input_gets_one_line(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.inv"
    for given, said in (
        ((encoded,), "nothing to do; give --from, --hue, --saturation or --brightness"),
        ((encoded, "--from", tmp_path / "none.png"), "no such image"),
        ((tmp_path / "none.inv", "--hue", 9), "none.inv"),
    ):
        done = cli("recolour", *given, "-o", out)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert said in done.err
        assert not out.exists()

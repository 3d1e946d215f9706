"""Cameras that lack pictures of some frames: a gap is that camera's, and the others go on."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, command
from files import a_camera, save_video

import invcodec
from invcodec.capture.capture import open_capture
from invcodec.errors import CaptureError
from invcodec.geometry.fitting import choose_space
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.trace import render
from invcodec.training.change import ChangeFinder
from invcodec.training.pixels import FramePixels, Views, held


def without(capture: Path, folder: Path, *gaps: tuple[str, int]) -> Path:
    """The shared capture without the pictures of some cameras at some frames."""
    shutil.copytree(capture, folder)
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    data["frames"] = [row for row in data["frames"] if (row["camera"], row["frame_index"]) not in gaps]
    path.write_text(json.dumps(data))
    return folder


GAPS = {("cam00", 1), ("cam02", 0), ("cam03", 2)}


@pytest.fixture(scope="module")
def gappy(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gap of a held-out camera, one in the first frame, and one later."""
    return without(capture, tmp_path_factory.mktemp("gaps") / "gappy", *GAPS)


@pytest.fixture(scope="module")
def gappy_file(gappy: Path) -> Path:
    """Its encoding."""
    path = gappy.parent / "whole.inv"
    command("encode", gappy, path, "--steps", 3, "--threads", 1)
    return path


@pytest.mark.filterwarnings("ignore::invcodec.errors.InvWarning")
def test_frames_have_no_image_of_a_camera_where_it_has_a_gap(capture: Path, gappy: Path) -> None:
    opened, whole = open_capture(gappy), open_capture(capture)
    names = [camera.name for camera in opened.cameras]
    assert opened.numbers == range(4)
    assert {(name, n) for name, gaps in zip(names, opened.gaps, strict=True) for n in gaps} == GAPS
    for frame, expected in zip(opened.frames(), whole.frames(), strict=True):
        for name, image, mask, there in zip(names, frame.images, frame.masks, expected.images, strict=True):
            if (name, frame.number) in GAPS:
                assert image is None
                assert mask is None
            else:
                np.testing.assert_array_equal(image, there)


def test_inspect_counts_gaps(cli: Cli, gappy: Path) -> None:
    result = cli("inspect", gappy, "--frames", "0:2", "--json")
    cameras = {camera["name"]: camera for camera in json.loads(result.out)["cameras"]}
    assert {name: camera["gaps"] for name, camera in cameras.items() if camera["gaps"]} == {"cam00": 1, "cam02": 1}
    assert cameras["cam03"]["frames"] == 3
    assert result.err.count("\n") == 1
    assert "images are missing: cam00 1, cam02 1 of 2" in result.err
    assert "1 missing" in cli("inspect", gappy).out


def test_an_encode_goes_on_over_gaps_and_eval_leaves_them_out(cli: Cli, gappy: Path, gappy_file: Path) -> None:
    options = ("--camera", "cam00", "--camera", "cam02", "--validation", "--json")
    found = json.loads(cli("eval", gappy_file, gappy, *options).out)
    known = [{name for name, each in frame["cameras"].items() if each["psnr"]} for frame in found["frames"]]
    assert known == [{"cam00"}, {"cam02"}, {"cam00", "cam02"}, {"cam00", "cam02"}]
    assert found["mean"]["images"] == 6
    # The encoder measured the same pixels, and found the same ones changed.
    for row in found["validation"]:
        assert row["psnr"] == pytest.approx(row["stored"], abs=0.01)
        assert (row["psnr_moving"] is None) == (row["stored_moving"] is None)
        if row["psnr_moving"] is not None:
            assert row["psnr_moving"] == pytest.approx(row["stored_moving"], abs=0.01)


def test_report_shows_the_pictures_that_there_are(cli: Cli, gappy: Path, gappy_file: Path, tmp_path: Path) -> None:
    assert cli("report", gappy_file, gappy, "-o", tmp_path / "report.html", "--threads", 1).code == 0
    page = (tmp_path / "report.html").read_text()
    # Of cam00 and three training cameras, in up to three frames, of which some lack one.
    assert page.count("data:image/webp") % 3 == 0
    assert page.count("data:image/webp") >= 3 * 4


def test_an_encode_resumed_at_a_gap_goes_on_as_before(cli: Cli, gappy: Path, gappy_file: Path, tmp_path: Path) -> None:
    part, whole = tmp_path / "part.inv", gappy_file.read_bytes()
    with invcodec.open(gappy_file) as video:
        part.write_bytes(whole[: video.frames[3].entry.offset])
    assert cli("encode", gappy, part, "--resume").code == 0
    assert part.read_bytes() == whole


def test_a_frame_that_no_camera_to_train_on_has_is_refused(capture: Path, tmp_path: Path) -> None:
    names = [camera.name for camera in open_capture(capture).cameras if not camera.held_out]
    folder = without(capture, tmp_path / "none", *((name, 2) for name in names))
    with pytest.raises(CaptureError, match="no camera to train on has an image of frame 2; leave it out with --frames"):
        open_capture(folder)
    assert open_capture(folder, frames=(0, 2)).numbers == range(2)


def test_a_camera_that_lacks_many_frames_is_refused(capture: Path, tmp_path: Path) -> None:
    folder = without(capture, tmp_path / "apart", ("cam02", 0), ("cam02", 3))
    with pytest.raises(CaptureError, match="'cam02' has only 2 of the frames 0:4"):
        open_capture(folder)


def test_numbers_far_apart_are_not_listed(capture: Path, tmp_path: Path) -> None:
    folder = without(capture, tmp_path / "far")
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    data["frames"][0]["frame_index"] = 10**12
    path.write_text(json.dumps(data))
    with pytest.raises(CaptureError, match="has only 4 of the frames 0:1000000000001"):
        open_capture(folder)


def test_a_listed_picture_that_is_not_there_is_no_gap(capture: Path, tmp_path: Path) -> None:
    folder = without(capture, tmp_path / "lost")
    (folder / "frames" / "cam02" / "0001.png").unlink()
    with pytest.raises(CaptureError, match=r"cam02/0001\.png: no such image"):
        open_capture(folder)


def test_an_image_that_is_missing_is_held() -> None:
    cameras = [a_camera("a", 4, 3), a_camera("b", 5, 2)]
    images = [np.full((3, 4, 3), 7, np.uint8), np.full((2, 5, 3), 9, np.uint8)]
    first = held([None, images[1]], None, cameras, 3)
    assert [image.shape for image in first] == [(3, 4, 3), (2, 5, 3)]
    assert not first[0].any()
    second = held([images[0], None], first, cameras, 3)
    assert [int(image.max()) for image in second] == [7, 9]


def test_a_change_is_found_by_the_cameras_that_have_pictures() -> None:
    cameras = synthetic_rig(4, (24, 18))
    space = choose_space(cameras)
    first, second = ([render(camera, "moving", time, 1.0) for camera in cameras] for time in (0.0, 0.2))
    hulls = []
    for chosen, images, masks in (
        (cameras, [first[0], *second[1:]], [np.zeros((18, 24), bool), None, None, None]),
        (cameras[1:], second[1:], [None] * 3),
    ):
        views = Views(chosen, space)
        before = FramePixels.gather(first[-len(chosen) :], [None] * len(chosen), views.validation)
        now = ChangeFinder(views, 16).find(FramePixels.gather(images, masks, views.validation), before)
        hulls.append(now.hull)
        assert now.changed_mask is not None
        assert not now.changed_mask[: views.offsets[len(chosen) - 3]].any()
    assert hulls[0].any()
    np.testing.assert_array_equal(*hulls)


def test_cameras_of_differing_sizes_and_rates_film_one_scene(cli: Cli, tmp_path: Path) -> None:
    rows = []
    kinds = [(1, 10), (2, 10), (1.5, 25), (1, Fraction(30000, 1001))]
    for camera, (scale, rate) in zip(synthetic_rig(4, (24, 18)), kinds, strict=True):
        camera = camera.scaled(round(24 * scale), round(18 * scale))
        # All film for 0.4 s; brightness tells the time.
        times = [float(number / rate) for number in range(round(0.4 * rate))]
        frames = [np.full((camera.height, camera.width, 3), round(20 + 500 * time), np.uint8) for time in times]
        save_video(tmp_path / f"{camera.name}.mp4", frames, rate, crf=4)
        row = {"name": camera.name, "video": f"{camera.name}.mp4", "w": camera.width, "h": camera.height}
        row |= {"fl_x": camera.fx, "near": camera.near, "far": camera.far}
        rows.append({**row, "transform_matrix": [*camera.pose.tolist(), [0, 0, 0, 1]]})
    (tmp_path / "transforms.json").write_text(json.dumps({"cameras": rows}))
    result = cli("inspect", tmp_path)
    assert "frames    0 to 3 (4 of 4), 10 fps" in result.out
    assert "images    24x18 to 48x36" in result.out
    assert result.err == ""
    for frame in open_capture(tmp_path).frames():
        for image in frame.images:
            # The nearest frame of 25 per second is up to 20 ms away.
            assert image is not None
            assert abs(image.mean() - 20 - 50 * frame.number) < 13
    out = tmp_path / "out.inv"
    assert cli("encode", tmp_path, out, "--frames", "0:2", "--steps", 3, "--threads", 1).code == 0
    found = json.loads(cli("eval", out, tmp_path, "--validation", "--json").out)
    assert found["mean"]["images"] == 8
    assert all(row["psnr"] == pytest.approx(row["stored"], abs=0.01) for row in found["validation"])

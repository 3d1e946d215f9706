"""Captures: both layouts, how little is read and how late, and every kind of fault."""

import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from files import PATIENCE, save_video
from PIL import Image

from invcodec.capture import capture as capture_module
from invcodec.capture.capture import Capture, open_capture
from invcodec.capture.image import area_downscale, read_image
from invcodec.capture.layouts import n3dv
from invcodec.encoding import presets
from invcodec.encoding.summary import summarise
from invcodec.errors import CaptureError, InvWarning
from invcodec.geometry import camera_json
from invcodec.geometry.camera import Camera
from invcodec.metrics import psnr
from invcodec.synth.write import write_synthetic

NAMES = ["cam00", "cam01", "cam02", "cam03"]
EYE = np.eye(4).tolist()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture") / "images"
    write_synthetic(folder, cameras=4, size=(24, 18), frames=3)
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture") / "videos"
    write_synthetic(folder, cameras=4, size=(24, 18), frames=3, layout="n3dv")
    return folder


def edited(source: Path, target: Path, edit: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    """A copy of an image capture with another transforms.json."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    path = target / "transforms.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return target


def of(data: dict[str, Any], camera: str) -> list[dict[str, Any]]:
    return [row for row in data["frames"] if row["camera"] == camera]


def refused(folder: Path, *words: str, **options: Any) -> str:
    """The one-line message that refuses a capture; it contains all these words."""
    with pytest.raises(CaptureError) as caught:
        open_capture(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def fails_late(folder: Path, *words: str) -> None:
    """Assert a fault that is found only when the pictures are read."""
    capture = open_capture(folder)
    with pytest.raises(CaptureError) as caught:
        list(capture.frames())
    for word in words:
        assert word in str(caught.value)


def small_rig(folder: Path, **extra: Any) -> Path:
    """Two cameras of 16x12, frames 0 and 1, written by hand; `extra` goes to the top of transforms.json."""
    frames = []
    for camera in ("left", "right"):
        (folder / camera).mkdir(parents=True)
        for number in range(2):
            image = np.full((12, 16, 3), 40 + 50 * number + (9 if camera == "right" else 0), np.uint8)
            Image.fromarray(image).save(folder / camera / f"{number}.png")
            frames.append({"file_path": f"{camera}/{number}.png", "frame_index": number})
    data = {"fl_x": 15, "transform_matrix": EYE, "frames": frames, **extra}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def llff(pose: np.ndarray, width: int = 16, height: int = 16) -> np.ndarray:
    """A row of poses_bounds.npy, built element by element."""
    right, up, back, position = pose.T
    last = (height, width, 20.0)
    rows = [[-up[i], right[i], back[i], position[i], last[i]] for i in range(3)]
    return np.array([*sum(rows, []), 1.0, 9.0])  # noqa: RUF017


def video_rig(folder: Path, *shapes: tuple[int, int, int, int]) -> Path:
    """Videos of (frames, width, height, rate) with poses_bounds.npy for 16x16."""
    folder.mkdir(exist_ok=True)
    for index, (count, width, height, rate) in enumerate(shapes):
        frames = (np.full((height, width, 3), 20 * n, np.uint8) for n in range(count))
        save_video(folder / f"cam{index}.mp4", frames, rate)
    np.save(folder / "poses_bounds.npy", np.stack([llff(np.eye(4)[:3])] * len(shapes)))
    return folder


# Valid captures.


def test_both_layouts_of_a_scene_agree(images: Path, videos: Path) -> None:
    a, b = open_capture(images), open_capture(videos)
    assert (a.layout, a.source, b.layout, b.source) == ("transforms", "images", "n3dv", "videos")
    assert a.fps == b.fps == 10
    assert a.numbers == b.numbers == a.available == range(3)
    assert a.source_size == b.source_size == (24, 18)
    # Only transforms.json can mark test cameras.
    assert (a.training, b.training) == ([1, 2, 3], [0, 1, 2, 3])
    for one, other in zip(a.cameras, b.cameras, strict=True):
        np.testing.assert_allclose(one.pose, other.pose, atol=1e-12)
        first, second = one.to_dict(), other.to_dict()
        for key in ("name", "width", "height", "fl_x", "fl_y", "cx", "cy", "near", "far", "k1", "k2", "p1", "p2"):
            assert first[key] == pytest.approx(second[key])
    frames = list(zip(a.frames(), b.frames(), strict=True))
    assert len(frames) == 3
    for one, other in frames:
        assert (one.number, one.time) == (other.number, other.time)
        assert one.masks == other.masks == [None] * 4
        for first, second in zip(one.images, other.images, strict=True):
            assert psnr(first, second) > 33
        # The videos are lossy, but closest to their own pictures.
        cross = [[psnr(i, j) for j in other.images] for i in one.images]
        assert np.argmax(cross, 1).tolist() == [0, 1, 2, 3]


def test_frames_are_those_on_disk_at_exact_times(images: Path) -> None:
    frames = list(open_capture(images).frames())
    assert [(f.number, f.time) for f in frames] == [(0, 0), (1, Fraction(1, 10)), (2, Fraction(1, 5))]
    for frame in frames:
        for name, image in zip(NAMES, frame.images, strict=True):
            np.testing.assert_array_equal(image, read_image(images / "frames" / name / f"{frame.number:04d}.png"))


@pytest.mark.parametrize("layout", ["images", "videos"])
def test_frames_from_a_later_one_on(layout: str, images: Path, videos: Path) -> None:
    capture = open_capture(images if layout == "images" else videos)
    whole = list(capture.frames())
    for start in (1, 2):
        later = list(capture.frames(start))
        assert [f.number for f in later] == list(range(start, 3))
        for frame in later:
            for one, other in zip(frame.images, whole[frame.number].images, strict=True):
                np.testing.assert_array_equal(one, other)
    assert list(capture.frames(3)) == []


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, (0, 3)),
        ((None, None), (0, 3)),
        ((1, None), (1, 3)),
        ((None, 2), (0, 2)),
        ((1, 2), (1, 2)),
        ((2, 99), (2, 3)),
    ],
)
def test_frame_ranges(images: Path, asked: tuple[int | None, int | None] | None, given: tuple[int, int]) -> None:
    capture = open_capture(images, frames=asked)
    assert capture.numbers == range(*given)
    assert capture.available == range(3)
    assert [frame.number for frame in capture.frames()] == list(range(*given))
    assert next(capture.frames()).time == Fraction(given[0], 10)


@pytest.mark.parametrize("asked", [(3, None), (2, 2), (2, 1), (-1, 2), (0, 0)])
def test_empty_frame_ranges(images: Path, asked: tuple[int, int | None]) -> None:
    refused(images, str(images), f"no frames {asked[0]}:", "it has frames 0:3", frames=asked)


def test_holdout_replaces_what_the_capture_marks(images: Path) -> None:
    capture = open_capture(images, holdout=["cam03", "cam01"])
    assert [c.name for c in capture.cameras if c.held_out] == ["cam01", "cam03"]
    assert capture.training == [0, 2]
    assert open_capture(images, holdout=[]).training == [0, 1, 2, 3]
    refused(images, "no camera 'cam9' to hold out", "cam00, cam01, cam02, cam03", holdout=["cam9"])
    refused(images, "1 camera(s) left to train on", "at least 2", holdout=["cam00", "cam01", "cam02"])


def test_test_cameras_by_list(images: Path, tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["test_cameras"] = ["cam02"]
        for row in data["cameras"]:
            del row["split"]

    assert open_capture(edited(images, tmp_path, edit)).training == [0, 1, 3]


def test_downscaled_cameras_see_the_same_directions(images: Path) -> None:
    whole, half = open_capture(images), open_capture(images, downscale=2)
    assert half.source_size == (24, 18)
    assert [(c.width, c.height) for c in half.cameras] == [(12, 9)] * 4
    points = np.array([[0.5, 0.5], [3.0, 7.0], [12.0, 9.0]])
    for one, other in zip(whole.cameras, half.cameras, strict=True):
        np.testing.assert_allclose(other.rays(points)[1], one.rays(2 * points)[1], atol=1e-12)
        assert (other.near, other.far, other.held_out) == (one.near, one.far, one.held_out)
    for one, other in zip(next(whole.frames()).images, next(half.frames()).images, strict=True):
        np.testing.assert_array_equal(other, area_downscale(one, 2))


def test_downscaling_by_a_factor_that_does_not_divide_cuts_and_does_not_stretch(tmp_path: Path) -> None:
    folder = tmp_path / "uneven"
    write_synthetic(folder, cameras=3, size=(29, 27), frames=1)
    whole, third = open_capture(folder), open_capture(folder, downscale=3)
    assert (third.cameras[1].width, third.cameras[1].height) == (9, 9)
    points = np.array([[9.0, 9.0], [4.0, 1.0]])
    np.testing.assert_allclose(third.cameras[1].rays(points)[1], whole.cameras[1].rays(3 * points)[1], atol=1e-12)
    assert next(third.frames()).images[1].shape == (9, 9, 3)


@pytest.mark.parametrize(("factor", "words"), [(0, "cannot downscale by 0"), (-2, "by -2"), (3, "fewer than 8 pixels")])
def test_downscaling_too_far(images: Path, factor: int, words: str) -> None:
    refused(images, words, downscale=factor)


def test_the_fingerprint_changes_with_cameras_and_pixels_alone(images: Path, tmp_path: Path) -> None:
    first = open_capture(images).fingerprint()
    assert len(first) == 16
    same = edited(images, tmp_path / "same")
    assert open_capture(same).fingerprint() == first
    assert open_capture(same, frames=(1, None)).fingerprint() == first
    assert open_capture(same, downscale=2).fingerprint() != first
    assert open_capture(same, holdout=["cam01"]).fingerprint() != first

    def move(data: dict[str, Any]) -> None:
        data["cameras"][3]["transform_matrix"][0][3] += 1e-6

    def blur(data: dict[str, Any]) -> None:
        data["cameras"][3]["k1"] = 1e-6

    for index, edit in enumerate((move, blur)):
        assert open_capture(edited(images, tmp_path / f"edit{index}", edit)).fingerprint() != first
    path = same / "frames" / "cam03" / "0000.png"
    pixels = read_image(path).copy()
    pixels[17, 23, 2] ^= 1
    Image.fromarray(pixels).save(path)
    assert open_capture(same).fingerprint() != first


def test_summaries_are_correct_and_plain_data(images: Path) -> None:
    capture = open_capture(images, frames=(1, None), downscale=2)
    summary = json.loads(json.dumps(summarise(capture, presets.resolve())))
    assert (summary["layout"], summary["source"], summary["transparent"]) == ("transforms", "images", False)
    assert (summary["frames"], summary["available"], summary["frame_rate"]) == ([1, 3], [0, 3], [10, 1])
    assert (summary["source_size"], summary["downscale"], summary["held_out"]) == ([24, 18], 2, ["cam00"])
    assert [row["name"] for row in summary["cameras"]] == NAMES
    row = summary["cameras"][2]
    assert (row["width"], row["frames"], row["masks"]) == (12, 3, 0)
    assert row["files"] == str(images / "frames" / "cam02" / "0000.png")
    assert summary["encode"]["bytes"] > 0


# Lazy reading.


def test_opening_reads_no_picture_but_the_first(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(capture_module, "read_image", lambda path: read.append(path) or read_image(path))
    capture = open_capture(images)
    assert len(read) <= 1
    read.clear()
    frames = capture.frames()
    assert read == []
    next(frames)
    frames.close()
    # Frame 0, which is first searched for borders, and the one that is read ahead.
    assert {path.stem for path in read} <= {"0000", "0001"}
    assert sum(path.stem == "0000" for path in read) == 2 * 4


@pytest.mark.parametrize("layout", ["images", "videos"])
def test_reading_frames_can_stop_at_any_time(layout: str, images: Path, videos: Path) -> None:
    before = set(threading.enumerate())
    frames = open_capture(images if layout == "images" else videos).frames()
    next(frames)
    frames.close()
    # Threads take a moment to notice their end.
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert list(frames) == []


def test_a_broken_picture_fails_only_from_its_own_frame_on(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path)
    broken = folder / "frames" / "cam02" / "0002.png"
    broken.write_bytes(broken.read_bytes()[:150])
    frames = open_capture(folder).frames()
    assert next(frames).number == 0
    frames.close()
    frames = open_capture(folder).frames()
    assert [next(frames).number, next(frames).number] == [0, 1]
    with pytest.raises(CaptureError, match=r"cam02/0002\.png: cannot be read as an image"):
        next(frames)


# Alpha and masks.


def test_alpha_is_kept_and_missing_alpha_is_opaque(tmp_path: Path) -> None:
    folder = small_rig(tmp_path)
    rgba = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(folder / "left" / "0.png")
    capture = open_capture(folder)
    assert capture.transparent
    first, second = capture.frames()
    np.testing.assert_array_equal(first.images[0], rgba)
    for image in (first.images[1], *second.images):
        assert image.shape == (12, 16, 4)
        assert (image[..., 3] == 255).all()
    assert (second.images[0][..., :3] == 90).all()


def test_alpha_in_only_some_pictures_is_noticed(tmp_path: Path) -> None:
    folder = small_rig(tmp_path)
    Image.fromarray(np.full((12, 16, 4), 99, np.uint8)).save(folder / "right" / "0.png")
    capture = open_capture(folder)
    channels = {image.shape[2] for frame in capture.frames() for image in frame.images}
    assert channels == ({4} if capture.transparent else {3})


def test_masks_for_each_picture(tmp_path: Path) -> None:
    folder = small_rig(tmp_path)
    mask = np.full((12, 16), 255, np.uint8)
    mask[:3, :6] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    data = json.loads((folder / "transforms.json").read_text())
    data["frames"][1]["mask_path"] = "mask.png"
    data["frames"][2]["mask_path"] = "mask.png"
    (folder / "transforms.json").write_text(json.dumps(data))
    first, second = open_capture(folder).frames()
    assert first.masks[0] is None
    assert second.masks[1] is None
    for found in (first.masks[1], second.masks[0]):
        assert found is not None
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask > 0)


def masked(folder: Path, size: tuple[int, int], black: tuple[int, int]) -> Path:
    """Two cameras with one mask each of a size (rows, columns), black at one pixel (row, column)."""
    folder.mkdir(exist_ok=True)
    mask = np.full(size, 255, np.uint8)
    mask[black] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / "0.png")
    rows = [
        {"file_path": "0.png", "camera": name, "frame_index": 0, "mask_path": "mask.png"} for name in ("left", "right")
    ]
    data = {"fl_x": 15, "transform_matrix": EYE, "frames": rows}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def test_a_pixel_masked_in_part_is_masked(tmp_path: Path) -> None:
    (mask, _) = next(open_capture(masked(tmp_path, (24, 24), (4, 8)), downscale=3).frames()).masks
    assert mask is not None
    assert np.argwhere(~mask).tolist() == [[1, 2]]


def test_a_pixel_masked_in_part_is_masked_at_large_factors_too(tmp_path: Path) -> None:
    (mask, _) = next(open_capture(masked(tmp_path, (128, 128), (20, 40)), downscale=16).frames()).masks
    assert mask is not None
    assert np.argwhere(~mask).tolist() == [[1, 2]]


def test_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = masked(tmp_path, (12, 16), (0, 0))
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(folder / "mask.png")
    refused(folder, "mask.png: the mask is 12x12")
    (folder / "mask.png").unlink()
    refused(folder, "mask.png: no such mask")


def test_one_mask_for_a_whole_video(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:, 2:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rows = []
    for name in ("a", "b"):
        save_video(tmp_path / f"{name}.mp4", [np.full((16, 16, 3), 30 * n, np.uint8) for n in range(2)], 8)
        rows.append({"video": f"{name}.mp4", "w": 16, "h": 16, "fl_x": 20, "transform_matrix": EYE})
    rows[1]["mask_path"] = "mask.png"
    (tmp_path / "transforms.json").write_text(json.dumps({"cameras": rows}))
    capture = open_capture(tmp_path)
    # Names and the frame rate default to those of the videos.
    assert [c.name for c in capture.cameras] == ["a", "b"]
    assert (capture.source, capture.fps) == ("videos", 8)
    for frame in capture.frames():
        assert frame.masks[0] is None
        np.testing.assert_array_equal(frame.masks[1], mask > 0)


def test_ground_truth_motion_is_read_if_present(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path)
    (folder / "gt_cam01" / "mask").mkdir(parents=True)
    moves = np.zeros((18, 24), np.uint8)
    moves[5, 7] = 255
    Image.fromarray(moves).save(folder / "gt_cam01" / "mask" / "0002.png")
    capture = open_capture(folder, downscale=2)
    found = capture.motion("cam01", 2)
    assert found is not None
    assert np.argwhere(found).tolist() == [[2, 3]]
    assert capture.motion("cam01", 1) is None
    assert capture.motion("cam02", 2) is None


# transforms.json: names, numbers, intrinsics.


def numbered(capture: Capture) -> list[list[str]]:
    return [[path.stem for _, path in sorted(files.images.items())] for files in capture.files]


@pytest.mark.parametrize("key", ["timestamp", "time"])
def test_frames_by_time_are_in_order_of_time(images: Path, tmp_path: Path, key: str) -> None:
    def edit(data: dict[str, Any]) -> None:
        for row in data["frames"]:
            number = row.pop("frame_index")
            row.pop("timestamp")
            row[key] = 7.5 - 0.3 * number
        data["frames"].reverse()

    capture = open_capture(edited(images, tmp_path, edit))
    assert capture.available == range(3)
    assert numbered(capture) == [["0002", "0001", "0000"]] * 4


def test_frames_by_the_number_in_their_names(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "numbers"

    def edit(data: dict[str, Any]) -> None:
        for row in data["frames"]:
            path = folder / row["file_path"]
            name = path.with_name(f"img_{8 + row.pop('frame_index')}.png")
            path.rename(name)
            row["file_path"] = name.relative_to(folder).with_suffix("").as_posix()
            del row["timestamp"], row["camera"]

    capture = open_capture(edited(images, folder, edit))
    # 10 comes after 8 and 9; suffixes and camera names come from the paths.
    assert capture.available == range(8, 11)
    assert numbered(capture) == [["img_8", "img_9", "img_10"]] * 4
    assert [c.name for c in capture.cameras] == NAMES
    frame = next(capture.frames())
    assert (frame.number, frame.time) == (8, Fraction(8, 10))


def test_cameras_are_in_their_declared_order_however_frames_are_listed(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path, lambda data: data["frames"].reverse())
    assert [c.name for c in open_capture(folder).cameras] == NAMES
    assert open_capture(folder).fingerprint() == open_capture(images).fingerprint()


def test_intrinsics_at_the_top_level_the_camera_or_the_frame(tmp_path: Path) -> None:
    folder = small_rig(tmp_path, fl_x=10, fl_y=11, k1=0.1)
    data = json.loads((folder / "transforms.json").read_text())
    data["cameras"] = [{"name": "right", "fl_x": 20, "cx": 3.5, "cy": 5.5, "p2": 0.2}]
    for row in data["frames"][:2]:
        row["fl_x"] = 30
    for row in data["frames"][2:]:
        row["cy"] = 4.5
    (folder / "transforms.json").write_text(json.dumps(data))
    right, left = open_capture(folder).cameras
    assert (right.name, right.fx, right.fy, right.cx, right.cy) == ("right", 20, 11, 3.5, 4.5)
    assert right.distortion[:4] == (0.1, 0.0, 0.0, 0.2)
    assert (left.name, left.fx, left.fy, left.cx, left.cy) == ("left", 30, 11, 8, 6)
    # The size defaults to that of the pictures.
    assert (left.width, left.height) == (16, 12)


def test_an_angle_of_view_gives_the_focal_length(tmp_path: Path) -> None:
    folder = small_rig(tmp_path, fl_x=None, camera_angle_x=np.pi / 2)
    camera = open_capture(folder).cameras[0]
    assert (camera.fx, camera.fy) == (pytest.approx(8), pytest.approx(8))


def test_intrinsics_that_change_are_refused(images: Path, tmp_path: Path) -> None:
    refused(edited(images, tmp_path, lambda data: of(data, "cam01")[1].update(fl_x=5.0)), "cam01")


def test_images_are_preferred_to_videos(images: Path, videos: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copy(videos / f"{name}.mp4", tmp_path)
    folder = edited(images, tmp_path, lambda data: [row.update(video=f"{row['name']}.mp4") for row in data["cameras"]])
    assert open_capture(folder).source == "images"
    capture = open_capture(folder, source="videos")
    assert (capture.source, capture.training, capture.fps) == ("videos", [1, 2, 3], 10)
    one, other = next(capture.frames()).images[2], next(open_capture(folder).frames()).images[2]
    assert psnr(one, other) > 33
    assert capture.fingerprint() != open_capture(folder).fingerprint()


def test_the_layout_of_an_ambiguous_folder_can_be_chosen(images: Path, videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    folder = edited(images, tmp_path)
    assert open_capture(folder).layout == "transforms"
    assert open_capture(folder, layout="n3dv").layout == "n3dv"


# poses_bounds.npy: conventions and order.


def looking_along_x() -> np.ndarray:
    """From (1, 2, 3) along +x with +z up, where right is -y."""
    return np.array([[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3.0]])


def test_columns_of_a_pose_are_down_right_and_back(tmp_path: Path) -> None:
    # Down is -z, right is -y, back is -x.
    row = [0, 0, -1, 1, 100, 0, -1, 0, 2, 200, -1, 0, 0, 3, 50, 0.5, 8]
    np.save(tmp_path / "poses_bounds.npy", np.array([row]))
    (tmp_path / "view.mp4").touch()
    (files,) = n3dv.read(tmp_path, None).cameras
    camera: Camera = files.camera
    np.testing.assert_array_equal(camera.pose, looking_along_x())
    assert (camera.name, camera.width, camera.height, camera.near, camera.far) == ("view", 200, 100, 0.5, 8)
    # Ahead, then to the right, then above.
    pixels, depth = camera.project(np.array([[3.0, 2, 3], [3, 1, 3], [3, 2, 4]]))
    np.testing.assert_allclose(pixels, [[100, 50], [125, 50], [100, 25]])
    np.testing.assert_allclose(depth, [2, 2, 2])


def test_videos_are_in_natural_order(tmp_path: Path) -> None:
    names = ["cam_1", "cam_2", "cam_10", "cam_10b", "cam_11"]
    for name in sorted(names, reverse=True):
        (tmp_path / f"{name}.mp4").touch()
    rows = []
    for index in range(len(names)):
        pose = np.eye(4)[:3]
        pose[0, 3] = index
        rows.append(llff(pose))
    np.save(tmp_path / "poses_bounds.npy", np.stack(rows))
    found = n3dv.read(tmp_path, None).cameras
    assert [(f.camera.name, f.camera.pose[0, 3]) for f in found] == list(zip(names, range(5), strict=True))


def test_a_calibration_for_larger_videos_is_scaled(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[:, [4, 9, 14]] *= 4
    np.save(tmp_path / "poses_bounds.npy", rows)
    for one, other in zip(open_capture(tmp_path).cameras, open_capture(videos).cameras, strict=True):
        assert (one.width, one.height) == (24, 18)
        np.testing.assert_allclose((one.fx, one.fy, one.cx, one.cy), (other.fx, other.fy, other.cx, other.cy))
    rows[:, 9] *= 1.2
    np.save(tmp_path / "poses_bounds.npy", rows)
    refused(tmp_path, "cam00.mp4: is 24x18, but its calibration is for 115x72")


# Faults.


def test_folders_without_a_capture(tmp_path: Path) -> None:
    refused(tmp_path / "gone", "gone: no such file or directory")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "file: cannot be read as a video")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: no capture recognised", "transforms.json", "poses_bounds.npy")
    refused(tmp_path / "empty", "poses_bounds.npy: no such file", layout="n3dv")
    refused(tmp_path / "empty", "transforms.json: no such file", layout="transforms")
    refused(tmp_path / "empty", "unknown layout 'mine'", "transforms, transforms_per_frame", layout="mine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "lists no videos"),
        ('{"frames": 5}', "'frames' is not a list of objects"),
        ('{"cameras": [5]}', "'cameras' is not a list of objects"),
        ('{"frames": [{"file_path": 5}]}', "no 'file_path'"),
        ('{"cameras": [{"video": "a.mp4"}, {"name": "b"}]}', "'transform_matrix'|size|has no 'w'"),
    ],
)
def test_invalid_transforms_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    message = refused(tmp_path, "transforms.json")
    assert re.search(words, message)


def test_transforms_json_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert camera_json._MAX_BYTES <= 1 << 26
    monkeypatch.setattr(camera_json, "_MAX_BYTES", 1 << 20)
    (tmp_path / "transforms.json").write_text("[" + "0," * (1 << 19))
    refused(tmp_path, f"{tmp_path}/transforms.json: is larger than 1 MiB; list fewer images")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d.update(camera_model=7), ["'cam00'", "'camera_model' is 7, expected one of OPENCV"]),
        (lambda d: d["cameras"][2].update(camera_model="EQUIRECTANGULAR"), ["'cam02'", "EQUIRECTANGULAR"]),
        (lambda d: d["cameras"][1].update(k4=0.1), ["'cam01'", "expected FULL_OPENCV"]),
        (lambda d: d["cameras"][1].update(fl_x="long"), ["'fl_x' is 'long', expected a number"]),
        (lambda d: d["cameras"][1].update(fl_x=-4), ["'cam01'", "'fl_x' is -4, expected more than 0"]),
        (lambda d: d["cameras"][1].update(fl_x=1e-300), ["'cam01'", "'fl_x' is 1e-300, expected more than 1e-15"]),
        (lambda d: d["cameras"][1].update(near=1e-300), ["'cam01'", "near 1e-300"]),
        (lambda d: d["cameras"][1].update(cx=float("nan")), ["'cx' is nan"]),
        (lambda d: d["cameras"][1].update(near=3, far=2), ["'cam01'", "near 3.0 and far 2.0"]),
        (lambda d: d["cameras"][1].pop("transform_matrix"), ["'cam01'", "no 'transform_matrix'"]),
        (lambda d: d["cameras"][1].update(transform_matrix=[[1.0] * 4] * 3), ["'cam01'", "not rigid"]),
        (lambda d: d["cameras"][1].update(transform_matrix=[[float("inf")] * 4] * 4), ["'cam01'", "not finite"]),
        (lambda d: d["cameras"][1]["transform_matrix"][0].__setitem__(3, 1e200), ["'cam01'", "too far"]),
        (lambda d: d["cameras"][1].update(far=1e20), ["'cam01'", "'far' is 1e+20, expected a number below 1e+15"]),
        (lambda d: d["cameras"][1].update(transform_matrix=[1, 2]), ["'cam01'", "shape (2,)"]),
        (lambda d: d.update(fps="fast"), ["'fps' is 'fast'"]),
        (lambda d: of(d, "cam03")[1].update(transform_matrix=EYE), ["'cam03' moves", "frame 1", "must be static"]),
        (lambda d: of(d, "cam03")[1].update(frame_index=0), ["'cam03' has two images for frame 0"]),
        (lambda d: d["frames"][0].pop("file_path"), ["no 'file_path'"]),
    ],
)
def test_inconsistent_transforms_json(
    images: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    refused(edited(images, tmp_path, edit), str(tmp_path / "transforms.json"), *words)


def test_pictures_without_a_frame_number(images: Path, tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        row = of(data, "cam01")[2]
        del row["frame_index"], row["timestamp"]
        row["file_path"] = "frames/cam01/last.png"

    refused(edited(images, tmp_path, edit), "'frames/cam01/last.png' has no frame_index, no time and no number")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: [d["frames"].remove(row) for row in of(d, "cam02")[1:]], ["'cam02' has only 1 of the frames 0:3"]),
        (lambda d: d.update(frames=of(d, "cam01")), ["1 camera(s) left to train on"]),
        (lambda d: of(d, "cam01")[2].update(file_path="frames/nope.png"), ["frames/nope.png: no such image"]),
        (lambda d: of(d, "cam01")[2].update(file_path="x" * 300 + ".png"), ["xxx.png: no such image"]),
        (lambda d: of(d, "cam01")[2].update(mask_path="x" * 300), ["xxx: no such mask"]),
        (lambda d: d["cameras"][1].update(w=25), ["cam01/0000.png: is 24x18", "calibration is for 25x18"]),
    ],
)
def test_pictures_that_do_not_match_transforms_json(
    images: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    refused(edited(images, tmp_path, edit), str(tmp_path), *words)


def test_a_later_picture_of_another_size_is_named(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path)
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(folder / "frames" / "cam01" / "0002.png")
    refused(folder, "cam01/0002.png: is 24x20, but 0000.png is 24x18")


def test_the_first_picture_missing_or_broken_is_named(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path)
    (folder / "frames" / "cam03" / "0000.png").write_bytes(b"not a picture")
    refused(folder, "cam03/0000.png: cannot be read as an image")
    (folder / "frames" / "cam03" / "0000.png").unlink()
    refused(folder, "cam03/0000.png: no such image")


def test_images_or_videos_that_do_not_exist(images: Path, videos: Path) -> None:
    refused(images, "transforms.json: lists no videos (cameras[].video)", source="videos")
    refused(videos, "this layout has videos only", source="images")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda rows: rows[:3], ["4 videos but 3 poses in poses_bounds.npy"]),
        (lambda rows: rows[:, :16], ["poses_bounds.npy: has shape (4, 16)"]),
        (lambda rows: rows[0], ["has shape (17,)"]),
        (lambda rows: rows.astype(str), ["poses_bounds.npy"]),
        (lambda rows: np.where(np.arange(17) == 3, [[1], [1], [np.nan], [1]], rows), ["row 2 (cam02.mp4)", "finite"]),
        (lambda rows: np.where(np.arange(17) == 16, 1e200, rows), ["row 0 (cam00.mp4)", "too large"]),
        (lambda rows: rows * [[1], [2], [1], [1]], ["row 1 (cam01.mp4)", "not rigid"]),
        (lambda rows: rows * np.where(np.isin(np.arange(17), [1, 6, 11]), -1, 1), ["row 0 (cam00.mp4)", "not rigid"]),
        (lambda rows: np.hstack([rows[:, :15], rows[:, [16, 15]]]), ["row 0 (cam00.mp4)", "not a range of depths"]),
        (lambda rows: rows * np.where(np.arange(17) == 14, 0, 1), ["row 0 (cam00.mp4)", "focal length"]),
    ],
)
def test_poses_that_do_not_match_their_videos(
    videos: Path, tmp_path: Path, edit: Callable[[np.ndarray], np.ndarray], words: list[str]
) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    np.save(tmp_path / "poses_bounds.npy", edit(np.load(tmp_path / "poses_bounds.npy")))
    refused(tmp_path, str(tmp_path), *words)


def test_poses_that_are_not_an_array(videos: Path, tmp_path: Path) -> None:
    for text in (b"", b"not an array", (videos / "poses_bounds.npy").read_bytes()[:-9]):
        (tmp_path / "poses_bounds.npy").write_bytes(text)
        refused(tmp_path, "poses_bounds.npy: not a readable .npy file")
    for shape in (
        "(10**12, 17)",
        "(1000000000000, 17)",
        "(100000000000000000000000, 17)",
        "(4294967296, 4294967296)",
        "((",
    ):
        # What a header claims is not believed: 124 TB here.
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        text = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(17 * 8)
        (tmp_path / "poses_bounds.npy").write_bytes(text)
        refused(tmp_path, "poses_bounds.npy: not a readable .npy file")
    (tmp_path / "poses_bounds.npy").write_bytes(b"PK\3\4 not an archive")
    refused(tmp_path, "poses_bounds.npy: not a readable .npy file")
    # Loading an array of objects would execute code from the file.
    np.save(tmp_path / "poses_bounds.npy", np.array([{}], object))
    refused(tmp_path, "poses_bounds.npy: not a readable .npy file")


def test_one_video_is_too_few(tmp_path: Path) -> None:
    refused(video_rig(tmp_path, (2, 16, 16, 10)), "1 camera(s) left to train on", "at least 2")
    np.save(tmp_path / "poses_bounds.npy", np.zeros((0, 17)))
    (tmp_path / "cam0.mp4").unlink()
    refused(tmp_path, "declares no cameras")


def test_videos_of_differing_length(tmp_path: Path) -> None:
    folder = video_rig(tmp_path, (4, 16, 16, 10), (2, 16, 16, 10))
    refused(folder, str(folder), "cam1.mp4 has only 2 of the frames 0:4; trim all cameras")


def test_videos_of_differing_rate_line_up_in_time(tmp_path: Path) -> None:
    capture = open_capture(video_rig(tmp_path, (3, 16, 16, 10), (6, 16, 16, 25)))
    assert (capture.fps, capture.numbers) == (10, range(3))
    # Frames of the faster one that are nearest to 0, 0.1 and 0.2 s; each is 20 brighter than the one before.
    shown = [[round(float(image.mean()) / 20) for image in frame.images] for frame in capture.frames()]
    assert shown == [[0, 0], [1, 2], [2, 5]]
    same = tmp_path / "same"
    refused(video_rig(same, (2, 16, 16, 10), (2, 16, 16, 60)), str(same), "cam1.mp4 has only 1 of")


def test_videos_of_differing_shape(tmp_path: Path) -> None:
    refused(video_rig(tmp_path, (2, 16, 16, 10), (2, 16, 20, 10)), "cam1.mp4: is 16x20", "calibration is for 16x16")


def test_videos_of_differing_length_and_the_same_name(tmp_path: Path) -> None:
    rows = []
    for name, count in (("a", 2), ("b", 5)):
        (tmp_path / name).mkdir()
        frames = [np.full((16, 16, 3), 20 * n, np.uint8) for n in range(count)]
        save_video(tmp_path / name / "video.mp4", frames, 10)
        rows.append({"name": name, "video": f"{name}/video.mp4", "w": 16, "h": 16, "fl_x": 20, "transform_matrix": EYE})
    (tmp_path / "transforms.json").write_text(json.dumps({"cameras": rows}))
    refused(tmp_path, "a/video.mp4 has only 2 of the frames 0:5")


def test_a_broken_video_is_named(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cam00.mp4").write_bytes((tmp_path / "cam00.mp4").read_bytes()[:300])
    refused(tmp_path, "cam00.mp4: cannot be read as a video")


def test_a_declared_video_that_is_missing_is_named(tmp_path: Path) -> None:
    row = {"w": 16, "h": 16, "fl_x": 20, "transform_matrix": EYE}
    data = {"cameras": [{**row, "video": "a.mp4"}, {**row, "video": "b.mp4"}]}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    refused(tmp_path, "a.mp4: no such video")
    data["cameras"][1]["name"] = "a"
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    refused(tmp_path, "two cameras have the same name")
    data["cameras"][1].pop("video")
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    refused(tmp_path, "camera 'a' has no 'video'")


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(test_cameras=5),
        lambda d: d["frames"][0].update(mask_path=5),
        lambda d: d.update(fps=-10),
        lambda d: d["cameras"][1].update(fl_y=-4),
        lambda d: d["cameras"][1].update(fl_x=10**400),
    ],
    ids=["test_cameras", "mask_path", "fps", "fl_y", "overflow"],
)
def test_invalid_values_are_named(images: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    refused(edited(images, tmp_path, edit), "transforms.json")


def test_absurd_files_are_named(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    with open(tmp_path / "poses_bounds.npy", "wb") as file:
        np.savez(file, a=np.zeros(3))
    refused(tmp_path, "poses_bounds.npy: not a readable .npy file")
    (tmp_path / "transforms.json").write_text("[" * 100_000)
    refused(tmp_path, "transforms.json: not valid JSON")


def test_two_entries_of_one_camera_are_refused(images: Path, tmp_path: Path) -> None:
    refused(edited(images, tmp_path, lambda data: data["cameras"].append(data["cameras"][0])), "the same name")


def test_a_near_plane_behind_the_camera_is_refused(images: Path, tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["cameras"][1].update(near=-5.0, far=None)

    refused(edited(images, tmp_path, edit), "near -5.0")


def test_the_last_number_of_a_file_name_is_the_frame(images: Path, tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        for row in data["frames"]:
            old = tmp_path / row["file_path"]
            name = f"{row['camera']}_take2_{row.pop('frame_index'):04d}.png"
            row.pop("timestamp")
            old.rename(old.with_name(name))
            row["file_path"] = str(Path(row["file_path"]).with_name(name))

    assert open_capture(edited(images, tmp_path, edit)).numbers == open_capture(images).numbers


def test_files_outside_the_folder_need_to_be_allowed(images: Path, videos: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "capture", tmp_path / "elsewhere.png"
    shutil.copyfile(images / "frames" / "cam01" / "0001.png", elsewhere)
    for number, name in enumerate(("../elsewhere.png", str(elsewhere))):
        edited(images, folder / str(number), lambda d, name=name: of(d, "cam01")[1].update(file_path=name))  # type: ignore[misc]
    link = edited(images, folder / "link") / "frames" / "cam01" / "0001.png"
    link.unlink()
    link.symlink_to(elsewhere)
    edited(images, folder / "mask", lambda d: of(d, "cam01")[1].update(mask_path=str(elsewhere)))
    shutil.copytree(videos, folder / "video")
    (folder / "video" / "cam02.mp4").unlink()
    (folder / "video" / "cam02.mp4").symlink_to(videos / "cam02.mp4")
    for path in (folder / "0", folder / "1", folder / "link", folder / "mask", folder / "video"):
        if path.name == "0":
            shutil.copyfile(elsewhere, folder / "elsewhere.png")
        refused(path, "lies outside the capture's folder", "--outside allows that")
        assert len(list(open_capture(path, outside=True).frames())) == 3
    # The folder itself may be a link.
    (tmp_path / "alias").symlink_to(images)
    open_capture(tmp_path / "alias")


def test_pictures_that_are_pipes_are_not_waited_for(images: Path, tmp_path: Path) -> None:
    path = edited(images, tmp_path) / "frames" / "cam02" / "0001.png"
    path.unlink()
    os.mkfifo(path)
    refused(tmp_path, "cam02/0001.png: is not a regular file")


@pytest.mark.parametrize("name", ["", "\x1b[31mred", "a\nb", "\udcff", "x" * 256])
def test_names_of_cameras_are_printable_text(name: str, images: Path, tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["cameras"][1]["name"] = name
        for row in of(data, "cam01"):
            row["camera"] = name

    message = refused(edited(images, tmp_path, edit), f"camera name {name!a} is not printable text")
    assert message.isascii()
    assert message.isprintable()


def test_impossible_file_names_are_named(images: Path, tmp_path: Path) -> None:
    refused(edited(images, tmp_path, lambda d: of(d, "cam01")[1].update(file_path="a\0b.png")), "a\\x00b.png")


def test_a_video_that_is_not_a_file_name_is_no_address(tmp_path: Path) -> None:
    row = {"w": 16, "h": 16, "fl_x": 20, "transform_matrix": EYE}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        for address in (f"http:/127.0.0.1:{port}/x.mp4", f"http://127.0.0.1:{port}/x.mp4", f"tcp:127.0.0.1:{port}"):
            data = {"cameras": [{**row, "video": address}, {**row, "video": "b.mp4"}]}
            (tmp_path / "transforms.json").write_text(json.dumps(data))
            refused(tmp_path, "no such video")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_calibration_for_the_picture_before_it_is_turned_is_noticed(images: Path, tmp_path: Path) -> None:
    folder = edited(images, tmp_path)
    for path in (folder / "frames" / "cam01").iterdir():
        with Image.open(path) as image:
            image.getexif()[0x112] = 6
            image.save(path, exif=image.getexif())
    refused(folder, "is 18x24 (turned upright, as it says), but its calibration is for 24x18")


def test_a_dropped_frame_hides_only_itself(videos: Path, tmp_path: Path) -> None:
    folder = video_rig(tmp_path, (9, 16, 16, 10), (9, 16, 16, 10))
    frames = [av.VideoFrame.from_ndarray(np.full((16, 16, 3), 20 * n, np.uint8), format="rgb24") for n in range(9)]
    with av.open(folder / "cam1.mp4", "w") as container:
        stream = container.add_stream("libx264", 10, options={"crf": "4"})
        stream.width = stream.height = 16
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            if number != 4:
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.warns(InvWarning, match="images are missing: cam1 1 of 9"):
        capture = open_capture(folder)
    assert capture.gaps == (frozenset(), {4})
    for start in (0, 3, 4, 5):
        shown = [
            [None if image is None else round(float(image.mean()) / 20) for image in frame.images]
            for frame in capture.frames(start)
        ]
        assert shown == [[n, None if n == 4 else n] for n in range(start, 9)]
    folder = Path(shutil.copytree(folder, folder / "both"))
    shutil.copy(folder / "cam1.mp4", folder / "cam0.mp4")
    refused(folder, "no camera to train on has an image of frame 4; leave it out with --frames")
    assert [frame.number for frame in open_capture(folder, frames=(5, 7)).frames()] == [5, 6]

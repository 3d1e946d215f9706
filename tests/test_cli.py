"""The whole program through its command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from conftest import Cli
from files import fields_of, head_payload
from invcodec_cli import _commands
from PIL import Image
from safetensors.numpy import load_file

from invcodec.capture.video import probe
from invcodec.container.head import Head
from invcodec.container.reader import Reader
from invcodec.container.records import MAGIC, RecordType, pack_record
from invcodec.encoding import capacity
from invcodec.errors import InvWarning
from invcodec.metrics import psnr
from invcodec.render import make_renderer
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.scene import objects_at
from invcodec.synth.trace import trace

PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def truth(capture: Path, camera: str, frame: int) -> np.ndarray:
    return picture(capture / "frames" / camera / f"{frame:04d}.png")


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.startswith("invcodec: ") and "Traceback" not in text


# encode, decode, eval


def test_what_was_encoded_looks_like_what_was_captured(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    for frame in (1, 2, 3):
        view = tmp_path / f"{frame}.png"
        assert cli("decode", encoded, "--frame", frame, "--pose", "cam00", "-o", view).out == f"{view}\n"
        # cam00 was never trained on. A grey picture gives 14 dB, the wrong camera 17 dB.
        assert psnr(picture(view), truth(capture, "cam00", frame)) > 22
        assert cli("decode", encoded, "--frame", frame, "--pose", "cam03", "-o", view, "-f").code == 0
        assert psnr(picture(view), truth(capture, "cam03", frame)) > 24


def test_eval_agrees_with_the_decoded_pictures(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    result = cli("eval", encoded, capture, "--json", "--save", tmp_path / "pairs")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["set"] == "held-out"
    assert report["cameras"] == ["cam00"]
    assert [frame["number"] for frame in report["frames"]] == [1, 2, 3]
    assert report["bytes"]["file"] == encoded.stat().st_size
    assert report["bytes"]["per_frame"] == encoded.stat().st_size / 3
    for frame in report["frames"]:
        pair = picture(tmp_path / "pairs" / f"out-{frame['number']:06d}-cam00.png")
        left, right = pair[:, :40], pair[:, 40:]
        np.testing.assert_array_equal(left, truth(capture, "cam00", frame["number"]))
        assert psnr(left, right) == pytest.approx(frame["cameras"]["cam00"]["psnr"])
    mean = np.mean([frame["cameras"]["cam00"]["psnr"] for frame in report["frames"]])
    assert report["mean"]["psnr"] == pytest.approx(mean)
    table = cli("eval", encoded, capture).out
    assert f"{report['mean']['psnr']:.2f}" in table


def test_names_of_cameras_stay_inside_the_folder_of_saved_pictures(cli: Cli, capture: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "capture", tmp_path / "deep" / "er" / "out.inv"
    shutil.copytree(capture, folder)
    text = (folder / "transforms.json").read_text()
    (folder / "transforms.json").write_text(text.replace('"cam00"', '"../../x"').replace('"cam01"', '"../.._x"'))
    file.parent.mkdir(parents=True)
    assert cli("encode", folder, file, "--preset", "draft", "--steps", 2, "--frames", "0:1").code == 0
    before = set(tmp_path.rglob("*"))
    assert cli("eval", file, folder, "--save", file.parent / "pairs").code == 0
    assert cli("decode", file, "--pose", "../../x", "--pose", "cam02", "-o", file.parent / "view.png").code == 0
    made = {str(path.relative_to(file.parent)) for path in set(tmp_path.rglob("*")) - before}
    assert made == {"pairs", "pairs/out-000000-.._.._x.png", "view-.._.._x.png", "view-cam02.png"}
    both = ("--camera", "../../x", "--camera", "../.._x")
    result = cli("eval", file, folder, *both, "--save", file.parent / "more")
    assert (result.code, "the same file name" in result.err, result.err.count("\n")) == (2, True, 1)


@pytest.mark.slow
def test_the_same_seed_and_steps_give_the_same_file(cli: Cli, capture: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        arguments = ("--frames", "0:2", "--steps", "20", "--seed", seed)
        assert cli("encode", capture, tmp_path / f"{name}.inv", *arguments).code == 0
    states = [
        cli("decode", tmp_path / f"{n}.inv", "--frame", 1, "--weights", tmp_path / f"{n}.safetensors").code
        for n in "abc"
    ]
    assert states == [0, 0, 0]
    a, b, c = (load_file(tmp_path / f"{n}.safetensors") for n in "abc")
    assert all((a[key] == b[key]).all() for key in a)
    assert any((a[key] != c[key]).any() for key in a)


@pytest.mark.slow
def test_the_nerf_profile_works_end_to_end(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "nerf.inv"
    arguments = ("--profile", "nerf", "--steps", "4", "--frames", "0:3", "--warmup", "0")
    assert cli("encode", capture, path, *arguments).code == 0
    info = json.loads(cli("info", path, "--json").out)
    assert [network["profile"] for network in info["networks"]] == ["nerf", "affine"]
    before, after = (tmp_path / name for name in ("0.safetensors", "2.safetensors"))
    assert cli("decode", path, "--frame", 0, "--weights", before).code == 0
    assert cli("decode", path, "--frame", 2, "--weights", after).code == 0
    a, b = load_file(before), load_file(after)
    changed = {key for key in a if (a[key] != b[key]).any()}
    # After the warm-up, only the first structure layers are trained and sent (INV, section 3.2).
    structure = {f"scene/layers.{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    assert changed <= structure | {"scene/occupancy"}
    assert "scene/layers.0.weight" in changed
    view = tmp_path / "view.png"
    assert cli("decode", path, "--frame", "latest", "--pose", "cam00", "-o", view, "--size", "8x6").code == 0
    assert picture(view).shape == (6, 8, 3)


@pytest.mark.slow
def test_the_paper_preset_is_the_published_configuration(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "paper.inv"
    little = ("--steps", "1", "--frames", "0:1", "--downscale", "2")
    assert cli("encode", capture, path, "--preset", "paper", *little).code == 0
    networks = json.loads(cli("info", path, "--json").out)["networks"]
    assert [network["role"] for network in networks] == ["coarse", "fine"]
    # The published networks have 295,936 structure weights together.
    assert sum(network["weights"]["structure"] for network in networks) == 295_936


@pytest.mark.slow
def test_a_capture_with_a_transparent_background(cli: Cli, capture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "alpha"
    shutil.copytree(capture, folder)
    for path in folder.glob("frames/*/*.png"):
        image = picture(path)
        alpha = np.where(np.arange(image.shape[1]) < 30, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([image, np.broadcast_to(alpha, image.shape[:2])])).save(path)
    out = tmp_path / "alpha.inv"
    assert cli("encode", folder, out, "--frames", "0:2", "--steps", "40").code == 0
    assert json.loads(cli("info", out, "--json").out)["background"] is None
    view = tmp_path / "view.png"
    assert cli("decode", out, "--frame", 1, "--pose", "cam01", "-o", view).code == 0
    assert picture(view).shape == (30, 40, 4)
    assert cli("eval", out, folder).code == 0


# decode


def test_frames_are_found_by_number_and_by_time(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    pictures = {}
    for name, choice in {
        "2": ("--frame", "2"),
        "time": ("--time", "0.25s"),
        "first": ("--frame", "first"),
        "1": ("--frame", "1"),
        "latest": ("--frame", "latest"),
        "3": ("--frame", "3"),
    }.items():
        path = tmp_path / f"{name}.png"
        assert cli("decode", encoded, *choice, "--pose", "cam01", "-o", path).code == 0
        pictures[name] = path.read_bytes()
    # The capture runs at 10 frames a second: frame 2 is on screen from 0.2 s to 0.3 s.
    assert pictures["2"] == pictures["time"]
    assert pictures["1"] == pictures["first"]
    assert pictures["3"] == pictures["latest"]
    assert len(set(pictures.values())) == 3


def test_pose_needs_no_value_and_output_names_are_chosen(
    cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("decode", encoded, "--frame", "2", "--pose").out == "out-000002.png\n"
    assert cli("decode", encoded, "--frame", "2").code == 2, "the file is already there"
    several = cli("decode", encoded, "--frame", "2", "--pose", "cam01", "--pose", "cam02")
    assert several.out.split() == ["out-000002-cam01.png", "out-000002-cam02.png"]
    # The default view is the held-out camera.
    assert cli("decode", encoded, "--frame", "2", "--pose", "cam00", "-o", "same.png").code == 0
    assert Path("same.png").read_bytes() == Path("out-000002.png").read_bytes()


def test_several_frames_make_a_video_that_plays_at_the_right_speed(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    assert cli("decode", encoded, "--frames", "1:4", "--pose", "cam01", "-o", video).code == 0
    info = probe(video)
    assert (info.width, info.height, len(info.stamps), info.fps) == (40, 30, 3, 10)
    assert cli("decode", encoded, "--frames", "2:", "-o", tmp_path / "p" / "%04d.png").code == 0
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["0002.png", "0003.png"]
    assert cli("decode", encoded, "--pose", "orbit", "-o", tmp_path / "orbit.mp4", "--size", "20x16").code == 0
    assert probe(tmp_path / "orbit.mp4").width == 20


def test_depth_is_in_world_units(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    for name in ("d.npy", "d.png", "d.tiff"):
        assert cli("decode", encoded, "--frame", 1, "--pose", "cam01", "--depth", "-o", tmp_path / name).code == 0
    depth = np.load(tmp_path / "d.npy")
    assert depth.shape == (30, 40)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(picture(tmp_path / "d.tiff"), depth)
    levels = picture(tmp_path / "d.png")
    seen = np.isfinite(depth)
    assert ((levels > 0) == seen).all()
    unit = np.median(depth[seen] / levels[seen])
    assert unit == pytest.approx(10 ** round(np.log10(unit)), rel=1e-3)
    # Training is too short for exact depths, but they are on the scale of the room, in metres.
    expected = trace(objects_at("moving", 0.1, 0.4), *synthetic_rig(7, (40, 30))[1].rays())[1].reshape(30, 40)
    assert 0.6 < np.median(depth[seen] / expected[seen]) < 1.6


def test_standard_output_takes_a_picture(encoded: Path) -> None:
    done = subprocess.run([*PROGRAM, "decode", encoded, "--frame", "1", "--pose", "-o", "-"], capture_output=True)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stderr == b""


def test_a_pose_file_gives_a_view_that_no_camera_saw(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    pose = tmp_path / "pose.json"
    matrix = [[1, 0, 0, 0.1], [0, 1, 0, 0.2], [0, 0, 1, 2.9], [0, 0, 0, 1]]
    pose.write_text(json.dumps(matrix))
    assert cli("decode", encoded, "--frame", 1, "--pose", pose, "--size", "32x32", "-o", tmp_path / "v.png").code == 0
    assert picture(tmp_path / "v.png").std() > 10


def test_pictures_videos_and_weights_appear_whole_or_not_at_all(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    data = bytearray(encoded.read_bytes())
    for record in json.loads(cli("info", encoded, "--json", "--records").out)["records"]:
        if record["type"] in ("KEY", "DELTA"):
            data[record["offset"] + record["bytes"] // 2] ^= 0x10
    lost, kept, link = tmp_path / "lost.inv", tmp_path / "kept", tmp_path / "link"
    lost.write_bytes(data)
    for suffix, options in ((".png", ("--frame", 1)), (".mp4", ()), (".safetensors", ("--frame", 1))):
        old, new = kept.with_suffix(suffix), link.with_suffix(suffix)
        old.write_text("precious")
        new.symlink_to(old)
        output = ("--weights" if suffix == ".safetensors" else "-o", new)
        failed = cli("decode", lost, *options, *output, "-f")
        assert (failed.code, one_line(failed.err)) == (3, True), failed
        assert old.read_text() == "precious"
        assert cli("decode", encoded, *options, *output, "-f").code == 0
        # A symbolic link stays, and its target is overwritten.
        assert new.is_symlink()
        assert len(old.read_bytes()) > 100
    assert {path.stem for path in tmp_path.iterdir()} == {"lost", "kept", "link"}


# help


def test_help_groups_commands_and_options_and_fits_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli("--help").out
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Encode:", "Decode and view:", "Change:", "Files:", "Test data:"]
    assert text.index("Encode:") < text.index("  encode ") < text.index("Files:") < text.index("  verify ")
    ctx = click.Context(_commands)
    for name in _commands.list_commands(ctx):
        assert f"\n  {name} " in text
        page = cli(name, "--help").out
        assert not [line for line in (*text.splitlines(), *page.splitlines()) if len(line.rstrip()) > 80]
        command = _commands.get_command(ctx, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, option.name
                assert page.count(f"  {', '.join(option.opts)} ") == 1, option.opts
    page = cli("encode", "--help").out
    assert page.index("Rate control:") < page.index("--target-size") < page.index("Live:") < page.index("--stdin")
    assert page.index("Other options:") < page.index("--force")


# info and inspect


def test_info_describes_the_file(cli: Cli, encoded: Path) -> None:
    info = json.loads(cli("info", encoded, "--json", "--records").out)
    assert info["state"] == "complete"
    assert info["frames"] | {"duration": 0} == {
        "count": 3, "first": 1, "last": 3, "gaps": [], "key": 2, "key_interval": 2, "duration": 0,
    }  # fmt: skip
    assert info["frames"]["duration"] == pytest.approx(0.3)
    assert [record["type"] for record in info["records"]] == ["HEAD", "KEY", "DELTA", "KEY", "INDEX", "END"]
    size = info["bytes"]
    assert size["key"] + size["delta"] + size["other"] == size["file"] == encoded.stat().st_size
    text = cli("info", encoded, "--records").out
    assert "complete" in text
    assert "cam00" in text


def test_info_and_help_need_neither_torch_nor_numba(encoded: Path) -> None:
    script = (
        "import sys\nfrom invcodec_cli import main\n"
        f"assert main(['info', {str(encoded)!r}]) == 0\n"
        "assert main(['--help']) == 0\n"
        "assert not {'torch', 'numba'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_inspect_describes_the_capture(cli: Cli, capture: Path) -> None:
    result = json.loads(cli("inspect", capture, "--json", "--downscale", "2", "--frames", "1:3").out)
    assert result["frames"] == [1, 3]
    assert result["available"] == [0, 4]
    assert result["held_out"] == ["cam00"]
    assert result["cameras"][3]["name"] == "cam03"
    assert (result["cameras"][3]["width"], result["source_size"]) == (20, [40, 30])
    assert result["encode"]["bytes"] > 0


# progress, interruption, resuming


@pytest.mark.slow
def test_progress_json_has_a_line_per_frame_and_a_pipe_is_quiet(capture: Path, tmp_path: Path) -> None:
    command = [*PROGRAM, "encode", capture, tmp_path / "a.inv", "--steps", "9", "--frames", "0:2"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    done = subprocess.run([*command, "-f", "--progress", "json"], capture_output=True, check=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["frame"], line["kind"], line["steps"]) for line in lines] == [(0, "key", 9), (1, "delta", 9)]


def test_a_progress_bar_ends_with_targets_and_a_summary(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.inv"
    done = cli("encode", capture, path, "--steps", 9, "--frames", "0:2", "--progress", "bar", "--target-size", "60k")
    assert done.code == 0
    *_, target, summary = done.err.splitlines()
    assert re.fullmatch(r"invcodec: target met: size [\d.]+ kB, requested 60 kB", target)
    assert re.fullmatch(re.escape(str(path)) + r": 2 frames in .* s, [\d.]+ kB \([\d.]+ kB per frame\)", summary)


@pytest.mark.slow
def test_interrupting_leaves_a_valid_file_that_can_be_resumed(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.inv"
    command = [
        *PROGRAM,
        "encode",
        capture,
        path,
        "--steps",
        "1000000",
        "--key-seconds",
        "1",
        "--seconds-per-frame",
        "2",
        "--progress",
        "json",
    ]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # As soon as one frame is done, in the middle of the second; the other three take 8 s.
    first = [process.stderr.readline()]
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130, rest
    assert "--resume" in rest
    assert "Traceback" not in rest
    info = json.loads(cli("info", path, "--json").out)
    assert info["state"] == "incomplete"
    done = info["frames"]["count"]
    assert len(first) <= done < 4
    assert cli("encode", capture, path, "--resume", "--steps", "9").code == 2, "options come from the file"
    assert cli("encode", capture, path, "--resume").code == 0
    info = json.loads(cli("info", path, "--json").out)
    assert (info["state"], info["frames"]["count"]) == ("complete", 4)
    assert cli("eval", path, capture).code == 0
    assert cli("encode", capture, path, "--resume").code == 2, "nothing is left to do"


def test_the_summary_of_a_resumed_encode_tells_new_frames_from_the_file_s(
    cli: Cli, capture: Path, encoded: Path, tmp_path: Path
) -> None:
    path, whole = tmp_path / "cut.inv", encoded.read_bytes()
    with Reader(encoded) as reader:
        frames = reader.frames
    size = r"[\d.]+ kB \([\d.]+ kB per frame\)"
    for kept in (len(frames), 1):
        # Cut off after the last frame, and after the first.
        path.write_bytes(whole[: frames[kept - 1].offset + frames[kept - 1].length])
        done = cli("encode", capture, path, "--resume", "--progress", "bar")
        assert done.code == 0, done.err
        summary = done.err.splitlines()[-1]
        now = f"{len(frames) - kept} of {len(frames)} frames"
        assert re.fullmatch(re.escape(f"{path}: {now}") + rf" in .*, {size}", summary), summary


def test_resuming_refuses_another_capture(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "out.inv", tmp_path / "other"
    path.write_bytes(encoded.read_bytes()[:-400])
    shutil.copytree(capture, other)
    image = other / "frames" / "cam02" / "0000.png"
    Image.fromarray(255 - picture(image)).save(image)
    before = path.read_bytes()
    result = cli("encode", other, path, "--resume")
    assert result.code == 2
    assert one_line(result.err)
    assert path.read_bytes() == before


def test_an_output_is_overwritten_only_by_force_and_only_once_there_is_a_keyframe(
    cli: Cli, capture: Path, tmp_path: Path
) -> None:
    path = tmp_path / "old.inv"
    path.write_text("precious")
    assert cli("encode", capture, path, "--steps", "5").code == 2
    assert path.read_text() == "precious"
    command = [*PROGRAM, "encode", str(capture), str(path), "-f", "--steps", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".old.*")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    # No keyframe was finished: the old file is untouched and nothing is left over.
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["old.inv"]


# bad input


def test_bad_input_is_one_clear_line(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.inv"
    text.write_text("not a bitstream")
    broken = tmp_path / "broken"
    broken.mkdir()
    np.save(broken / "poses_bounds.npy", np.zeros((1, 17)))
    (broken / "cam00.mp4").write_bytes(b"nothing")
    for arguments, code, part in [
        (("encode", tmp_path / "missing", tmp_path / "o.inv"), 2, "no such file or directory"),
        (("encode", broken, tmp_path / "o.inv"), 2, "poses_bounds.npy"),
        (("encode", capture, tmp_path / "no" / "o.inv"), 2, "no such directory"),
        (("encode", capture, tmp_path), 2, "is a directory"),
        (("encode", capture, tmp_path / "o.inv", "--frames", "9:12"), 2, "it has frames 0:4"),
        (("encode", capture, tmp_path / "o.inv", "--holdout", "cam99"), 2, "cam99"),
        (("encode", capture, tmp_path / "o.inv", "--seconds-per-frame", "fast"), 2, "duration"),
        (("encode", capture, tmp_path / "o.inv", "--device", "quantum"), 2, "quantum"),
        (("inspect", tmp_path), 2, "transforms.json"),
        (("info", tmp_path / "missing.inv"), 2, "missing.inv"),
        (("info", text), 2, "not an .inv file"),
        (("decode", text, "--frame", "1", "--pose"), 2, "not an .inv file"),
        (("decode", encoded, "--frame", "9", "-o", tmp_path / "v.png"), 2, "frames 1 to 3"),
        (("decode", encoded, "--frame", "last", "-o", tmp_path / "v.png"), 2, "latest"),
        (("decode", encoded, "--time", "7s", "-o", tmp_path / "v.png"), 2, "on screen"),
        (("decode", encoded, "--frame", "1", "--pose", "cam77", "-o", tmp_path / "v.png"), 2, "cam77"),
        (("decode", encoded, "--frame", "1", "-o", tmp_path / "v.xyz"), 2, ".png"),
        (("decode", encoded, "--frame", "1", "--size", "0x4", "-o", tmp_path / "v.png"), 2, "640x480"),
        (("decode", encoded, "--frames", "1:3", "-o", tmp_path / "v.png"), 2, "%04d"),
        (("eval", encoded, tmp_path), 2, "transforms.json"),
        (("eval", encoded, capture, "--camera", "cam55"), 2, "cam55"),
        (("synth", capture), 2, "already exists"),
        (("frobnicate",), 2, "frobnicate"),
    ]:
        result = cli(*arguments)
        assert (result.code, one_line(result.err)) == (code, True), (arguments, result)
        assert part in result.err, (arguments, result.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "text.inv"]


def test_damage_is_reported_and_the_rest_decodes(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    data = bytearray(encoded.read_bytes())
    records = json.loads(cli("info", encoded, "--json", "--records").out)["records"]
    delta = next(record for record in records if record["type"] == "DELTA")
    data[delta["offset"] + delta["bytes"] // 2] ^= 0x10
    damaged, view = tmp_path / "damaged.inv", tmp_path / "view.png"
    damaged.write_bytes(data)
    lost = cli("decode", damaged, "--frame", "2", "-o", view)
    assert lost.code == 3
    assert one_line(lost.err)
    assert not view.exists()
    # Frame 3 is a keyframe and does not need frame 2.
    assert cli("decode", damaged, "--frame", "3", "-o", view).code == 0
    partly = cli("eval", damaged, capture, "--validation", "--json")
    assert partly.code == 3
    assert "frame 2 is lost" in partly.err
    report = json.loads(partly.out)
    assert [[row["number"] for row in report[key]] for key in ("frames", "validation")] == [[1, 3], [1, 3]]

    cut = tmp_path / "cut.inv"
    cut.write_bytes(encoded.read_bytes()[: records[3]["offset"] + 100])
    info = cli("info", cut, "--json")
    assert info.code == 3
    report = json.loads(info.out)
    assert (report["state"], report["frames"]["last"]) == ("truncated", 2)

    # Complete records without an end mark: a file that is still being written.
    cut.write_bytes(encoded.read_bytes()[: records[3]["offset"]])
    info = cli("info", cut, "--json")
    assert (info.code, json.loads(info.out)["state"]) == (0, "open")


def test_a_newer_format_and_a_size_over_the_limit_have_their_own_exit_codes(
    cli: Cli, encoded: Path, tmp_path: Path
) -> None:
    with Reader(encoded) as reader:
        fields = fields_of(reader.head)
        assert Head.from_bytes(head_payload(fields)) == reader.head
    payloads = [(head_payload(fields, 99, 99), 4), (head_payload(fields | {"networks": fields["networks"] * 5}), 5)]
    for payload, code in payloads:
        path = tmp_path / "changed.inv"
        path.write_bytes(MAGIC + pack_record(RecordType.HEAD, 0, payload))
        result = cli("info", path)
        assert (result.code, one_line(result.err)) == (code, True), result


def test_only_regular_files_are_overwritten(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.inv"
    os.mkfifo(fifo)
    for arguments in (
        ("encode", capture, fifo, "--steps", "3", "-f"),
        ("cut", encoded, "--frames", "1:2", "-o", fifo, "-f"),
        ("decode", encoded, "--frame", "1", "-o", fifo.with_suffix(".png"), "-f"),
    ):
        if arguments[0] == "decode":
            os.mkfifo(fifo.with_suffix(".png"))
        result = cli(*arguments)
        assert (result.code, one_line(result.err)) == (2, True), arguments
        assert "not a regular file" in result.err
    assert fifo.is_fifo()


def test_a_symbolic_link_stays_and_its_target_is_overwritten(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.inv", tmp_path / "link.inv"
    link.symlink_to(real)
    assert cli("cut", encoded, "--frames", "1:2", "-o", link).code == 2, "a dangling link exists, too"
    assert cli("cut", encoded, "--frames", "1:2", "-o", link, "-f").code == 0
    assert link.is_symlink()
    assert cli("verify", real).code == 0


@pytest.mark.slow
def test_a_second_interrupt_changes_nothing(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.inv"
    command = [
        *PROGRAM,
        "encode",
        capture,
        path,
        "--steps",
        "1000000",
        "--key-seconds",
        "1",
        "--seconds-per-frame",
        "2",
        "--progress",
        "json",
    ]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130, rest
    assert "Traceback" not in rest
    assert "bug" not in rest


def test_stored_validation_psnr_is_that_of_the_decoded_pixels(cli: Cli, capture: Path, encoded: Path) -> None:
    result = cli("eval", encoded, capture, "--validation", "--json")
    assert result.code == 0
    frames = json.loads(result.out)["validation"]
    assert [frame["number"] for frame in frames] == [1, 2, 3]
    for frame in frames:
        assert frame["psnr"] == pytest.approx(frame["stored"], abs=0.011)
    assert "validation PSNR dB" in cli("eval", encoded, capture, "--validation").out


@pytest.mark.parametrize("origin", [None, 5, ["transforms"], {"layout": 5, "source": ["images"]}])
def test_eval_recognises_the_capture_of_a_file_that_tells_nothing_useful_of_it(
    cli: Cli, capture: Path, encoded: Path, tmp_path: Path, origin: object
) -> None:
    path = tmp_path / "other.inv"
    with Reader(encoded) as reader:
        head = replace(reader.head, encoder={"origin": origin})
        key = next(record.data for record in reader.records() if record.entry is not None)
    path.write_bytes(MAGIC + pack_record(RecordType.HEAD, 0, head.to_bytes()) + key)
    result = cli("eval", path, capture)
    assert (result.code, result.err) == (0, "")


def test_a_failing_write_does_not_blame_standard_output(
    cli: Cli, encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("invcodec.container.info.describe", fail)
    result = cli("info", encoded)
    assert (result.code, result.err) == (1, "invcodec: reading or writing failed: No space left on device\n")


def test_a_warning_is_one_line_and_no_failure(
    cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*arguments: Any, **options: Any) -> Any:
        warnings.warn("slower\nthan usual", InvWarning, stacklevel=1)
        return make_renderer(*arguments, **options)

    monkeypatch.setattr("invcodec.decoding.video.make_renderer", warn)
    result = cli("decode", encoded, "--frame", 2, "--pose", "-o", tmp_path / "view.png")
    assert result.code == 0
    assert result.err.splitlines()[0] == "invcodec: slower than usual"
    assert "UserWarning" not in result.err


# The same work gives the same file


def test_presets_do_not_depend_on_the_clock(
    cli: Cli, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, steps in {"medium": (40, 16), "fast": (3, 3)}.items():
        monkeypatch.setitem(capacity.STEPS, name, steps)
    command = ("encode", capture, "--frames", "0:3", "--threads", 2)
    files = [tmp_path / name for name in ("a.inv", "b.inv", "cut.inv")]
    for path in files[:2]:
        done = cli(*command, path, "--progress", "json")
        assert done.code == 0, done.err
    whole = files[0].read_bytes()
    assert files[1].read_bytes() == whole
    steps = [json.loads(line)["steps"] for line in done.err.splitlines()]
    # Everything changes in the warm-up frame, and about a tenth of the pixels in the next.
    assert (steps[0], steps[1]) == (40, 16)
    assert 2 <= steps[2] <= 16
    # What was decided for the first frame holds for the rest, whatever would be decided now.
    with Reader(files[0]) as reader:
        first = reader.frames[0]
    files[2].write_bytes(whole[: first.offset + first.length])
    monkeypatch.setitem(capacity.STEPS, "medium", (7, 7))
    monkeypatch.setattr(capacity, "OCCUPANCY", 16)
    assert cli("encode", capture, files[2], "--resume").code == 0
    assert files[2].read_bytes() == whole


def test_limits_in_seconds_end_a_frame_before_its_steps(cli: Cli, capture: Path, tmp_path: Path) -> None:
    limits = ("--steps", 1_000_000, "--key-seconds", "0.2s", "--seconds-per-frame", "100ms")
    done = cli("encode", capture, tmp_path / "a.inv", "--frames", "0:2", *limits, "--progress", "json")
    assert done.code == 0, done.err
    assert [0 < json.loads(line)["steps"] < 1_000_000 for line in done.err.splitlines()] == [True, True]


@pytest.mark.parametrize("last", [9_007_199_254_741, 1_760_000_000_000_000, 1_760_000_000_000_000_000])
def test_image_names_that_are_time_stamps_are_refused_before_any_frame_is_trained(
    cli: Cli, capture: Path, tmp_path: Path, last: int
) -> None:
    # The first of the numbers nearest to the limit would still fit.
    folder, out = tmp_path / "capture", tmp_path / "out.inv"
    shutil.copytree(capture, folder)
    declared = json.loads((folder / "transforms.json").read_text())
    for frame in declared["frames"]:
        old = folder / frame["file_path"]
        new = old.with_name(f"{last - 2 + frame.pop('frame_index')}.png")
        old.rename(new)
        frame["file_path"] = str(new.relative_to(folder))
        frame.pop("timestamp", None)
    (folder / "transforms.json").write_text(json.dumps(declared))
    for command in (("inspect", folder), ("encode", folder, out, "--preset", "draft", "--progress", "json")):
        result = cli(*command)
        assert (result.code, result.out, one_line(result.err)) == (2, "", True)
        assert "out of range for a file" in result.err
    assert list(tmp_path.iterdir()) == [folder]

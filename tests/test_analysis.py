"""`invcodec analyze`: hybrids of two frames, how far layers moved, and its command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from fields import SPACES
from PIL import Image

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import delta_frame, encode_delta, encode_key, key_frame
from invcodec.container.writer import Writer
from invcodec.decoding.analysis import analyze, depth_error
from invcodec.decoding.video import Video
from invcodec.errors import UsageError
from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.metrics import BEST_PSNR
from invcodec.render.networks import Network, Networks


def changed_in(group: str, source: Path, target: Path) -> Path:
    """A file whose frame 0 is the first frame of `source`, and frame 1 the same with other weights of one group."""
    with StateReader(source) as reader, open(target, "wb") as out:
        state = reader.state_at(reader.frames[0].number)
        head = reader.head
        writer = Writer(out, head)
        coded, before = encode_key(head, state.levels, state.qps)
        writer.frame(0, key_frame(before, 0), coded)
        rng = np.random.default_rng(0)
        levels = {
            (network.name, tensor.name): state.levels[network.name, tensor.name]
            + rng.integers(-2, 3, tensor.shape, dtype=np.int32)
            for network in head.networks
            for tensor in network.tensors
            if tensor.group == group and tensor.name != "occupancy" and network.role != "camera-colour"
        }
        coded, after = encode_delta(before, levels)
        writer.frame(1, delta_frame(after, 1000, 0), coded)
        writer.finish(True)
    return target


def test_layers_run_from_input_to_output_in_all_networks_at_once() -> None:
    box = SPACES["box"]
    (*layers,) = Networks([Network("scene", "scene", GridProfile(resolutions=(4, 6)), box)]).layers
    names = ["grid", "density.0", "density.1", "colour.0", "colour.1", "colour.2"]
    assert [layer.name for layer in layers] == names
    assert [layer.group for layer in layers] == 3 * ["structure"] + 3 * ["colour"]
    # What is occupied goes with the tables.
    assert layers[0].tensors == {("scene", "grid.0"), ("scene", "grid.1"), ("scene", "occupancy")}
    # The guide is deeper than what is shown.
    shallow, deep = (NerfProfile(depth=depth, width=8, structure_layers=1) for depth in (2, 3))
    networks = Networks([Network("c", "coarse", deep, box), Network("f", "fine", shallow, box)])
    heads = ["density", "feature", "direction", "rgb"]
    assert [layer.name for layer in networks.layers] == ["layers.0", "layers.1", *heads, "rgb"]
    assert networks.layers[2].tensors == {
        (name, f"{layer}.{suffix}")
        for name, layer in (("f", "density"), ("c", "layers.2"))
        for suffix in ("weight", "bias")
    }
    assert frozenset.union(*(layer.tensors for layer in networks.layers)) == networks.tensors.keys()


def test_the_error_of_depths_is_that_of_their_inverses() -> None:
    deep = np.array([[1.0, 2.0], [4.0, np.inf]], np.float32)
    assert depth_error(deep, deep) == 0
    # 1 + 1/2 + 1/4 was expected.
    assert depth_error(np.full((2, 2), np.inf, np.float32), deep) == 1
    assert depth_error(np.array([[1, 1], [4, 8]], np.float32), deep) == pytest.approx((1 / 2 + 1 / 8) / 1.75)
    assert depth_error(deep, np.full((2, 2), np.inf, np.float32)) is None


@pytest.mark.parametrize("group", ["structure", "colour"])
def test_a_hybrid_is_like_the_frame_whose_changed_layers_it_has(group: str, encoded: Path, tmp_path: Path) -> None:
    with Video(changed_in(group, encoded, tmp_path / "two.inv"), threads=2) as video:
        result = analyze(video, 1, 0, path=True)
        again = video[1].render("cam00")
    assert [layer["moved"] > 0 for layer in result["layers"]] == [layer["group"] == group for layer in result["layers"]]
    for each in result["hybrids"]:
        # The grid's first three layers hold structure.
        same = each["second"] if each["layers"] <= (0 if group == "structure" else 3) else each["first"]
        if each["layers"] in (0, 6) or (group == "structure") == (each["layers"] > 3):
            assert same == {"psnr": BEST_PSNR, "depth_error": 0}
        if group == "colour":
            assert each["first"]["depth_error"] == each["second"]["depth_error"] == 0
    assert result["hybrids"][0]["first"]["psnr"] == result["hybrids"][6]["second"]["psnr"] < 50
    assert [row["number"] for row in result["path"]] == [1]
    # Frames are rendered as before.
    with Video(tmp_path / "two.inv", threads=2) as video:
        np.testing.assert_array_equal(again.rgb, video[1].render("cam00").rgb)


def test_how_far_layers_moved(encoded: Path) -> None:
    with Video(encoded, threads=2) as video:
        result = analyze(video, 1, 3, ["cam01"], path=True)
        weights = [video[number].weights() for number in (1, 2, 3)]
    assert result["cameras"] == ["cam01"]
    assert [row["number"] for row in result["path"]] == [2, 3]
    for position, layer in enumerate(result["layers"]):
        name = f"scene/{layer['name']}."
        flat = [np.concatenate([w[key].ravel() for key in w if key.startswith(name)]) for w in weights]
        for before, after, moved in (
            (0, 2, layer["moved"]),
            *((i, i + 1, row["moved"][position]) for i, row in enumerate(result["path"])),
        ):
            expected = np.linalg.norm(flat[after] - flat[before]) / np.linalg.norm(flat[before])
            assert moved == pytest.approx(expected, rel=1e-5)


def test_the_command_line(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    done = cli("analyze", encoded, "--frames", "1,3", "--layers", "--threads", 2)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "first layers of frame 1, the rest of frame 3, seen from cam00"
    assert lines[2].split()[:2] == ["first", "layers"]
    assert [line.split()[1] for line in lines[3:10]] == [
        "-",
        "grid",
        "density.0",
        "density.1",
        "colour.0",
        "colour.1",
        "colour.2",
    ]
    assert lines[12].split()[0] == "frame"
    assert [line.split()[0] for line in lines[13:]] == ["2", "3"]
    result = json.loads(cli("analyze", encoded, "--frames", "1,3", "--json", "--threads", 2).out)
    assert (result["schema"], result["frames"], "path" in result) == (1, [1, 3], False)
    assert f"{result['hybrids'][1]['second']['psnr']:.2f}" in lines[4]


def test_a_plot_is_a_png(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    given = ("analyze", encoded, "--frames", "1,2", "--layers", "--plot", plot, "--threads", 2)
    assert cli(*given).code == 0
    assert Image.open(plot).format == "PNG"
    again = cli(*given)
    assert (again.code, again.out) == (2, "")
    assert "already exists" in again.err


def test_bad_input_gets_one_line(cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, said in (
        (("--frames", "1,9"), "9"),
        (("--frames", "2,2"), "frames 2 and 2 are the same; name two"),
        (("--frames", "1"), "'1' is not a pair of frames; use 0,40"),
        (("--frames", "1,2", "--camera", "cam99"), "no camera 'cam99'"),
    ):
        done = cli("analyze", encoded, *given)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert said in done.err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = cli("analyze", encoded, "--frames", "1,2", "--plot", tmp_path / "plot.png")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "pip install 'invcodec[plot]'" in done.err
    with Video(encoded, threads=1) as video, pytest.raises(UsageError):
        analyze(video, 0, 1)

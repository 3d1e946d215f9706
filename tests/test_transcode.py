"""Files made smaller without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from files import SPEC

from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.render.networks import build_networks

# The long one takes long.
VALID = [path for path in sorted(SPEC.glob("vectors/valid/*/input.inv")) if path.parent.name != "long"]


def states(path: Path) -> list[State]:
    with StateReader(path) as reader:
        return [reader.state_at(entry.number) for entry in reader.frames]


@pytest.fixture
def made(cli: Cli, encoded: Path, tmp_path: Path) -> Any:
    """Transcodes with some options; gives the path and the report."""

    def make(*options: object, source: Path = encoded, name: str = "small.inv") -> tuple[Path, dict[str, Any]]:
        path = tmp_path / name
        done = cli("transcode", source, "-o", path, "--json", "-f", *options)
        assert done.code == 0, done.err
        return path, json.loads(done.out) | {"err": done.err}

    return make


def test_a_coarser_file_is_smaller_and_nearly_the_same(cli: Cli, encoded: Path, capture: Path, made: Any) -> None:
    path, report = made("--quality", 30)
    assert report["bytes"] == path.stat().st_size < 0.85 * encoded.stat().st_size
    assert report["source_bytes"] == encoded.stat().st_size
    assert 25 < report["psnr"] < 60
    assert cli("verify", path).code == 0
    with StateReader(path) as small, StateReader(encoded) as source:
        assert [(e.number, e.time, e.kind) for e in small.frames] == [(e.number, e.time, e.kind) for e in source.frames]
        assert small.status == source.status == "complete"
        assert [f["bytes"] for f in report["frames"]] == [entry.length for entry in small.frames]
        for a, b in zip(small.frames, source.frames, strict=True):
            one, other = (reader.frame(entry)[0].stats for reader, entry in ((small, a), (source, b)))
            assert (one.stage, one.steps) == (other.stage, other.steps)
            # It would no longer be true.
            assert one.centidecibels is None
        assert small.head.cameras == source.head.cameras
    for one, other in zip(states(path), states(encoded), strict=True):
        for key, weights in other.weights().items():
            error = np.abs(one.weights()[key] - weights)
            if key[1] == "occupancy" or key[0] == "camera-colour":
                assert (error == 0).all(), key
            else:
                # The loop is closed: errors stay within the dead zone, and do not add up.
                assert error.max() <= 0.66 * float(np.float32(2.0 ** (one.qps[key] // 8)) * (8 + one.qps[key] % 8) / 8)
    assert cli("eval", path, capture).code == 0


def test_the_source_s_own_quality_changes_nothing(encoded: Path, made: Any) -> None:
    path, report = made("--quality", 50)
    assert [a.digest() for a in states(path)] == [b.digest() for b in states(encoded)]
    assert report["psnr"] == 100


def test_a_file_of_a_size(encoded: Path, made: Any) -> None:
    asked = round(0.7 * encoded.stat().st_size)
    path, report = made("--target-size", asked)
    assert 0.93 * asked < path.stat().st_size <= asked
    assert report["targets"] == [{"target": "size", "asked": asked, "achieved": path.stat().st_size, "met": True}]
    # Again, from there: the scale of qualities goes on.
    again, second = made("--quality", report["quality"] / 2, source=path, name="again.inv")
    assert again.stat().st_size < path.stat().st_size
    assert second["quality"] == pytest.approx(report["quality"] / 2)


def test_the_smallest_file_of_a_quality(made: Any, encoded: Path) -> None:
    small, report = made("--target-psnr", 34)
    assert report["psnr"] >= 33.9
    assert report["targets"][0]["met"]
    assert small.stat().st_size < encoded.stat().st_size
    assert np.mean([frame["psnr"] for frame in report["frames"]]) == pytest.approx(report["psnr"])


def test_a_largest_frame_and_a_bit_rate(made: Any, encoded: Path) -> None:
    with StateReader(encoded) as reader:
        before = [entry.length for entry in reader.frames if entry.kind == "delta"]
    path, report = made("--max-frame-bytes", max(before) // 3)
    with StateReader(path) as reader:
        assert max(entry.length for entry in reader.frames if entry.kind == "delta") <= max(before) // 3
    assert report["targets"][0]["met"]
    path, report = made("--bitrate", "600k")
    assert path.stat().st_size <= 600_000 / 8 * 2.3
    assert report["targets"][0]["achieved"] <= 600_000


def test_impossible_requests_are_refused_with_the_reason(cli: Cli, encoded: Path, tmp_path: Path, made: Any) -> None:
    path = tmp_path / "out.inv"
    for options, part in [
        ((), "nothing to do"),
        (("--quality", 60), "its quality is 50"),
        (("--quality", 20, "--target-psnr", 30), "are mutually exclusive"),
        (("--target-size", "1k"), "cannot hold 3 frames"),
        (("--max-frame-bytes", 20), "too small"),
    ]:
        done = cli("transcode", encoded, "-o", path, *options)
        assert (done.code, done.err.count("\n")) == (2, 1), options
        assert part in done.err
        assert not path.exists()
    _, report = made("--target-size", "9k")
    assert "target missed: size " in report["err"]
    cut = tmp_path / "cut.inv"
    cut.write_bytes(encoded.read_bytes()[:-300])
    done = cli("transcode", cut, "-o", path, "--quality", 20)
    assert (done.code, "repair it first" in done.err) == (3, True)


@pytest.mark.parametrize("source", VALID, ids=lambda path: path.parent.name)
def test_every_valid_file_can_be_made_smaller_and_keeps_its_integers(source: Path, made: Any) -> None:
    path, _ = made("--quality", 40, "--threads", 1, source=source)
    for one, other in zip(states(path), states(source), strict=True):
        for network in build_networks(one.head):
            for key in [(network.name, spec.name) for spec in network.profile.tensors if spec.exact]:
                np.testing.assert_array_equal(one.levels[key], other.levels[key])

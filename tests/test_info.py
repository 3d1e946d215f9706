"""Descriptions of small files, made without decoding."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints, is_typeddict

import pytest
from conftest import Cli
from files import a_camera

from invcodec.container.frame import FrameHead
from invcodec.container.head import CAMERAS, Head, NetworkInfo, TensorInfo
from invcodec.container.info import Description, describe
from invcodec.container.records import MAGIC, pack_record
from invcodec.container.writer import Writer
from invcodec.errors import DamagedError, UsageError

HEAD = Head(
    frame_rate=Fraction(25, 2),
    time_base=Fraction(1, 1000),
    source_size=(640, 480),
    downscale=2,
    background=(0.0, 0.5, 1.0),
    cameras=(a_camera("left", 320, 240),),
    networks=(
        NetworkInfo(
            "main",
            "scene",
            1,
            "mlp",
            3,
            {"width": 8},
            {"map": "box"},
            (TensorInfo("w", (4, 3), "structure"), TensorInfo("b", (5,), "colour"), TensorInfo("c", (2,), "colour")),
        ),
    ),
    encoder={
        "name": "invcodec",
        "version": "0.1",
        "settings": {"preset": "fast", "key": {"rays": 512, "budget": {"steps": 40, "seconds": None}}},
    },
    units="metres",
)

KEY = {"rays": 512, "steps": 40, "seconds": None}
UNKNOWN = {"rays": None, "steps": None, "seconds": None}


def build(frames: list[tuple[int, str]], *, finish: bool | None = True, head: Head = HEAD, extra: bytes = b"") -> bytes:
    """A file with these frame numbers and kinds. The coded values are junk, not to be decoded."""
    file = io.BytesIO()
    writer = Writer(file, head)
    before = None
    for number, kind in frames:
        key = kind == "key"
        frame = FrameHead(number * 80, None if key else before, b"d" * 8, 1, (0,) * 3 if key else None)
        writer.frame(number, frame, b"j" * (200 if key else 20))
        before = number
    file.write(extra)
    if finish is not None:
        writer._position = file.tell()
        writer.finish(finish)
    return file.getvalue()


def kinds(text: str, numbers: list[int] | None = None) -> list[tuple[int, str]]:
    names = {"k": "key", "d": "delta"}
    return [(n, names[c]) for n, c in zip(numbers or range(len(text)), text, strict=True)]


def info(tmp_path: Path, data: bytes, **options: Any) -> dict[str, Any]:
    path = tmp_path / "file.inv"
    path.write_bytes(data)
    result = describe(path, **options)
    # Plain types throughout.
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    return result


def assert_declared(kind: Any, value: Any) -> None:
    """That all dictionaries of a value have just the keys that their types declare."""
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        assert hints.keys() == value.keys()
        for key, declared in hints.items():
            assert_declared(declared, value[key])
    elif isinstance(value, list):
        for each in value:
            assert_declared(get_args(kind)[0], each)


def test_a_description_has_the_keys_that_its_type_declares(tmp_path: Path) -> None:
    assert_declared(Description, info(tmp_path, build(kinds("kddk")), records=True))


def test_everything_that_is_said_of_a_small_file(tmp_path: Path) -> None:
    data = build(kinds("kddkdd", [3, 4, 5, 6, 7, 8]))
    result = info(tmp_path, data)
    sizes = result.pop("bytes")
    key, delta = sizes["mean_key"], sizes["mean_delta"]
    # Framing, the frame's header, and the junk.
    assert 200 < key < 320
    assert 20 < delta < 140
    assert sizes == {
        "file": len(data),
        "per_frame": len(data) / 6,
        "key": 2 * key,
        "delta": 4 * delta,
        "other": len(data) - 2 * key - 4 * delta,
        "mean_key": key,
        "mean_delta": delta,
    }
    assert result == {
        "schema": 1,
        "file": str(tmp_path / "file.inv"),
        "state": "complete",
        "problems": [],
        "encoder": {"name": "invcodec", "version": "0.1", "preset": "fast", "key": KEY, "later": UNKNOWN},
        "networks": [
            {
                "name": "main",
                "role": "scene",
                "profile": "mlp",
                "profile_id": 1,
                "profile_version": 3,
                "config": {"width": 8},
                "space": {"map": "box"},
                "weights": {"structure": 12, "colour": 7},
            }
        ],
        "weights": 19,
        "cameras": CAMERAS.write([a_camera("left", 320, 240)]),
        "source_size": [640, 480],
        "downscale": 2,
        "background": [0.0, 0.5, 1.0],
        "colour_space": "srgb",
        "units": "metres",
        "frame_rate": [25, 2],
        "frames": {
            "count": 6,
            "first": 3,
            "last": 8,
            "gaps": [],
            "key": 2,
            "key_interval": 3,
            # The last frame has a duration as well: six times 0.08 s.
            "duration": 0.48,
        },
        "bits_per_weight": {"key": 8 * key / 19, "delta": 8 * delta / 19},
        "bit_rate": pytest.approx(8 * len(data) / 0.48),
    }


def test_gaps_are_ranges_of_missing_numbers(tmp_path: Path) -> None:
    frames = info(tmp_path, build(kinds("kdddd", [-2, -1, 1, 5, 6])))["frames"]
    assert (frames["first"], frames["last"], frames["count"]) == (-2, 6, 5)
    assert frames["gaps"] == [[0, 0], [2, 4]]


@pytest.mark.parametrize(
    ("text", "interval"),
    [("kddkddk", 3), ("kkk", 1), ("kdkddk", None), ("kddd", None), ("k", None), ("kdkd", 2)],
)
def test_key_interval_is_given_where_it_is_regular(tmp_path: Path, text: str, interval: int | None) -> None:
    assert info(tmp_path, build(kinds(text)))["frames"]["key_interval"] == interval


def test_a_file_without_frames_has_no_averages(tmp_path: Path) -> None:
    data = build([], finish=None)
    result = info(tmp_path, data)
    assert result["state"] == "open"
    assert (result["frames"]["first"], result["frames"]["last"], result["frames"]["duration"]) == (None, None, 0)
    assert result["bytes"]["other"] == result["bytes"]["file"] == len(data)
    means = (result["bytes"]["per_frame"], result["bytes"]["mean_key"], result["bit_rate"])
    assert means == (None, None, None)
    assert result["bits_per_weight"] == {"key": None, "delta": None}


def test_only_keyframes_leave_the_deltas_open(tmp_path: Path) -> None:
    result = info(tmp_path, build(kinds("kk")))
    assert result["bytes"]["delta"] == 0
    assert result["bits_per_weight"]["delta"] is None
    assert result["bits_per_weight"]["key"] > 0


def test_a_header_of_another_encoder_is_described(tmp_path: Path) -> None:
    odd = {"key": {"rays": "many", "budget": [3]}, "delta": 7}
    for settings in ({}, {"settings": None}, {"settings": "fast"}, {"settings": {}}, {"settings": odd}):
        head = replace(HEAD, background=None, encoder=settings)
        result = info(tmp_path, build(kinds("kd"), head=head))
        assert result["encoder"] == {
            "name": None, "version": None, "preset": None, "key": UNKNOWN, "later": UNKNOWN
        }  # fmt: skip
        assert result["background"] is None


def test_states_and_problems_are_passed_on(tmp_path: Path) -> None:
    data = build(kinds("kddkd"), finish=None)
    assert info(tmp_path, data)["state"] == "open"
    assert info(tmp_path, build(kinds("kd"), finish=False))["state"] == "incomplete"
    cut = info(tmp_path, data[:-1])
    assert (cut["state"], cut["frames"]["count"], len(cut["problems"])) == ("truncated", 4, 1)
    at = info(tmp_path, data, records=True)["records"][2]["offset"] + 40
    damaged = info(tmp_path, data[:at] + b"x" + data[at + 1 :])
    assert (damaged["state"], damaged["frames"]["count"]) == ("damaged", 3)
    assert damaged["frames"]["gaps"] == [[1, 2]]
    assert any("frame 1 is lost" in problem for problem in damaged["problems"])


def test_records_are_listed_on_request(tmp_path: Path) -> None:
    data = build(kinds("kdk", [5, 6, 7]), extra=pack_record(0x9A, 6, b"note"))
    assert "records" not in info(tmp_path, data)
    records = info(tmp_path, data, records=True)["records"]
    assert [r["type"] for r in records] == ["HEAD", "KEY", "DELTA", "KEY", "0x9a", "INDEX", "END"]
    assert [r["frame"] for r in records] == [None, 5, 6, 7, None, None, None]
    # They tile the file.
    at = len(MAGIC)
    for record in records:
        assert record["offset"] == at
        at += record["bytes"]
    assert at == len(data)


def test_records_of_a_damaged_file_are_those_that_are_sound(tmp_path: Path) -> None:
    data = build(kinds("kdk"), finish=None)
    delta = info(tmp_path, data, records=True)["records"][2]
    at = delta["offset"]
    result = info(tmp_path, data[:at] + b"x" + data[at + 1 :], records=True)
    assert [r["type"] for r in result["records"]] == ["HEAD", "KEY", "KEY"]
    assert len(result["problems"]) == 1


def test_what_cannot_be_described_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        describe(tmp_path / "none.inv")
    with pytest.raises(UsageError):
        info(tmp_path, b"no")
    with pytest.raises(DamagedError):
        info(tmp_path, build([])[:20])


def test_describing_loads_neither_torch_nor_numba(tmp_path: Path) -> None:
    path = tmp_path / "file.inv"
    path.write_bytes(build(kinds("kdd")))
    # Also if the frames have to be found by scanning.
    scanned = tmp_path / "scanned.inv"
    scanned.write_bytes(build(kinds("kdd"), finish=None))
    code = (
        "import sys, invcodec\n"
        "for path in sys.argv[1:]: assert invcodec.describe(path, records=True)['frames']['count'] == 3\n"
        "print(sorted({'torch', 'numba', 'PIL'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code, path, scanned], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_times_that_run_backwards_are_described(tmp_path: Path) -> None:
    file = io.BytesIO()
    writer = Writer(file, HEAD)
    for number, time in ((0, 0), (1, -80)):
        writer.frame(number, FrameHead(time, None, b"d" * 8, 1, (0,) * 3), b"")
    info(tmp_path, file.getvalue())


@pytest.mark.parametrize("value", [b"\x00\xff", [b"\x00\xff"], {"deep": [b"\x00\xff"]}])
def test_binary_values_of_unknown_spaces_are_hexadecimal_in_json(cli: Cli, tmp_path: Path, value: Any) -> None:
    network = replace(HEAD.networks[0], profile=70_000, space={"key": value})
    notes = {"name": value, "version": value, "settings": {"preset": value, "key": {"rays": value}}}
    path = tmp_path / "private.inv"
    path.write_bytes(build(kinds("kd"), head=replace(HEAD, networks=(network,), encoder=notes)))
    result = cli("info", path, "--json")
    assert (result.code, result.err) == (0, "")
    described = json.loads(result.out)
    assert "00ff" in json.dumps(described["networks"][0]["space"])
    assert described["encoder"] == {"name": None, "version": None, "preset": None, "key": UNKNOWN, "later": UNKNOWN}
    assert cli("info", path).code == 0


@pytest.mark.parametrize("config", [{}, {"resolutions": []}, {"resolutions": 7, "mood": 3}])
def test_a_network_that_only_calls_itself_a_grid_is_listed(cli: Cli, tmp_path: Path, config: dict[str, Any]) -> None:
    network = replace(HEAD.networks[0], profile=70_000, profile_name="grid", config=config)
    path = tmp_path / "private.inv"
    path.write_bytes(build(kinds("kd"), head=replace(HEAD, networks=(network,))))
    result = cli("info", path)
    assert (result.code, result.err) == (0, "")
    for key, value in config.items():
        assert f"{key} {value}" in result.out

"""HEAD and frame headers: round trips, canonical form, and the right error for everything else."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any

import msgpack
import pytest
from files import a_camera, fields_of, head_payload
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec import limits
from invcodec.container.canonical import pack, packed_size, unpack
from invcodec.container.compressed import compress
from invcodec.container.fields import INTEGER, optional
from invcodec.container.frame import FrameHead, Stats
from invcodec.container.head import CAMERAS, Head, NetworkInfo, TensorInfo
from invcodec.container.records import RecordHeader, RecordType
from invcodec.errors import DamagedError, InvError, LimitError, UnsupportedError
from invcodec.metrics import Fidelity

NETWORK = NetworkInfo(
    "scene",
    "scene",
    1,
    "mlp",
    0,
    {"width": 8},
    {},
    (TensorInfo("w", (2, 3), "structure"), TensorInfo("b", (3,), "colour")),
)
CAMERA = a_camera("left", 64, 48)
HEAD = Head(
    frame_rate=Fraction(30000, 1001),
    time_base=Fraction(1, 90000),
    source_size=(640, 480),
    downscale=2,
    background=(0.0, 0.5, 1.0),
    cameras=(CAMERA,),
    networks=(NETWORK,),
    encoder={"name": "invcodec", "settings": {"preset": "fast"}},
    tags={"title": "é"},
)
FRAME = FrameHead(-3, None, bytes(range(8)), 1, (-16, 4), Stats("all", 300, 3150))
DELTA = FrameHead(40, 7, bytes(range(8)), 1, None)
ELEMENTS = [field.name for field in FrameHead.fields()]


def head_fields() -> dict[str, Any]:
    return fields_of(HEAD)


def frame_fields() -> dict[str, Any]:
    return dict(zip(ELEMENTS, msgpack.unpackb(FRAME.to_bytes()), strict=True))


def parse_frame(fields: dict[str, Any]) -> FrameHead:
    return FrameHead.split(pack(list(fields.values())))[0]


# Canonical form

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=100, deadline=None)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert unpack(pack(value), "it") == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "a key twice, with different values"),
        (b"\x82\xa1a\x01\xa1a\x01", "a key twice, with the same value"),
        (b"\xcc\x05", "5 in 8 bits instead of a fixint"),
        (b"\xcd\x00\xff", "255 in 16 bits"),
        (b"\xcf" + bytes(7) + b"\x80", "128 in 64 bits"),
        (b"\xd0\x05", "5 as a signed integer"),
        (b"\xd0\xff", "-1 in 8 bits instead of a fixint"),
        (b"\xca" + struct.pack(">f", 0.5), "a float of 32 bits"),
        (b"\xd9\x01a", "a short string with a length byte"),
        (b"\xdc\x00\x01\x01", "a short list with a 16-bit length"),
        (b"\xde\x00\x01\xa1a\x01", "a short map with a 16-bit length"),
        (b"\xc5\x00\x01a", "short bytes with a 16-bit length"),
    ],
)
def test_other_spellings_are_damaged(data: bytes, why: str) -> None:
    # These are sound msgpack: only the canonical form refuses them.
    msgpack.unpackb(data)
    with pytest.raises(DamagedError, match="canonical"):
        unpack(data, why)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\x92\x01",
        b"\xa2a",
        b"\xa1\xff",
        b"\x81\x01\x01",
        b"\x81\x90\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd7\xff" + b"\xff" * 8,
        b"\x91" * 100_000 + b"\x01",
        b"\x81\xa1a" * 100_000 + b"\x01",
    ],
)
def test_broken_and_hostile_msgpack_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack(data, "it")


def test_too_many_bytes_exceed_a_limit() -> None:
    with pytest.raises(LimitError, match=str(limits.MAX_HEAD_BYTES)):
        unpack(bytes(limits.MAX_HEAD_BYTES + 1), "it")


# Round trips


def test_a_head_survives() -> None:
    again = Head.from_bytes(HEAD.to_bytes())
    assert again == HEAD
    assert again.to_bytes() == HEAD.to_bytes()
    assert again.weights == 9
    assert again.networks[0].tensors[0].shape == (2, 3)


def test_a_head_without_a_background_survives() -> None:
    fields = head_fields()
    fields["background"] = None
    assert Head.from_bytes(head_payload(fields)).background is None


names = st.text(min_size=1, max_size=20)
tensor_lists = st.lists(
    st.builds(
        TensorInfo,
        names,
        st.lists(st.integers(1, 50), min_size=1, max_size=4).map(tuple),
        st.sampled_from(["structure", "colour"]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda t: t.name,
).map(tuple)
maps = st.dictionaries(st.text(max_size=5), st.integers(0, 99) | st.text(max_size=5), max_size=3)
configs = st.dictionaries(
    st.text(max_size=5), st.integers(-9, 99) | st.lists(st.integers(0, 99), max_size=3), max_size=3
)
networks = st.builds(
    NetworkInfo, names, names, st.integers(0, 2**31 - 1), names, st.integers(0, 9), configs, maps, tensor_lists
)
ratios = st.builds(Fraction, st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))


@given(
    st.builds(
        Head,
        frame_rate=ratios,
        time_base=ratios,
        source_size=st.tuples(st.integers(1, 2**20), st.integers(1, 2**20)),
        downscale=st.integers(1, 16),
        background=st.none() | st.tuples(*[st.floats(0, 1)] * 3),
        cameras=st.lists(
            st.builds(a_camera, names, *[st.integers(1, 16384)] * 2),
            min_size=1,
            max_size=3,
            unique_by=lambda c: c.name,
        ).map(tuple),
        networks=st.lists(networks, min_size=1, max_size=3, unique_by=lambda n: n.name).map(tuple),
        encoder=maps,
        tags=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        units=names,
        colour_space=names,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_head_survives(head: Head) -> None:
    assert Head.from_bytes(head.to_bytes()) == head


def test_a_frame_head_survives() -> None:
    for frame in (
        FRAME,
        DELTA,
        FrameHead(2**53, None, b"d" * 8, 255, ()),
        FrameHead(0, -4, b"d" * 8, 1, None, Stats(steps=4), (CAMERA, replace(CAMERA, name="right"))),
    ):
        for coded in (b"", b"\x97\x00", bytes(3)):
            assert FrameHead.split(frame.to_bytes() + coded) == (frame, coded)


def test_a_delta_needs_few_bytes_for_its_header() -> None:
    assert len(replace(DELTA, time=24_000, reference=23, stats=Stats("lead", 150, 3028, 2514, 54)).to_bytes()) <= 34


# Refusals and their errors

Change = Callable[[dict[str, Any]], Any]


def network(key: str, value: Any) -> Change:
    return lambda fields: fields["networks"][0].update({key: value})


def camera(key: str, value: Any) -> Change:
    return lambda fields: fields["cameras"][0].update({key: value})


def put(key: str, value: Any) -> Change:
    return lambda fields: fields.update({key: value})


def many_networks(fields: dict[str, Any]) -> None:
    fields["networks"] = [{**fields["networks"][0], "name": f"n{i}"} for i in range(limits.MAX_NETWORKS + 1)]


def heavy_networks(fields: dict[str, Any]) -> None:
    # Each is allowed on its own.
    half = [["w", [limits.MAX_WEIGHTS // 2], 0]]
    fields["networks"] = [{**fields["networks"][0], "name": f"n{i}", "tensors": half} for i in range(3)]


def many_cameras(count: int) -> list[dict[str, Any]]:
    return [replace(CAMERA, name=f"c{i}").to_dict() for i in range(count)]


def name_of(size: int) -> str:
    return "é" * (size // 2) + "x" * (size % 2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put("networks", []), DamagedError),
        (put("networks", {}), DamagedError),
        (put("networks", [5]), DamagedError),
        (put("networks", ["scene"]), DamagedError),
        (many_networks, LimitError),
        (heavy_networks, LimitError),
        (lambda f: f["networks"].append(f["networks"][0]), DamagedError),
        (network("name", ""), DamagedError),
        (network("name", 5), DamagedError),
        (network("name", name_of(limits.MAX_NAME_BYTES + 1)), DamagedError),
        (network("role", None), DamagedError),
        (network("profile", 1.0), DamagedError),
        (network("profile", 2**31), DamagedError),
        (network("config", []), DamagedError),
        (network("config", {"samples": 8.0}), DamagedError),
        (network("config", {"resolutions": [8, True]}), DamagedError),
        (network("space", None), DamagedError),
        (network("tensors", []), DamagedError),
        (network("tensors", {}), DamagedError),
        (network("tensors", [5]), DamagedError),
        (network("tensors", [["w", [1]]]), DamagedError),
        (network("tensors", [["w", [], 0]]), DamagedError),
        (network("tensors", [["w", [1] * 5, 0]]), LimitError),
        (network("tensors", [["w", [0], 0]]), DamagedError),
        (network("tensors", [["w", [-4], 0]]), DamagedError),
        (network("tensors", [["w", [2.0], 0]]), DamagedError),
        (network("tensors", [["w", [2], 2]]), DamagedError),
        (network("tensors", [["w", [2], -1]]), DamagedError),
        (network("tensors", [["w", [2], True]]), DamagedError),
        (network("tensors", [["w", [limits.MAX_WEIGHTS + 1], 0]]), LimitError),
        # The product of the dimensions must not wrap around into the limits.
        (network("tensors", [["w", [1 << 27, 1 << 27, 1 << 10, 1], 0]]), LimitError),
        (network("tensors", [["w", [1], 0]] * 2), DamagedError),
        (network("tensors", [[f"w{i}", [1], 0] for i in range(limits.MAX_TENSORS + 1)]), LimitError),
        (put("cameras", []), DamagedError),
        (put("cameras", "left"), DamagedError),
        (put("cameras", [5]), DamagedError),
        (lambda f: f.update(cameras=f["cameras"] * (limits.MAX_CAMERAS + 1)), LimitError),
        (camera("width", 0), DamagedError),
        (camera("height", limits.MAX_IMAGE_SIDE + 1), LimitError),
        (camera("width", 64.0), DamagedError),
        (camera("name", b"left"), DamagedError),
        (camera("matrix", [math.nan]), DamagedError),
        (camera("matrix", [[math.inf]]), DamagedError),
        (put("frame_rate", [0, 1]), DamagedError),
        (put("frame_rate", [30, 0]), DamagedError),
        (put("frame_rate", 30), DamagedError),
        (put("time_base", [1]), DamagedError),
        (put("time_base", [1, 2**31]), DamagedError),
        (put("source_size", [640]), DamagedError),
        (put("source_size", [640, 0]), DamagedError),
        (put("source_size", None), DamagedError),
        (put("downscale", 0), DamagedError),
        (put("background", 5), DamagedError),
        (put("background", [0.5, 0.5]), DamagedError),
        (put("background", [0.5, 0.5, math.nan]), DamagedError),
        (put("encoder", []), DamagedError),
        (put("encoder", {"a": {"b": [-math.inf]}}), DamagedError),
        (put("tags", None), DamagedError),
        (put("units", ""), DamagedError),
        (put("colour_space", 3), DamagedError),
    ],
)
def test_an_unsound_head_is_refused(change: Change, error: type[InvError]) -> None:
    fields = head_fields()
    change(fields)
    with pytest.raises(InvError) as caught:
        Head.from_bytes(head_payload(fields))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("reader", "why"), [(0, "old draft"), (0xA7, "old draft"), (2, "needs format version 2"), (127, "needs format")]
)
def test_other_drafts_are_refused_before_anything_else_is_read(reader: int, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        Head.from_bytes(head_payload({}, reader=reader)[:5])


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:2] + b"text"])
def test_a_head_is_one_whole_zlib_stream(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DamagedError, match=r"zlib|decompressed"):
        Head.from_bytes(change(HEAD.to_bytes()))


def test_a_head_is_never_decompressed_beyond_its_limit() -> None:
    head = HEAD.to_bytes()[:2]
    with pytest.raises(LimitError, match="more than 1048576 bytes"):
        Head.from_bytes(head + compress(bytes(limits.MAX_HEAD_BYTES + 1)))
    with pytest.raises(DamagedError):
        Head.from_bytes(head + compress(bytes(limits.MAX_HEAD_BYTES)))


def test_a_head_takes_half_of_its_fields_bytes() -> None:
    cameras = [replace(CAMERA, name=f"camera {i}", pose=CAMERA.pose + 0.1234567 * i) for i in range(17)]
    head = replace(HEAD, cameras=tuple(cameras))
    assert len(head.to_bytes()) < len(pack(fields_of(head))) / 2


@dataclass(frozen=True)
class LaterStats(Stats):
    """Statistics of a later version, with one more."""

    watts: Annotated[int | None, optional(INTEGER)] = None


def test_older_files_stay_readable_when_a_statistic_is_added() -> None:
    assert LaterStats.from_plain([1, 300]) == LaterStats("all", 300)
    assert LaterStats.from_plain([1, 300, 3150, None, None, None, 60]).watts == 60
    assert LaterStats.from_plain(Stats("all", 300, 3150, 2750, 61, 9).to_plain()).captured == 9


@pytest.mark.parametrize("key", sorted(head_fields()))
def test_a_head_with_a_field_missing_is_damaged(key: str) -> None:
    fields = head_fields()
    del fields[key]
    with pytest.raises(DamagedError):
        Head.from_bytes(head_payload(fields))


def test_limits_themselves_are_allowed() -> None:
    fields = head_fields()
    first = fields["networks"][0]
    fields["networks"] = [
        {**first, "name": f"n{i}", "tensors": [["w", [limits.MAX_WEIGHTS // limits.MAX_NETWORKS], 0]]}
        for i in range(limits.MAX_NETWORKS)
    ]
    fields["networks"][0]["name"] = name_of(limits.MAX_NAME_BYTES)
    fields["cameras"] = many_cameras(limits.MAX_CAMERAS)
    assert Head.from_bytes(head_payload(fields)).weights == limits.MAX_WEIGHTS


def test_a_field_that_a_later_encoder_adds_is_ignored() -> None:
    assert Head.from_bytes(head_payload({**head_fields(), "mood": "bright"})) == HEAD
    assert parse_frame({**frame_fields(), "mood": "bright"}) == FRAME
    said = [*frame_fields()["stats"], None, None, None, {"mood": "bright"}]
    assert parse_frame({**frame_fields(), "stats": said}) == FRAME
    later = parse_frame({**frame_fields(), "stats": [*said[:3], 2750, 61, 1_700_000_000_123, "more"]}).stats
    assert later.captured == 1_700_000_000_123
    assert later.fidelity == Fidelity(31.5, 27.5, 0.061)
    assert parse_frame({**frame_fields(), "stats": [99, 300, 3150]}).stats == replace(FRAME.stats, stage=None)


def test_fields_in_another_order_are_the_same() -> None:
    assert Head.from_bytes(head_payload(dict(reversed(head_fields().items())))) == HEAD


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put("time", 0.5), DamagedError),
        (put("time", None), DamagedError),
        (put("time", 2**53 + 1), DamagedError),
        (put("reference", "7"), DamagedError),
        (put("reference", True), DamagedError),
        (put("reference", 2**63), DamagedError),
        (put("reference", 7), DamagedError),
        (put("digest", bytes(7)), DamagedError),
        (put("digest", bytes(16)), DamagedError),
        (put("digest", "d" * 8), DamagedError),
        (put("coder", 256), DamagedError),
        (put("coder", -1), DamagedError),
        (put("coder", None), DamagedError),
        (put("qps", None), DamagedError),
        (put("qps", 5), DamagedError),
        (put("qps", [0, 65]), DamagedError),
        (put("qps", [-161, 0]), DamagedError),
        (put("qps", [0.0, 0]), DamagedError),
        (put("qps", [True, 0]), DamagedError),
        (put("stats", {}), DamagedError),
        (put("stats", [0.5]), DamagedError),
        (put("stats", [0, 1, 2, math.nan]), DamagedError),
        (put("stats", [0, 1, 2, 3, "many"]), DamagedError),
        (put("stats", [True]), DamagedError),
        (lambda fields: fields.pop("cameras"), DamagedError),
        (put("cameras", 5), DamagedError),
    ],
)
def test_an_unsound_frame_head_is_refused(change: Change, error: type[InvError]) -> None:
    fields = frame_fields()
    change(fields)
    with pytest.raises(InvError) as caught:
        parse_frame(fields)
    assert type(caught.value) is error


@pytest.mark.parametrize("value", [None, 5, "x", b"x", [], {}, [1, 2], True, 0.5])
def test_another_kind_of_value_is_damaged(value: Any) -> None:
    with pytest.raises(DamagedError):
        FrameHead.split(pack(value))
    with pytest.raises(DamagedError):
        Head.from_bytes(head_payload(value))


keys = st.sampled_from([*head_fields(), *frame_fields()])


@given(st.dictionaries(keys, plain), st.sampled_from([True, False]))
@settings(max_examples=120, deadline=None)
def test_fields_of_any_kind_parse_or_raise_an_inv_error(changes: dict[str, Any], is_head: bool) -> None:
    fields = {**(head_fields() if is_head else frame_fields()), **changes}
    try:
        Head.from_bytes(head_payload(fields)) if is_head else parse_frame(fields)
    except InvError:
        return


@pytest.mark.parametrize("cameras", ["abc", [], [5], [{}], {"left": 1}, [replace(CAMERA, width=0).to_dict()]])
def test_an_unsound_camera_list_of_a_frame_is_refused(cameras: Any) -> None:
    with pytest.raises(InvError):
        parse_frame({**frame_fields(), "cameras": cameras})


def test_too_many_cameras_of_a_frame_exceed_a_limit() -> None:
    with pytest.raises(LimitError):
        parse_frame({**frame_fields(), "cameras": many_cameras(limits.MAX_CAMERAS + 1)})


def test_a_frame_must_fit_its_record_and_the_tensors() -> None:
    key, delta = RecordHeader(RecordType.KEY, 0, 8, 100), RecordHeader(RecordType.DELTA, 0, 8, 100)
    FRAME.check_fits(key, HEAD)
    DELTA.check_fits(delta, HEAD)
    for frame, header in ((FRAME, delta), (DELTA, key)):
        with pytest.raises(DamagedError, match="type does not fit its reference"):
            frame.check_fits(header, HEAD)
    for qps in ((), (0,), (0, 0, 0)):
        with pytest.raises(DamagedError, match="every tensor"):
            replace(FRAME, qps=qps).check_fits(key, HEAD)


def test_a_field_in_front_of_others_has_a_size() -> None:
    for value in ([], [1, "x" * 300, b"y", {"a": [None, 0.5]}], {}, 5):
        for behind in (b"", b"\xc1", bytes(9)):
            assert packed_size(pack(value) + behind, "it") == len(pack(value))
    for data in (b"", b"\x92\x01", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x91" * 5000):
        with pytest.raises(DamagedError):
            packed_size(data, "it")
    for data in (b"\xdb\xff\xff\xff\xff", pack([b"x" * limits.MAX_HEAD_BYTES])):
        with pytest.raises(LimitError):
            packed_size(data + bytes(limits.MAX_HEAD_BYTES), "it")


@pytest.mark.parametrize("background", ["abc", ["a", None, {}], {"a": 1, "b": 2, "c": 3}, [2.0, 0.0, -1.0]])
def test_a_background_that_is_no_colour_is_damaged(background: Any) -> None:
    with pytest.raises(DamagedError):
        Head.from_bytes(head_payload({**head_fields(), "background": background}))


@pytest.mark.parametrize("data", [b"\xd4\x05a", b"\xd6\xff\x00\x00\x00\x01", b"\x81\xc4\x01a\x01"])
def test_extension_types_and_keys_that_are_no_text_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack(data, "it")


@pytest.mark.parametrize("tags", [{"title": 5}, {"title": ["a"]}, {"title": None}])
def test_tags_that_are_no_text_are_damaged(tags: dict[str, Any]) -> None:
    with pytest.raises(DamagedError):
        Head.from_bytes(head_payload({**head_fields(), "tags": tags}))


def test_cameras_of_one_name_are_damaged() -> None:
    with pytest.raises(DamagedError):
        Head.from_bytes(head_payload({**head_fields(), "cameras": [CAMERA.to_dict()] * 2}))


def test_what_a_camera_may_leave_out() -> None:
    plain = a_camera("left", 8, 6)
    stored = CAMERAS.write((plain,))[0]
    assert not {"k3", "s4", "fisheye"} & stored.keys()
    assert CAMERAS.read([stored]) == (plain,)
    lens = replace(plain, distortion=(0.1, 0.2, 0.0, 0.0, 0.3), fisheye=True)
    stored = CAMERAS.write((lens,))[0]
    assert (stored["k3"], stored["fisheye"], "k4" in stored) == (0.3, True, False)
    assert CAMERAS.read([stored]) == (lens,)
    for change in ({"k3": 1}, {"fisheye": 0}, {"s1": None}):
        with pytest.raises(DamagedError, match=next(iter(change))):
            CAMERAS.read([{**stored, **change}])

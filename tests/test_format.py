"""FORMAT.md's worked example against the file that it describes, and its tables against the code."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from files import a_camera

from invcodec import limits
from invcodec.coding import entropy
from invcodec.container.fields import Structure
from invcodec.container.frame import STAGES, FrameHead
from invcodec.container.head import CAMERA_FIELDS, Head, NetworkInfo, TensorInfo
from invcodec.container.index import ROW
from invcodec.container.info import describe

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "FORMAT.md").read_text()


def test_the_bytes_of_the_worked_example_are_those_of_its_file() -> None:
    data = (ROOT / "spec" / "vectors" / "valid" / "grid-ndc" / "input.inv").read_bytes()
    rows = re.findall(r"^\| (\d+) \| `((?:[0-9a-f]{2} ?)+)` \|", TEXT, re.MULTILINE)
    assert len(rows) > 20
    for offset, text in rows:
        wanted = bytes.fromhex(text)
        assert data[int(offset) : int(offset) + len(wanted)] == wanted, offset
    assert f"{len(data)} bytes: a keyframe" in TEXT


def test_the_coded_tensor_of_the_worked_example() -> None:
    coder = entropy.RecordCoder(entropy.Statistics())
    coder.tensor(0, (4,), np.array([0, 2, 0, -1], np.int32))
    assert coder.finish() == bytes.fromhex("0e8e3dff80")


def table(heading: str, header: str) -> list[str]:
    """Backquoted names in the second or first column of a table: the one that has the header line, under a heading."""
    section = re.split(r"^#+ ", TEXT.split(f"\n{heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    body = section.split(header)[1].split("\n\n")[0]
    rows = [line.split("|") for line in body.splitlines() if line.startswith("| ")]
    column = header.split("|").index(" field " if " field " in header else " key ")
    return [name for row in rows for name in re.findall(r"`(\w+)`", row[column])]


def names(structure: type[Structure]) -> list[str]:
    return [field.name for field in structure.fields()]


def test_fields_are_those_of_the_tables() -> None:
    assert names(Head) == table("### HEAD", "| key | type | meaning |")
    networks = TEXT.split("A network is a map:")[1]
    assert names(NetworkInfo) == re.findall(r"^\| `(\w+)` \|", networks.split("\n\n")[1], re.MULTILINE)
    assert list(CAMERA_FIELDS) == table("### Cameras", "| key | type | meaning |")
    assert names(FrameHead) == table("### KEY and DELTA", "| element | field | type | meaning |")
    assert list(ROW.names or ()) == table(
        "### INDEX and END", "| field | type | in a row of level 0 | in a row of level 1 |"
    )
    assert f"`[{', '.join(names(TensorInfo))}]`" in TEXT
    assert ", ".join(f"{index} `{stage}`" for index, stage in enumerate(STAGES)) in TEXT


def test_cameras_are_written_as_declared() -> None:
    assert list(a_camera("left", 8, 6).to_dict()) == list(CAMERA_FIELDS)


def test_limits_are_those_that_are_checked() -> None:
    for row in (
        f"| payload of a record | 2^{limits.MAX_RECORD_BYTES.bit_length() - 1} bytes |",
        f"| HEAD, also when it is decompressed; a frame header | 2^{limits.MAX_HEAD_BYTES.bit_length() - 1} bytes |",
        "| INDEX, also when it is decompressed (a larger one does not fit) "
        f"| 2^{limits.MAX_INDEX_BYTES.bit_length() - 1} bytes |",
        f"| frames | 2^{limits.MAX_FRAMES.bit_length() - 1} |",
        f"| cameras | {limits.MAX_CAMERAS} |",
        f"| networks | {limits.MAX_NETWORKS} |",
        f"| tensors of a network | {limits.MAX_TENSORS} |",
        f"| dimensions of a tensor | {limits.MAX_TENSOR_DIMS} |",
        f"| values of a state, all tensors together | 2^{limits.MAX_WEIGHTS.bit_length() - 1} |",
        f"| image side | {limits.MAX_IMAGE_SIDE} pixels |",
        f"| samples and importance samples of a ray, together | {limits.MAX_SAMPLES_PER_RAY} |",
    ):
        assert row in TEXT, row
    assert f"up to {limits.PAGE_FRAMES} rows" in TEXT
    assert f"ticks from -2^{limits.MAX_TICKS.bit_length() - 1} to" in TEXT
    assert f"nested at most {limits.MAX_NESTING} deep" in TEXT


def test_info_has_the_fields_of_its_table() -> None:
    data = ROOT / "spec" / "vectors" / "valid" / "grid-ndc" / "input.inv"
    section = TEXT.split("\n### info as JSON\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE)
    documented = {name: about for names, about in rows for name in re.findall(r"`(\w+)`", names)}
    described = describe(data, records=True)
    assert set(described) == {"schema", *documented}
    assert all(f"`{key}`" in documented["networks"] for key in described["networks"][0])
    for name in ("encoder", "frames", "bytes", "bits_per_weight"):
        assert all(f"`{key}`" in documented[name] for key in described[name]), name


def test_the_annex_names_what_writes_and_reads_each_clause() -> None:
    annex = TEXT.partition("## Annex: implementation")[2]
    names = re.findall(r"`([a-z_0-9]+(?:\.\w+)*)`", annex.partition("|---|")[2])
    assert len(names) > 40
    for name in names:
        resolve_name(f"invcodec.{name}")


def test_the_annex_covers_every_clause() -> None:
    text, _, annex = TEXT.partition("## Annex: implementation")
    clauses = {title.partition(":")[0] for title in re.findall(r"^####? (.+)$", text, re.MULTILINE)}
    covered = set(re.findall(r"\[([^]]+)\]\(#", annex))
    assert clauses - covered == {"Entropy coding", "Levels", "Security"}

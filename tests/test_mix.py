"""`invcodec mix`: integers come from where they are said to come, and what does not fit is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from files import make_vectors
from test_analysis import changed_in

from invcodec.coding.chain import StateReader
from invcodec.editing.mix import mix
from invcodec.editing.verify import verify
from invcodec.errors import UsageError

COLOUR = ("colour.0", "colour.1", "colour.2")


def weights(path: Path, number: int) -> dict[Any, np.ndarray]:
    with StateReader(path) as reader:
        return reader.state_at(number).weights()


def check(
    mixed: Path, number: int, structure: Any, colours: Any, cameras: Any, behind: tuple[str, ...] = COLOUR
) -> None:
    """Compare a frame with those that its structure, its colours and its cameras' exposures are from."""
    for key, value in weights(mixed, number).items():
        source = cameras if key[0] == "camera-colour" else colours if key[1].startswith(behind) else structure
        np.testing.assert_array_equal(value, source[key], err_msg=str(key))


def test_colours_of_one_frame_in_all(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.inv"
    done = cli("mix", encoded, encoded, "--colour-frame", 3, "-o", mixed)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{mixed}: 3 frames, ")
    for number in (1, 2, 3):
        own = weights(encoded, number)
        check(mixed, number, own, weights(encoded, 3), own)
    with StateReader(encoded) as before, StateReader(mixed) as after:
        assert [(e.number, e.time) for e in after.frames] == [(e.number, e.time) for e in before.frames]
        assert after.frames[2].is_key
        assert before.stats_at(1).fidelity is not None
        assert after.stats_at(1).fidelity is None
        assert after.head.encoder.keys() == {"name", "version", "mixed"}
    assert verify(mixed).sound
    assert cli("decode", mixed, "--frame", 1, "-o", tmp_path / "view.png", "--threads", 2).code == 0


def test_structure_of_one_frame_in_all(encoded: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.inv"
    with open(mixed, "wb") as out:
        assert [e.number for e in mix(encoded, encoded, out, frames=(2, 9), structure_frame=1)] == [2, 3]
    for number in (2, 3):
        own = weights(encoded, number)
        check(mixed, number, weights(encoded, 1), own, own)
    with open(mixed, "wb") as out:
        mix(encoded, encoded, out, structure_frame=1, colour_frame=3, layers=1)
    first = weights(encoded, 1)
    check(mixed, 1, first, weights(encoded, 3), first, behind=("density", *COLOUR))


def test_frames_of_two_files_are_joined_by_number(encoded: Path, tmp_path: Path) -> None:
    other, mixed = changed_in("colour", encoded, tmp_path / "other.inv"), tmp_path / "mixed.inv"
    with open(mixed, "wb") as out:
        mix(encoded, other, out, frames=(1, 2))
    own = weights(encoded, 1)
    check(mixed, 1, own, weights(other, 1), own)
    with pytest.raises(UsageError, match="2"):
        mix(encoded, other, io.BytesIO())


def test_what_does_not_fit_is_refused(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    rig = make_vectors.cameras("ndc")
    paths = {}
    for name, network in {
        "grid": make_vectors.grid("ndc"),
        "finer": make_vectors.grid("ndc", samples=13),
        "nerf": make_vectors.nerf("scene", "ndc"),
        "boxed": make_vectors.grid("box"),
    }.items():
        for seed in (1, 2):
            paths[name, seed] = tmp_path / f"{name}{seed}.inv"
            paths[name, seed].write_bytes(
                make_vectors.Maker(make_vectors.header([network], rig), seed).key(0, 0).finish()
            )
    grid = paths["grid", 1]
    mixed = tmp_path / "mixed.inv"
    for given, said in (
        ((grid, paths["grid", 2]), "trained apart"),
        ((grid, paths["finer", 1]), "has samples 13, not 12 as in"),
        ((grid, paths["nerf", 1]), "is of profile nerf, not grid"),
        ((grid, paths["boxed", 1]), "covers another space"),
        ((encoded, encoded, "--layers", 6), "6 layers of structure: choose 1 to 5; the layers are grid, density.0"),
        ((encoded, encoded, "--frames", "7:9"), "no frames in this range"),
        (
            (encoded, encoded, "--frames", "1:3", "--structure-frame", 1, "--colour-frame", 2),
            "give one frame; leave out the range of frames",
        ),
        ((encoded, encoded, "--colour-frame", 9), "9"),
    ):
        done = cli("mix", *given, "-o", mixed)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), said
        assert said in done.err
        assert not mixed.exists()
    damaged = tmp_path / "damaged.inv"
    damaged.write_bytes(encoded.read_bytes()[:-60])
    done = cli("mix", encoded, damaged, "--colour-frame", 1, "-o", mixed)
    assert done.code == 3
    assert "repair it first" in done.err

"""Names that users see: each is declared once, costs nothing to look up, and can be added to from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invcodec import names
from invcodec.capture.capture import open_capture
from invcodec.capture.layouts.registry import load
from invcodec.encoding import capacity, estimate, presets
from invcodec.errors import CaptureError, InvWarning, UnsupportedError, UsageError
from invcodec.field import registry
from invcodec.synth.write import WRITERS

TOY = '''
from dataclasses import replace
from pathlib import Path

from invcodec.capture.layouts.listing import Layout
from invcodec.capture.layouts.registry import load
from invcodec.field.nerf import NerfProfile


class Toy(NerfProfile):
    """A NeRF under another name, as small as one can be."""

    id = 77
    name = "toy"

    def __init__(self, depth=1, width=2, structure_layers=1, samples=4, importance=0, **octaves):
        super().__init__(depth, width, structure_layers, samples=samples, importance=importance, **octaves)


def read(folder, source):
    listing = load("transforms").read(folder / "inside", source)
    return replace(listing, cameras=listing.cameras[1:])


LAYOUT = Layout(lambda folder: list(folder.glob("toy.txt")), read, "toy.txt and a folder 'inside'")
'''


def installed(folder: Path, package: str = "toy_codec", name: str = "toy") -> Path:
    """A package with a toy profile and a toy layout, as pip would install it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[invcodec.layouts]\n{name} = {package}:LAYOUT\n[invcodec.profiles]\n{name} = {package}:Toy\n"
    )
    (folder / f"{package}.py").write_text(TOY)
    return folder


NERF = {"depth": 1, "width": 2, "structure_layers": 1, "position_octaves": 1, "direction_octaves": 1, "samples": 4}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the toy package is installed in."""
    folder = installed(tmp_path / "site")
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("toy_codec", None)


@pytest.fixture
def toy_capture(capture: Path, tmp_path: Path) -> Path:
    """The tiny capture in the toy layout, which leaves out its first camera."""
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / "toy.txt").touch()
    shutil.copytree(capture, folder / "inside")
    return folder


def run(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`invcodec` in a process that has the packages in a folder installed."""
    script = "import sys; from invcodec_cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)})


def test_every_name_has_what_implements_it() -> None:
    assert names.PRESETS.keys() == presets.PRESETS.keys()
    assert tuple(sorted(kind.name for kind in registry.BUILT_IN)) == tuple(sorted(names.PROFILES))
    assert tuple(WRITERS) == names.SYNTH_LAYOUTS
    for name in names.LAYOUTS:
        assert load(name).expects
    assert presets.resolve() == presets.resolve(names.DEFAULT_PRESET, quality=names.DEFAULT_QUALITY)


def test_descriptions_of_presets_state_their_steps() -> None:
    for name, (key, later) in capacity.STEPS.items():
        assert names.PRESETS[name] == f"{key:,} steps, then {later:,} a frame"
    assert f"{presets.PRESETS['paper'].delta.budget.steps:,} steps a frame" in names.PRESETS["paper"]


def test_names_and_help_import_nothing_heavy() -> None:
    heavy = ["numpy", "PIL", "torch", "numba"]
    script = (
        "import sys, invcodec.names\nfrom invcodec_cli import main\n"
        "for command in sys.argv[1:]:\n    assert main([command, '--help']) == 0\n"
        f"assert not set({heavy}) & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, "encode", "inspect", "synth"], check=True, capture_output=True)


def test_a_layout_from_another_package_is_recognised_and_can_be_named(toy: Path, toy_capture: Path) -> None:
    assert names.layouts() == (*names.LAYOUTS, "toy")
    for chosen in (None, "toy"):
        capture = open_capture(toy_capture, layout=chosen)
        assert (capture.layout, capture.source) == ("toy", "images")
        assert [camera.name for camera in capture.cameras] == [f"cam0{index}" for index in range(1, 7)]
        assert next(capture.frames()).images[0].shape == (30, 40, 3)
    (toy_capture / "toy.txt").unlink()
    with pytest.raises(UsageError, match=r"transforms\.json or .*camNN\.mp4 and poses_bounds\.npy or .* or toy\.txt"):
        open_capture(toy_capture)


def test_a_profile_from_another_package_gets_a_presets_schedule(toy: Path) -> None:
    settings = presets.resolve("fast", profile="toy")
    assert [network["profile"] for network in settings.networks] == ["toy"]
    assert settings.delta == presets.resolve("fast").delta
    assert estimate.usual_bytes(settings)[0] > 0


def test_a_name_that_nothing_provides_is_refused_with_those_that_there_are(toy: Path, toy_capture: Path) -> None:
    with pytest.raises(UsageError, match="unknown profile 'mlp'; choose from grid, nerf, image, toy"):
        presets.resolve(profile="mlp")
    with pytest.raises(UsageError, match=r"unknown layout 'mine'; choose from clip, transforms, .*, toy"):
        open_capture(toy_capture, layout="mine")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile and a layout whose package needs something that is not installed; the name of both."""
    folder = installed(tmp_path / "broken-site", "broken_codec", "broken")
    (folder / "broken_codec.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(folder)
    return "broken"


def test_built_in_names_load_no_plug_in(broken: str, capture: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_capture(capture).layout == "transforms"
        for settings in (presets.resolve("fast"), presets.resolve("paper")):
            assert estimate.usual_bytes(settings)[0] > 0
        for kind in registry.BUILT_IN:
            with pytest.raises(UnsupportedError, match="version 99"):
                registry.declared(kind.id, {}, 99)


def test_a_broken_plug_in_is_named_and_skipped(toy: Path, broken: str, toy_capture: Path, tmp_path: Path) -> None:
    reason = "plug-in 'broken' (broken_codec:LAYOUT) cannot be loaded: No module named 'no_such_package'"
    with pytest.warns(InvWarning) as caught:
        assert open_capture(toy_capture).layout == "toy"
    assert [str(each.message) for each in caught] == [f"{reason}; it is ignored"]
    with pytest.warns(InvWarning, match=r"'broken' \(broken_codec:Toy\) cannot be loaded"):
        assert registry.build(77, NERF).name == "toy"
    with pytest.warns(InvWarning), pytest.raises(UnsupportedError, match="unknown profile 78"):
        registry.build(78, {})
    with pytest.warns(InvWarning), pytest.raises(CaptureError, match=r"or toy\.txt and a folder 'inside'$"):
        open_capture(tmp_path)


def test_a_broken_plug_in_that_is_asked_for_is_an_error(broken: str, toy_capture: Path) -> None:
    message = r"plug-in 'broken' \(.*\) cannot be loaded: No module named 'no_such_package'"
    with pytest.raises(UsageError, match=message):
        open_capture(toy_capture, layout=broken)
    with pytest.raises(UsageError, match=message):
        registry.build(broken, {})


def test_the_command_line_offers_what_other_packages_add(tmp_path: Path, toy_capture: Path) -> None:
    site = installed(tmp_path / "site")
    done = run(site, "inspect", toy_capture, "--layout", "toy", "--profile", "toy", "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["layout"], len(summary["cameras"])) == ("toy", 6)
    video = tmp_path / "toy.inv"
    assert run(site, "encode", toy_capture, video, "--profile", "toy", "--steps", 1, "--frames", "0:1").returncode == 0
    assert run(site, "decode", video, "--frame", 0, "-o", tmp_path / "view.png").returncode == 0
    without = run(tmp_path, "decode", video, "--frame", 0, "-o", tmp_path / "none.png")
    assert (without.returncode, "unknown profile 77" in without.stderr) == (4, True)
    refused = run(site, "inspect", toy_capture, "--profile", "mlp")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "'mlp' is not one of 'grid', 'nerf', 'image', 'toy'" in refused.stderr

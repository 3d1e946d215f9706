"""`report`: its numbers, its page in a browser, and names of strangers on it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import Cli, Shared, command
from files import make_vectors, save_video
from hypothesis import given
from hypothesis import strategies as st
from invcodec_cli.page import _across, _bytes_plot, _names, _path, _ticks, _worst
from PIL import Image

from invcodec.decoding.evaluation import FrameEvaluation


@pytest.fixture(scope="module")
def report(shared: Shared, capture: Path, encoded: Path) -> Path:
    """The page about `encoded`."""
    make = lambda folder: command("report", encoded, capture, "-o", folder / "report.html", "--threads", 1)  # noqa: E731
    return shared("report", make) / "report.html"


class Page(HTMLParser):
    """Elements of a page, with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in not in ("script", "style"):
            self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        """The values of an attribute."""
        return [attributes[name] or "" for found, attributes in self.elements if found == tag and name in attributes]

    @property
    def readouts(self) -> list[list[str]]:
        return [json.loads(text) for text in self.all("div", "data-readout")]


def evaluated(cli: Cli, encoded: Path, capture: Path, *options: str) -> dict[str, Any]:
    return json.loads(cli("eval", encoded, capture, "--json", "--threads", 1, *options).out)


def test_numbers_are_those_of_eval(cli: Cli, report: Path, encoded: Path, capture: Path) -> None:
    page = Page(report)
    held_out = evaluated(cli, encoded, capture)
    names = [f"cam{i:02d}" for i in range(1, 7)]
    training = evaluated(cli, encoded, capture, *(word for name in names for word in ("--camera", name)))
    for result, readout in zip((held_out, training), page.readouts, strict=False):
        assert f"{result['mean']['psnr']:.2f} dB" in page.text
        assert f"SSIM {result['mean']['ssim']:.4f}" in page.text
        for row, shown in zip(result["frames"], readout, strict=True):
            figures = list(row["cameras"].values())
            assert f"frame {row['number']}," in shown
            assert f"all pixels {np.mean([each['psnr'] for each in figures]):.2f} dB" in shown
            moving = [each["psnr_moving"] for each in figures if each["psnr_moving"] is not None]
            assert ("moving" in shown) == bool(moving)
            assert not moving or f"moving {np.mean(moving):.2f} dB" in shown
    assert [re.search(r"frame (\d+)", line)[1] for line in page.readouts[-1]] == ["1", "2", "3"]  # type: ignore[index]
    assert [line.count("key, ") for line in page.readouts[-1]] == [1, 0, 1]
    for name in names:
        mean = np.mean([row["cameras"][name]["psnr"] for row in training["frames"]])
        assert re.search(rf"{name}{mean:.2f}", page.text)
    info = cli("info", encoded).out.splitlines()
    for line in info[1:]:
        assert line[10:] in page.text


def test_pictures_are_of_the_first_worst_and_last_frame(cli: Cli, report: Path, encoded: Path, capture: Path) -> None:
    page = Page(report)
    rows = evaluated(cli, encoded, capture)["frames"]
    worst = min(rows, key=lambda row: row["cameras"]["cam00"]["psnr"])["number"]
    labels = re.findall(r"frame (\d), ([a-z, ]+?)\n", page.text)
    assert {label: int(number) for number, text in labels for label in text.split(", ")} == {
        "first": 1,
        "worst": worst,
        "last": 3,
    }
    # The held-out camera, and three of those for training.
    assert len(page.all("img", "src")) == len(labels) * 4 * 3


def test_one_file_of_bounded_size_that_refers_to_nothing(report: Path) -> None:
    page = Page(report)
    assert report.stat().st_size < 200_000
    for name in ("src", "href", "action", "srcset", "data", "poster"):
        for tag in {tag for tag, _ in page.elements}:
            assert all(value.startswith("data:") for value in page.all(tag, name))
    assert "url(" not in report.read_text()
    assert "@import" not in report.read_text()


def test_cameras_are_chosen_and_unknown_ones_refused(cli: Cli, encoded: Path, capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = cli("report", encoded, capture, "--camera", "cam03", "--camera", "cam03", "-o", out, "--threads", 1)
    assert (done.code, done.out.startswith(f"{out}: 3 frames, 1 camera, ")) == (0, True)
    page = Page(out)
    assert "Training cameras" in page.text
    assert "Held-out cameras:" not in page.text
    wrong = cli("report", encoded, capture, "--camera", "cam99", "-o", tmp_path / "no.html")
    assert (wrong.code, "no camera 'cam99'" in wrong.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_outputs_are_not_replaced_unless_asked_and_never_half_written(
    cli: Cli, encoded: Path, capture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")
    refused = cli("report", encoded, capture, "-o", out)
    assert (refused.code, "already exists; use -f" in refused.err) == (2, True)
    missing = cli("report", encoded, tmp_path / "nowhere", "-o", out, "-f")
    assert (missing.code, "nowhere" in missing.err) == (2, True)
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
    assert cli("report", encoded, capture, "--camera", "cam00", "-o", out, "-f", "--threads", 1).code == 0
    assert out.read_text().startswith("<!doctype html>")


def test_lost_frames_are_named(cli: Cli, encoded: Path, capture: Path, tmp_path: Path) -> None:
    records = json.loads(cli("info", encoded, "--records", "--json").out)["records"]
    data = bytearray(encoded.read_bytes())
    data[next(row for row in records if row["frame"] == 3)["offset"] + 100] ^= 1
    broken, out = tmp_path / "broken.inv", tmp_path / "report.html"
    broken.write_bytes(data)
    done = cli("report", broken, capture, "--camera", "cam00", "-o", out, "--threads", 1)
    assert (done.code, "frame 3 is lost" in done.err) == (3, True)
    assert "1 frame cannot be decoded: 3" in Page(out).text
    assert [re.search(r"frame (\d+)", line)[1] for line in Page(out).readouts[-1]] == ["1", "2"]  # type: ignore[index]


def test_a_single_video_has_pictures_and_no_rig(cli: Cli, tmp_path: Path) -> None:
    y, x = np.mgrid[:24, :40]
    clip, file, out = tmp_path / "clip.mp4", tmp_path / "clip.inv", tmp_path / "report.html"
    picture = np.stack([6 * x, 10 * y, x + y], -1).astype(np.uint8)
    save_video(clip, [picture, np.roll(picture, 3, 1)], 10)
    assert cli("encode", clip, file, "--steps", 5, "--threads", 1).code == 0
    done = cli("report", file, clip, "-o", out, "--threads", 1)
    assert (done.code, "2 frames, 1 camera, " in done.out) == (0, True)
    assert "Rig" not in Page(out).text
    assert "2 frames, 200 ms, 1 camera of 40x24" in Page(out).text


HOSTILE = """"><script>owned=1</script><img src=x onerror=owned=1>'{{7*7}}&amp;"""


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """A file and its capture, with names that would take over a page."""
    made_up = enumerate(make_vectors.cameras("ndc", 3))
    rig = tuple(replace(camera, name=f"{i}{HOSTILE}", height=8) for i, camera in made_up)
    head = make_vectors.header([make_vectors.grid("ndc")], rig)
    maker = {"name": HOSTILE, "version": HOSTILE, "settings": {"preset": HOSTILE, HOSTILE: "\u202e</script>"}}
    made = make_vectors.Maker(replace(head, downscale=1, encoder=maker), 0).key(0, 0).delta(1, 40)
    path = tmp_path / "\x1b<b>\u202e.inv"
    path.write_bytes(made.finish())
    capture = tmp_path / "<i>capture"
    capture.mkdir()
    rows = []
    for index, camera in enumerate(rig):
        for number in range(2):
            name = f"{index}-{number}.png"
            Image.new("RGB", (8, 8), (40 * index, 90 * number, 9)).save(capture / name)
            row = {key: value for key, value in camera.to_dict().items() if key in ("fl_x", "fl_y", "cx", "cy")}
            row |= {"file_path": name, "camera": camera.name, "frame_index": number, "w": 8, "h": 8}
            rows.append(row | {"transform_matrix": camera.pose.tolist()})
    (capture / "transforms.json").write_text(json.dumps({"frames": rows}))
    return path, capture


def test_names_of_strangers_are_text(cli: Cli, hostile: tuple[Path, Path], report: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = cli("report", *hostile, "-o", out, "--threads", 1)
    assert done.code == 0, done.err
    page, plain = Page(out), Page(report)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert {name for _, attributes in page.elements for name in attributes} == {
        name for _, attributes in plain.elements for name in attributes
    }
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert f"0{HOSTILE}" in page.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", out.read_text())


def test_ticks_are_round_and_around_all_values() -> None:
    assert _ticks([21.3, 34.9]) == [20, 25, 30, 35]
    assert _ticks([0.8766, 0.8901]) == [0.875, 0.88, 0.885, 0.89, 0.895]


@given(st.lists(st.floats(-100, 100), max_size=5))
def test_ticks_of_any_values(values: list[float]) -> None:
    ticks = _ticks(values)
    assert 2 <= len(ticks) <= 8
    assert all(b > a for a, b in pairwise(ticks))
    assert not values or (ticks[0] <= min(values) + 1e-6 and ticks[-1] >= max(values) - 1e-6)


def test_a_plot_of_many_frames_keeps_the_worst() -> None:
    assert _worst([5, None, 3, 4, None], 2, min) == [5, 3, None]
    rows: list[FrameEvaluation] = [
        {"number": i, "time": i / 30, "kind": "delta" if i % 60 else "key", "bytes": 900, "cameras": {}}
        for i in range(100_000)
    ]
    rows[77_777]["bytes"] = 1_000_000
    plot = _bytes_plot(rows, 250)
    assert len(plot.readout) == 400
    assert sum("1 MB" in line for line in plot.readout) == 1
    assert sum(len(line.path) for line in plot.lines) < 20_000
    assert [text for _, text in _across(rows)] == ["0", "20000", "40000", "60000", "80000"]


def test_a_line_has_gaps() -> None:
    assert _path([0.0, None, 1.0, 0.5]) == "M125.0 1000.0h0M625.0 0.0h0L875.0 500.0"


def test_names_do_not_cover_each_other() -> None:
    shown = _names(["a", "b", "c"], np.array([[0.0, 0], [3, 3], [3, 30]]))
    assert [name for _, _, name in shown] == ["a", "c"]


# in a browser


async def _opened(browser: Browser, path: Path) -> tuple[list[str], list[str]]:
    """Opens a page; the addresses that it requested, and its errors, both of which grow."""
    requested: list[str] = []
    errors: list[str] = []
    for domain in ("Network", "Log", "Runtime", "Page"):
        await browser.call(f"{domain}.enable")

    def listen(method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            requested.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            errors.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
        ):
            errors.append(str(params))

    browser.listen = listen
    await browser.open(path.as_uri())
    await browser.until("document.readyState == 'complete'")
    await browser.until("[...document.images].every(image => image.complete)")
    return requested, errors


@needs_chromium
def test_the_page_in_a_browser(report: Path) -> None:
    async def scenario() -> None:
        async with Browser((1200, 800)) as browser:
            requested, errors = await _opened(browser, report)
            assert await browser.run("[...document.querySelectorAll('main img')].every(i => i.naturalWidth == 40)")
            heights = (
                "[...document.querySelectorAll('.box path:not(.grid)')].map(p => p.getBoundingClientRect().height)"
            )
            drawn = await browser.run(heights)
            # Three curves of either set, two of SSIM, keyframes and others.
            assert len(drawn) == 3 + 3 + 2 + 2
            assert all(height > 1 for height in drawn)
            shown = "[...document.querySelectorAll('.frame')].map(f => f.getBoundingClientRect().height > 0)"
            frames = await browser.run(shown)
            assert frames == [True] + [False] * (len(frames) - 1)
            await browser.run("document.querySelectorAll('.tabs input')[1].click()")
            assert (await browser.run(shown))[:2] == [False, True]
            # What is under the pointer.
            await browser.run("document.querySelector('.box').scrollIntoView({block: 'center'})")
            box = await browser.run(
                "(r => [r.left, r.top, r.width])(document.querySelector('.box').getBoundingClientRect())"
            )
            await browser.mouse("mouseMoved", box[0] + 0.5 * box[2], box[1] + 20)
            await browser.until("document.querySelector('.readout').textContent.startsWith('frame 2, ')")
            # A picture fills the window; keys show the others of its row.
            await browser.run("document.querySelectorAll('.frame')[1].querySelectorAll('.shot button')[1].click()")
            large = "document.querySelector('dialog img')"
            assert await browser.run(f"{large}.alt") == "cam00, decoded"
            assert await browser.run(f"{large}.getBoundingClientRect().height") > 600
            await browser.key("ArrowRight")
            await browser.until(f"{large}.alt == 'cam00, difference'")
            await browser.key("ArrowRight")
            await browser.until(f"{large}.alt == 'cam00, captured' && {large}.naturalWidth == 40")
            await browser.run("[...document.querySelectorAll('dialog button')].at(-1).click()")
            assert not await browser.run("document.querySelector('dialog').open")
            assert [url for url in requested if not url.startswith("data:")] == [report.as_uri()]
            assert errors == []

    asyncio.run(scenario())


@needs_chromium
def test_the_page_follows_the_reader_s_theme_and_fits_a_phone(report: Path) -> None:
    async def scenario() -> None:
        async with Browser((360, 700)) as browser:
            await _opened(browser, report)
            brightness = {}
            for theme in ("light", "dark"):
                chosen = [{"name": "prefers-color-scheme", "value": theme}]
                await browser.call("Emulation.setEmulatedMedia", features=chosen)
                paint = await browser.run(
                    "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
                )
                brightness[theme] = [math.fsum(map(int, re.findall(r"\d+", colour)[:3])) for colour in paint]
            assert brightness["light"][0] > 700 > 100 > brightness["light"][1]
            assert brightness["dark"][0] < 100 < 600 < brightness["dark"][1]
            assert await browser.run("document.documentElement.scrollWidth") == 360

    asyncio.run(scenario())


@needs_chromium
def test_the_page_runs_no_script_but_its_own(report: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        text = report.read_text()
        more = "<script>owned = 1</script><img src=x onerror='owned = 1'><img src='http://127.0.0.1:9/x.png'>"
        changed = tmp_path / "changed.html"
        changed.write_text(text.replace("</main>", f"{more}</main>"))
        async with Browser() as browser:
            _, errors = await _opened(browser, changed)
            assert await browser.run("typeof owned") == "undefined"
            assert await browser.run("typeof enlarge") == "function"
            assert any("Content Security Policy" in error for error in errors)

    asyncio.run(scenario())

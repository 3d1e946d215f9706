"""Ctrl-C at every line of what writes a file: nothing that was finished is lost, and nothing half-done is left."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import invcodec
from invcodec.capture.capture import Capture, Frame, open_capture
from invcodec.capture.live.source import LiveSource, Newest
from invcodec.container.reader import Reader
from invcodec.container.records import RecordType, pack_record
from invcodec.editing.verify import verify
from invcodec.encoding.encode import encode_capture, resume
from invcodec.encoding.live import encode_live
from invcodec.encoding.presets import resolve
from invcodec.encoding.recording import Recording
from invcodec.encoding.settings import Settings
from invcodec.errors import DamagedError, Interrupted
from invcodec.interrupts import deferred, interruptible
from invcodec.output import written
from invcodec.synth.write import write_synthetic

FRAMES = 2
PACKAGE = Path(invcodec.__file__).parent
WRITERS = [
    *(PACKAGE / "encoding" / name for name in ("encode.py", "encoder.py", "recording.py", "live.py")),
    PACKAGE / "container" / "records.py",
    PACKAGE / "output.py",
    PACKAGE / "interrupts.py",
]
"""Modules in which a file is written, named, closed or reopened."""


class _Tracer:
    """Counts the lines of WRITERS that the main thread runs, and sends SIGINT when a chosen one is reached."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.lines: list[tuple[str, int]] = []
        self._files = {str(path) for path in WRITERS}

    def __enter__(self) -> _Tracer:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            if self.at is not None and len(self.lines) == self.at + 1:
                signal.raise_signal(signal.SIGINT)
        return self._line


def points(work: Callable[[], object]) -> list[int]:
    """The first and the last time that each line runs, as counts of lines before it."""
    with _Tracer() as tracer:
        work()
    first = {line: count for count, line in reversed(list(enumerate(tracer.lines)))}
    last = {line: count for count, line in enumerate(tracer.lines)}
    return sorted({*first.values(), *last.values()})


def interrupt(work: Callable[[], object], at: int) -> BaseException | None:
    """Run with Ctrl-C at a point; how it ended."""
    try:
        with _Tracer(at):
            work()
    except (Interrupted, KeyboardInterrupt) as error:
        return error
    finally:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return None


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("interrupts") / "capture"
    write_synthetic(folder, cameras=3, size=(10, 8), frames=FRAMES)
    return open_capture(folder)


def settings() -> Settings:
    quick = resolve("draft", steps=1, threads=1)
    config = {"resolutions": [3, 5], "log2_table": 8, "occupancy": 4, "samples": 8}
    return replace(quick, networks=({**quick.networks[0], "config": config},))


def frames_of(path: Path) -> tuple[str, int]:
    """Status and number of frames of a file, all of which must be sound and none missing."""
    with open(path, "rb") as file:
        found = verify(file, path.name)
    assert found.lost == []
    assert found.problems == []
    assert [entry.number for entry in found.frames] == list(range(len(found.frames)))
    return found.status, len(found.frames)


def assert_nothing_lost(path: Path, folder: Path, *, least: int = 0) -> None:
    """The file is whole and can be continued, or there is none yet; nothing lies beside it."""
    assert [each for each in path.parent.iterdir() if each != path] == []
    if not path.exists():
        assert least == 0
        return
    status, frames = frames_of(path)
    assert frames >= least
    assert status == ("complete" if frames == FRAMES and status == "complete" else "incomplete")
    if status == "incomplete":
        resume(path, folder)
        assert frames_of(path) == ("complete", FRAMES)


@pytest.mark.slow
@pytest.mark.slow
def test_an_encode_can_be_interrupted_at_every_line(capture: Capture, tmp_path: Path) -> None:
    def encode(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        encode_capture(capture, folder / "out.inv", settings())
        return folder / "out.inv"

    ends = set()
    for at in points(lambda: encode("whole")):
        error = interrupt(lambda at=at: encode(str(at)), at)  # type: ignore[misc]
        path = tmp_path / str(at) / "out.inv"
        if error is None:
            assert frames_of(path) == ("complete", FRAMES)
        elif isinstance(error, Interrupted):
            assert error.exit_code == 130
            assert ("--resume" in str(error)) == path.exists()
        ends.add((type(error), path.exists()))
        assert_nothing_lost(path, capture.folder)
    assert {(Interrupted, False), (Interrupted, True)} <= ends


@pytest.mark.slow
@pytest.mark.slow
def test_a_resumed_encode_can_be_interrupted_anywhere(capture: Capture, tmp_path: Path) -> None:
    start = tmp_path / "start.inv"
    one = replace(capture, numbers=range(1))
    encode_capture(one, start, settings())
    whole = tmp_path / "whole.inv"
    encode_capture(capture, whole, settings())
    with Reader(whole) as reader:
        second = reader.frames[1]
    data = whole.read_bytes()[: second.offset]

    def go_on(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "out.inv").write_bytes(data)
        resume(folder / "out.inv", capture.folder)

    for at in points(lambda: go_on("all")):
        interrupt(lambda at=at: go_on(str(at)), at)  # type: ignore[misc]
        path = tmp_path / str(at) / "out.inv"
        status, frames = frames_of(path)
        assert frames >= 1
        # Interrupted before the file was touched, it is as open as it was.
        if status == "open":
            assert path.read_bytes() == data
        if status != "complete":
            resume(path, capture.folder)
        assert frames_of(path) == ("complete", FRAMES)


class Instant(LiveSource):
    """A rig whose frames are there at once."""

    def __init__(self, capture: Capture, frames: list[Frame]) -> None:
        super().__init__("rig", capture.cameras, Fraction(10), capture.source_size, 1)
        self._frames = frames

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        for frame in self._frames:
            while newest._frame is not None and not stop.wait(0.001):
                pass
            newest.put(frame, 0.0)


@pytest.mark.slow
@pytest.mark.slow
def test_a_live_encode_can_be_interrupted_anywhere(capture: Capture, tmp_path: Path) -> None:
    frames = list(capture.frames())

    def live(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        source = Instant(capture, frames)
        encode_live(source, folder / "out.inv", settings(), key_seconds=5, seconds_per_frame=5)

    for at in points(lambda: live("whole"))[::3]:
        error = interrupt(lambda at=at: live(str(at)), at)  # type: ignore[misc]
        path = tmp_path / str(at) / "out.inv"
        assert [each for each in path.parent.iterdir() if each != path] == []
        if isinstance(error, Interrupted):
            assert not path.exists()
        elif path.exists():
            # A recording that is stopped is finished.
            status, count = frames_of(path)
            assert status == "complete"
            assert count >= 1


def test_an_output_appears_whole_or_not_at_all_wherever_it_is_interrupted(tmp_path: Path) -> None:
    def write(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "out.bin").write_bytes(b"old")
        with written(folder / "out.bin", force=True) as output:
            for part in (b"ne", b"w"):
                output.file.write(part)

    ends = set()
    for at in points(lambda: write("whole")):
        interrupt(lambda at=at: write(str(at)), at)  # type: ignore[misc]
        folder = tmp_path / str(at)
        assert [each.name for each in folder.iterdir()] == ["out.bin"]
        content = (folder / "out.bin").read_bytes()
        assert content in (b"old", b"new")
        ends.add(content)
    assert ends == {b"old", b"new"}


def test_ctrl_c_waits_for_the_end_of_what_must_happen_as_a_whole() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _hold_back(done)
    assert done == ["step", "its bookkeeping"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _hold_back(done: list[str]) -> None:
    with deferred():
        signal.raise_signal(signal.SIGINT)
        done.append("step")
        with deferred():
            signal.raise_signal(signal.SIGINT)
        done.append("its bookkeeping")


def test_ctrl_c_comes_through_where_work_can_be_abandoned() -> None:
    done: list[str] = []
    with deferred():
        with pytest.raises(KeyboardInterrupt):
            _abandon(done)
        # What handles an interrupt is safe from the next one.
        with interruptible(), deferred():
            done.append("held")
    assert done == ["before", "held"]


def _abandon(done: list[str]) -> None:
    with interruptible():
        done.append("before")
        signal.raise_signal(signal.SIGINT)
        done.append("after")


def test_an_interrupt_that_was_held_back_arrives_where_work_can_be_abandoned_next() -> None:
    reached = []
    with deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interruptible():
            reached.append(np.nan)
    assert reached == []


def test_a_program_that_handles_or_ignores_the_signal_keeps_doing_so() -> None:
    heard: list[int] = []
    for handler in (lambda number, frame: heard.append(number), signal.SIG_IGN):
        before = signal.signal(signal.SIGINT, handler)
        try:
            with deferred(), interruptible():
                signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_an_interrupt_does_not_hide_an_error() -> None:
    with pytest.raises(OSError, match="no space"):
        _fail_and_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _fail_and_interrupt() -> None:
    with deferred():
        signal.raise_signal(signal.SIGINT)
        raise OSError("no space")


class StalledPipe(io.BytesIO):
    """A pipe that nobody reads any more from some write on, whose writer presses Ctrl-C."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.writes, self.after = 0, after

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.writes += 1
        if self.writes > self.after:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the interrupt was held back while the pipe blocks")
        return super().write(data)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_ctrl_c_ends_an_encode_to_a_pipe_that_nobody_reads(capture: Capture, after: int) -> None:
    pipe = StalledPipe(after)
    with pytest.raises(Interrupted):
        encode_capture(capture, pipe, settings())
    # Nothing follows half a record.
    assert pipe.writes == after + 1


def test_a_file_whose_last_frame_is_wrong_is_not_touched_by_resuming(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "out.inv"
    encode_capture(replace(capture, numbers=range(1)), path, settings())
    data = bytearray(path.read_bytes())
    with Reader(path) as reader:
        entry = reader.frames[0]
        frame, coded = reader.frame(entry)
    wrong = replace(frame, digest=bytes(8)).to_bytes() + coded
    data[entry.offset : entry.offset + entry.length] = pack_record(RecordType.KEY, 0, wrong)
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="digest"):
        Recording.resume(path)
    assert path.read_bytes() == bytes(data)


def test_other_threads_are_not_interrupted() -> None:
    seen: list[str] = []

    def work() -> None:
        with deferred(), interruptible():
            seen.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["worked"]

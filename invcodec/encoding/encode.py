"""A capture to a file, and an interrupted file continued."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

from invcodec.capture.capture import Capture, Frame, open_capture
from invcodec.capture.epipolar import compare, judge
from invcodec.coding.chain import StateReader
from invcodec.container.fields import INTEGER, NAME, Codec, binary, exactly, integer, list_of, optional, read_map
from invcodec.container.reader import Reader
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.plan import check_numbers
from invcodec.encoding.recording import Recording
from invcodec.encoding.report import FrameReport, Progress
from invcodec.encoding.segment import Segment
from invcodec.encoding.settings import Settings
from invcodec.errors import DamagedError, InvError, UsageError
from invcodec.interrupts import deferred, interruptible
from invcodec.names import ALPHAS, Alpha
from invcodec.render import camera_colour


def _alpha(value: Any) -> Alpha:
    if value not in ALPHAS:
        raise DamagedError("not what alpha can mean")
    return value


ORIGIN: dict[str, Codec[Any]] = {
    "layout": NAME,
    "source": optional(NAME),
    "frames": exactly(2, INTEGER),
    "downscale": integer(1, 2**10),
    "holdout": list_of(NAME),
    "alpha": Codec(_alpha),
    "fingerprint": binary(16),
}
"""What identifies a capture, as `origin_of` gives it."""


def encode_capture(
    capture: Capture,
    path: str | os.PathLike[str] | BinaryIO,
    settings: Settings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[FrameReport]:
    """Encode a capture to a file.

    The file appears under its name with its first keyframe; until then an existing one is untouched.

    Args:
        path: of the file, or a file object to write to, such as a pipe.
        force: replace an existing file.

    Raises:
        UsageError: the file exists, or cannot be written; or frame numbers that no file can hold.
        CaptureError: the calibration is of another convention than it was read in, as the pictures of the first frame
            show (`invcodec.capture.epipolar.judge`).
        Interrupted: stopped by Ctrl-C; what was finished is in the file.
    """
    check_numbers(capture.numbers, capture.fps)
    with deferred(), recorded(Recording(path, force=force), progress, len(capture.numbers)) as recording:
        with interruptible():
            origin = _checked(capture)
        return _encode(recording, capture, settings, origin, progress)


def resume(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    outside: bool = False,
    progress: Progress | None = None,
) -> list[FrameReport]:
    """Continue a file whose encoding was cut short; all other options come from the file.

    Args:
        outside: as of `open_capture`.

    Raises:
        UsageError: nothing to resume, or the capture is not the one that the file was made from.
        Interrupted: stopped by Ctrl-C again.
    """
    with Reader(path) as reader:
        head, finished, done = reader.head, reader.status == "complete", len(reader.frames)
    try:
        settings = Settings.from_dict(head.encoder["settings"])
        declared = [network for network in head.networks if network.role != camera_colour.ROLE]
        for asked, there in zip(settings.networks, declared, strict=True):
            same = [asked[key] for key in ("name", "role", "profile")] == [there.name, there.role, there.profile_name]
            if not same or any(there.config[key] != value for key, value in asked["config"].items()):
                raise ValueError("the settings lead to other networks")
        origin = read_map(head.encoder["origin"], ORIGIN)
    except (KeyError, TypeError, ValueError, AttributeError, InvError):
        raise UsageError(f"{path}: was not written by this version's 'encode' and cannot be resumed") from None
    options = {key: origin[key] for key in ("layout", "source", "downscale", "holdout", "alpha")}
    first, stop = origin["frames"]
    capture = open_capture(folder, frames=(first, stop), outside=outside, **options)
    if capture.fingerprint() != origin["fingerprint"]:
        raise UsageError(f"{folder}: is not the capture that {path} was made from (its cameras or pixels differ)")
    if finished:
        raise UsageError(f"{path}: already holds all frames {first}:{stop}; nothing to resume")
    with deferred(), recorded(Recording.resume(path), progress, len(capture.numbers) - done) as recording:
        return _encode(recording, capture, settings, origin, progress)


@contextmanager
def recorded(recording: Recording, progress: Progress | None, frames: int | None) -> Iterator[Recording]:
    """Run a recording with progress, from before the first compilation to the end; call within `deferred`.

    Raises:
        Interrupted: Ctrl-C; the file is closed.
    """
    shown = progress or Progress()
    with recording:
        shown.start(frames)
        try:
            yield recording
        except KeyboardInterrupt:
            raise recording.interrupted() from None
        finally:
            shown.finish()


def encode_first(
    capture: Capture,
    path: str | os.PathLike[str] | BinaryIO,
    settings: Settings,
    *,
    progress: Progress | None = None,
) -> list[FrameReport]:
    """Encode the first frame of a capture, from which `encode_segment` can go on; arguments as of `encode_capture`.

    Raises:
        UsageError: as `encode_capture`.
        Interrupted: stopped by Ctrl-C.
    """
    check_numbers(capture.numbers, capture.fps)
    with deferred(), recorded(Recording(path), progress, 1) as recording:
        with interruptible():
            origin = _checked(capture)
        with _encoder(recording, capture, settings, 1, origin=origin, progress=progress) as encoder:
            return _push(encoder, capture, range(capture.numbers.start, capture.numbers.start + 1))


def encode_segment(
    capture: Capture,
    file: BinaryIO,
    settings: Settings,
    segment: Segment,
    base: StateReader,
    *,
    runs: Sequence[range] = (),
    keep: bool = False,
    progress: Progress | None = None,
) -> list[FrameReport]:
    """Encode a range of a capture's frames into a piece, which begins with a keyframe that starts from a known frame.

    Space, capacity and colour correction are those of the whole capture, so that pieces fit together.

    Args:
        file: to write to.
        settings: as given to `encode_first`, but for targets.
        base: the file that `encode_first` wrote.
        runs: frames to encode, if not all of them.
        keep: the piece's first frame is that of `base` as it is.

    Raises:
        UsageError: the base was made with other settings.
        CaptureError: a frame cannot be read.
        Interrupted: stopped by Ctrl-C.
    """
    origin, first = base.head.encoder.get("origin"), base.frames[-1].number
    runs = runs or [segment.numbers[keep:]]
    frames = keep + sum(len(run) for run in runs)
    with (
        deferred(),
        recorded(Recording(file), progress, frames) as recording,
        _encoder(recording, capture, settings, frames, origin=origin, segment=segment, progress=progress) as encoder,
    ):
        with interruptible(), closing(capture.frames(first, first + 1)) as known:
            there = next(known)
            encoder.start_from(base, there.images, there.masks, keep=keep)
        return [report for run in runs if run for report in _push(encoder, capture, run)]


def _checked(capture: Capture) -> dict[str, Any]:
    """A capture's origin, once its poses are those that its pictures show."""
    origin = origin_of(capture)
    if (poses := compare(capture)) is not None:
        judge(capture, poses)
    return origin


def _encode(
    recording: Recording,
    capture: Capture,
    settings: Settings,
    origin: Mapping[str, Any],
    progress: Progress | None,
) -> list[FrameReport]:
    """Push the remaining frames."""
    with _encoder(recording, capture, settings, len(capture.numbers), origin=origin, progress=progress) as encoder:
        start = capture.last_seen(encoder.frames[-1].number) if encoder.frames else capture.numbers.start
        return _push(encoder, capture, range(start, capture.numbers.stop))


def _encoder(recording: Recording, capture: Capture, settings: Settings, frames: int, **rest: Any) -> Encoder:
    return Encoder(
        recording,
        capture.cameras,
        settings,
        fps=capture.fps,
        source_size=capture.source_size,
        downscale=capture.downscale,
        transparent=capture.transparent,
        points=capture.points,
        frames=frames,
        **rest,
    )


def _push(encoder: Encoder, capture: Capture, numbers: range) -> list[FrameReport]:
    """Push these frames; written ones are only the reference for change detection."""
    reports: list[FrameReport] = []
    with closing(capture.frames(numbers.start, numbers.stop)) as frames:
        while (frame := _next(frames)) is not None:
            if encoder.frames and frame.number <= encoder.frames[-1].number:
                encoder.remember(frame.images, frame.masks)
                continue
            reports.append(encoder.push(frame.images, time=frame.time, number=frame.number, masks=frame.masks))
    return reports


def _next(frames: Iterator[Frame]) -> Frame | None:
    with interruptible():
        return next(frames, None)


def origin_of(capture: Capture) -> dict[str, Any]:
    """Data by which `resume` identifies the capture. Reads a frame, so a broken capture is found before encoding."""
    return {
        "layout": capture.layout,
        "source": capture.source,
        "frames": [capture.numbers.start, capture.numbers.stop],
        "downscale": capture.downscale,
        "holdout": [camera.name for camera in capture.cameras if camera.held_out],
        "alpha": capture.alpha,
        "fingerprint": capture.fingerprint(),
    }

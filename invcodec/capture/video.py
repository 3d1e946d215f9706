"""Reading video files: frames by presentation time, upright, in RGB."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.video.stream import VideoStream

from invcodec.capture.image import check_file
from invcodec.errors import CaptureError
from invcodec.limits import MAX_IMAGE_SIDE

_CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "nut", "ogg", "flv", "ivf", "mxf", "asf")
"""What FFmpeg may take a file for, whatever its name says. Playlists and scripts would open other files and addresses,
and bare streams have no times."""
_NEAR = 0.75
"""How far a frame may be from its time, in frames. Cameras of a varying rate exceed half a frame; where a frame was
dropped, the next one is a whole frame away."""
_BACK = 1.0
"""Seconds by which a seek that went too far is begun earlier; twice as many each time."""
_UNEVEN = 1.5
"""Intervals between frames longer than the median by this factor are gaps, and say nothing about the rate."""


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file holds.

    Attributes:
        path: the file.
        width, height: in pixels, of the upright pictures.
        fps: frames per second.
        stamps: `[N]` int64, the presentation times of all frames in order, in ticks.
        tick: in seconds.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    stamps: np.ndarray
    tick: Fraction

    def length(self, rate: Fraction, start: Fraction = Fraction(0)) -> int:
        """Number of frames at this rate, from `start` seconds after the video's first to the end of its last."""
        last = int(self.stamps[-1] - self.stamps[0]) * self.tick
        return max(round((last + 1 / self.fps - start) * rate), int(start <= last))

    def shown(self, numbers: range, rate: Fraction, start: Fraction = Fraction(0)) -> list[int | None]:
        """The stamp of the frame at each number's time, or None where there is none.

        Args:
            start: time of number 0, in seconds after the first frame.
        """
        ticks = float(1 / (rate * self.tick))
        times = np.arange(numbers.start, numbers.stop) * ticks + float(start / self.tick)
        passed = (self.stamps - self.stamps[0]).astype(np.float64)
        after = np.clip(np.searchsorted(passed, times), 1, len(passed) - 1) if len(passed) > 1 else np.zeros(1, int)
        before = np.maximum(after - 1, 0)
        nearest = np.where(times - passed[before] <= passed[after] - times, before, after)
        there = np.abs(passed[nearest] - times) <= _NEAR * ticks
        return [stamp if near else None for stamp, near in zip(self.stamps[nearest].tolist(), there, strict=True)]


@cache
def probe(path: Path) -> VideoInfo:
    """What a video file holds; all frames' times are read, but only the first picture is decoded.

    Raises:
        CaptureError: the file is missing, is not a readable video, or its frames have no times.
    """
    with _opened(path) as (container, stream):
        stamps, first, untimed = array("q"), None, False
        for packet in container.demux(stream):
            if first is None:
                first = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:
                untimed |= packet.pts is None
                stamps.append(packet.pts or 0)
        if first is None:
            raise CaptureError(f"{path}: holds no frames")
        times = np.unique(np.frombuffer(stamps, np.int64))
        # AVI has times of decoding only, which differ if frames are reordered.
        untimed |= container.format.name == "avi" and stream.codec_context.has_b_frames
        if untimed or first.pts is None or len(times) < len(stamps):
            raise CaptureError(f"{path}: its frames have no times, or the same ones; convert it to mp4 or mkv")
        height, width = Upright(str(path))(first).shape[:2]
        # Frames before the first cannot be decoded: what they refer to was cut off.
        times = times[times >= first.pts]
        assert stream.time_base is not None
        rate = _rate(times, stream.time_base, [stream.average_rate, stream.base_rate, stream.guessed_rate])
        return VideoInfo(path, width, height, rate, times, stream.time_base)


def _rate(stamps: np.ndarray, tick: Fraction, declared: Sequence[Fraction | None]) -> Fraction:
    """Frames per second: a declared rate that agrees with the stamps, else their mean rate, both without gaps."""
    rates = [rate for rate in declared if rate]
    if len(stamps) < 2:
        return rates[0] if rates else Fraction(1)
    steps = np.diff(stamps)
    even = steps[steps <= _UNEVEN * np.median(steps)]
    mean = len(even) / (int(even.sum()) * tick)
    for rate in rates:
        # Over the whole video, the two may differ by half a frame.
        if abs(rate / mean - 1) * len(even) <= 0.5:
            return rate
    return mean.limit_denominator(1001)


def read_video(
    info: VideoInfo,
    numbers: range,
    rate: Fraction,
    start: Fraction = Fraction(0),
    *,
    threads: int = 1,
) -> Generator[np.ndarray | None]:
    """Yield the frames `[H, W, 3]` uint8 of these numbers at this rate; None where there is none.

    Args:
        start: time of number 0, in seconds after the first frame.
        threads: for decoding.

    Raises:
        CaptureError: a frame cannot be decoded.
    """
    upright = Upright(str(info.path))
    wanted = info.shown(numbers, rate, start)
    first = next((stamp for stamp in wanted if stamp is not None), None)
    frames = iter(()) if first is None else _frames_from(info, first, threads)
    frame = next(frames, None)
    for number, stamp in zip(numbers, wanted, strict=True):
        if stamp is None:
            yield None
            continue
        while frame is not None and frame.pts is not None and frame.pts < stamp:
            frame = next(frames, None)
        if frame is None or frame.pts != stamp or frame.is_corrupt:
            raise CaptureError(f"{info.path}: frame {number} is damaged and cannot be decoded")
        image = upright(frame)
        if image.shape[:2] != (info.height, info.width):
            raise CaptureError(
                f"{info.path}: frame {number} is {image.shape[1]}x{image.shape[0]}, "
                f"the first is {info.width}x{info.height}"
            )
        yield image


def all_frames(info: VideoInfo, downscale: int) -> Generator[tuple[float, np.ndarray]]:
    """Yield every frame that can be decoded: seconds after the first one, and the picture `[H, W, 3]` uint8.

    Args:
        downscale: shrink by this integer; rows and columns beyond a multiple of it are cropped.
    """
    upright = Upright(str(info.path), downscale)
    first = int(info.stamps[0])
    for frame in _frames_from(info, first, threads=0):
        image = upright(frame)
        if frame.pts is not None and image.shape[:2] == (info.height // downscale, info.width // downscale):
            yield float((frame.pts - first) * info.tick), image


def _frames_from(info: VideoInfo, stamp: int, threads: int) -> Iterator[av.VideoFrame]:
    """Decoded frames from the one with this stamp on; none if it cannot be decoded."""
    # Some containers seek too far: their index is of decoding times, or they have none. Then from earlier on.
    back, begin = 0, int(info.stamps[0])
    while True:
        place = max(stamp - back, begin)
        with _opened(info.path) as (container, stream):
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            if place > begin:
                container.seek(place, stream=stream)
            decoded = container.decode(stream)
            for frame in decoded:
                if frame.pts is not None and frame.pts >= stamp:
                    if frame.pts == stamp:
                        yield frame
                        yield from decoded
                        return
                    break
        if place == begin:
            return
        back = 2 * back or round(_BACK / info.tick)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_video(path) as container:
        stream = best_video(container)
        if stream is None:
            raise CaptureError(f"{path}: holds no video that can be decoded")
        if max(stream.width, stream.height) > MAX_IMAGE_SIDE:
            raise CaptureError(
                f"{path}: is {stream.width}x{stream.height}, the limit is {MAX_IMAGE_SIDE} pixels per side"
            )
        # Later pictures may be larger than the first; FFmpeg's own limit is eight times as high.
        stream.codec_context.options = {"max_pixels": str(MAX_IMAGE_SIDE**2)}
        yield container, stream


@contextmanager
def open_video(path: Path) -> Iterator[InputContainer]:
    """Open a video file for FFmpeg.

    Raises:
        CaptureError: it cannot be read, also while it is open.
    """
    check_file(path, "video")
    try:
        file = path.open("rb")
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from None
    # FFmpeg gets the open file, not its name, which could mean an address.
    options = {"format_whitelist": ",".join(_CONTAINERS)}
    try:
        # Titles and the like are in any encoding.
        with file, av.open(file, "r", container_options=options, metadata_errors="replace") as container:
            yield container
    except (av.FFmpegError, OSError):
        raise CaptureError(
            f"{path}: cannot be read as a video (broken, or not one of {', '.join(_CONTAINERS)})"
        ) from None


def best_video(container: InputContainer) -> VideoStream | None:
    """The main video, or None if there is none that can be decoded."""
    stream = container.streams.best("video")
    # Of an unknown codec, a stream has no decoder.
    return stream if isinstance(stream, VideoStream) and cast(Any, stream).codec_context is not None else None


class Upright:
    """Converts decoded frames to upright RGB, with the matrix and range that each frame states.

    Args:
        name: of the video, for messages.
        factor: shrink by this integer; rows and columns beyond a multiple of it are cropped.
    """

    def __init__(self, name: str, factor: int = 1) -> None:
        self._name = name
        self._factor = factor
        self._kind: tuple[object, ...] | None = None
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The picture `[H, W, 3]` uint8.

        Raises:
            CaptureError: the frame is to be turned by other than right angles.
        """
        turn = _turn(frame)
        if turn is None:
            raise CaptureError(f"{self._name}: is to be shown at {frame.rotation} degrees, supported are right angles")
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, turn)
        if kind != self._kind:
            self._kind, self._graph = kind, self._build(frame, turn)
        assert self._graph is not None
        self._graph.vpush(frame)
        return self._graph.vpull().to_ndarray()

    def _build(self, frame: av.VideoFrame, turn: tuple[bool, bool, bool]) -> Graph:
        transposed, mirrored, flipped = turn
        filters: list[tuple[str, str]] = []
        if any(turn):
            # Only in RGB does every pixel have a colour of its own.
            filters.append(("format", "rgb24"))
            filters += (
                [("transpose", "cclock_flip")] * transposed + [("hflip", "")] * mirrored + [("vflip", "")] * flipped
            )
        if self._factor > 1:
            width, height = (n // self._factor for n in (frame.width, frame.height)[:: -1 if transposed else 1])
            filters.append(("crop", f"{width * self._factor}:{height * self._factor}:0:0:exact=1"))
            filters.append(("scale", f"{width}:{height}:flags=area"))
        filters.append(("format", "rgb24"))
        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
            ),
            *(graph.add(name, arguments or None) for name, arguments in filters),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Width and height of a decoded frame once it is upright."""
    turn = _turn(frame)
    return (frame.height, frame.width) if turn is not None and turn[0] else (frame.width, frame.height)


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool] | None:
    """How to show a frame: whether to transpose it, then to mirror it (left to right), then to flip it (up to down).

    None if by none of these. Its container's display matrix (ISO/IEC 14496-12, 6.2.2) takes (x, y) to
    (a x + c y, b x + d y).
    """
    matrix = cast(Mapping[str, Any], frame.side_data).get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, np.int32).reshape(3, 3).tolist()
    if (a and d and not b and not c) or (b and c and not a and not d):
        return bool(b), a + c < 0, b + d < 0
    return None

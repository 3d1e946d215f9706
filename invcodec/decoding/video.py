"""Reading .inv files: a `Video` holds `Frame`s, and a frame is rendered from a camera into a `View`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from invcodec.arrays import Array, namespace, on_host, single
from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList, end_of_last
from invcodec.decoding.source import StateSource
from invcodec.errors import UsageError
from invcodec.field.profile import TensorKey
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import camera_named
from invcodec.metrics import to_8_bit
from invcodec.render import camera_colour, make_renderer
from invcodec.render.camera_colour import CameraColour
from invcodec.render.display import displayed
from invcodec.render.networks import build_networks


@dataclass(frozen=True)
class View:
    """A rendered picture.

    >>> import invcodec
    >>> with invcodec.open("spec/vectors/valid/grid-box-transparent/input.inv") as video:
    ...     view = video[0].render("cam00")
    >>> view.rgb.shape, view.alpha.shape, view.depth.shape, view.rgba.shape
    ((6, 8, 3), (6, 8), (6, 8), (6, 8, 4))

    Attributes:
        rgb: `[H, W, 3]` uint8, display-referred sRGB. Straight (not premultiplied) colour if the file's background is
            transparent, else composited over the background.
        alpha: `[H, W]` float32, opacity in [0, 1].
        depth: `[H, W]` float32, z-depth in world units; infinite where the opacity is below one half.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray

    @property
    def rgba(self) -> np.ndarray:
        """`[H, W, 4]` uint8, colour and straight alpha."""
        return np.dstack([self.rgb, to_8_bit(self.alpha)])


@dataclass(frozen=True)
class Frame:
    """One frame of a `Video`. Nothing is decoded until it is asked for.

    >>> import invcodec
    >>> with invcodec.open("spec/vectors/valid/grid-ndc/input.inv") as video:
    ...     frame = video[2]
    ...     view = frame.render(frame.cameras[1])
    ...     weights = frame.weights()
    >>> frame
    <Frame 2: 0.08 s, delta, 110 bytes>
    >>> weights["scene/grid.1"].shape
    (128, 2)

    Attributes:
        video: the video it belongs to, which must be open when the frame is read or rendered.
        entry: its place in the file.
    """

    video: Video
    entry: FrameEntry

    def __repr__(self) -> str:
        return f"<Frame {self.number}: {float(self.time):g} s, {self.kind}, {self.bytes} bytes>"

    @property
    def number(self) -> int:
        """The capture's frame number, as `invcodec decode --frame` takes it."""
        return self.entry.number

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.entry.time

    @property
    def kind(self) -> str:
        """ "key" or "delta"."""
        return self.entry.kind

    @property
    def bytes(self) -> int:
        """Size of its record in the file, framing included."""
        return self.entry.length

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The rig at this frame."""
        return self.video.source.cameras_at(self.number)

    @property
    def stats(self) -> Stats:
        """The encoder's statistics of this frame, as the file records them."""
        return self.video.source.stats_at(self.number)

    def camera(self, name: str) -> Camera:
        """The camera of the rig that has this name.

        Raises:
            UsageError: there is none; the message lists the cameras.
        """
        return camera_named(name, self.cameras, self.video.name)

    def weights(self) -> dict[str, np.ndarray]:
        """Decoded float32 weights of the networks, by `network/tensor`; bit-identical on every machine.

        Raises:
            DamagedError: the frame, or one that it builds on, is damaged.
        """
        state = self.video.source.state_at(self.number).weights()
        return {f"{network}/{tensor}": value for (network, tensor), value in state.items()}

    def render(self, camera: Camera | str, *, neutral_colour: bool = False) -> View:
        """Render the frame.

        Args:
            camera: any pose, or the name of one of the file's cameras. A `Camera` that has the name of one of the
                file's cameras gets that camera's exposure and white balance.
            neutral_colour: keep the scene's own colours, without any camera's exposure and white balance.

        Raises:
            UsageError: no camera has this name.
            DamagedError: the frame, or one that it builds on, is damaged.
        """
        if isinstance(camera, str):
            camera = self.camera(camera)
        return self.video._render(self.number, camera, neutral_colour=neutral_colour)


class Frames(Sequence[Frame]):
    """The frames of a video by position, from 0 to `len - 1`; negative positions count from the end."""

    def __init__(self, video: Video) -> None:
        self._video = video

    def __len__(self) -> int:
        return len(self._video.source.frames)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(self._video, entry) for entry in self._video.source.frames)

    @overload
    def __getitem__(self, position: int) -> Frame: ...
    @overload
    def __getitem__(self, position: slice) -> list[Frame]: ...
    def __getitem__(self, position: int | slice) -> Frame | list[Frame]:
        found = self._video.source.frames[position]
        if isinstance(found, FrameEntry):
            return Frame(self._video, found)
        return [Frame(self._video, entry) for entry in found]


class Video:
    """An open .inv file.

    Frames are found by *number*, the one that the capture gave them and that `invcodec decode --frame` takes. Numbers
    need not begin at 0 and may have gaps, so they are not positions: `video.frames` has the frames by position.

    >>> import invcodec
    >>> with invcodec.open("spec/vectors/valid/gaps-and-uneven-times/input.inv") as video:
    ...     print(len(video), [frame.number for frame in video])
    ...     print(video[100])  # by number
    ...     print(video[0:101])  # numbers from 0 to 100, as `--frames 0:101`
    ...     print(video.frames[2])  # by position
    ...     print(video.at(0.0075))  # on screen at a time in seconds
    ...     print(1 in video)
    4 [-3, 0, 100, 1099511627776]
    <Frame 100: 0.008 s, delta, 86 bytes>
    [<Frame 0: 0.007 s, delta, 106 bytes>, <Frame 100: 0.008 s, delta, 86 bytes>]
    <Frame 100: 0.008 s, delta, 86 bytes>
    <Frame 0: 0.007 s, delta, 106 bytes>
    False

    Args:
        source: path or http address of the file, or another source of its frames, which `close` closes; if this
            constructor raises, such a source stays open.
        device: where to render: "auto", "cpu" or "cuda".
        threads: to render with on the CPU; all cores if None.

    Attributes:
        source: where the frames come from.
        frames: the frames by position.
        networks: that the file declares.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: see `invcodec.errors`.
    """

    def __init__(
        self, source: str | os.PathLike[str] | StateSource, *, device: str = "auto", threads: int | None = None
    ) -> None:
        self.source: StateSource = StateReader(source) if isinstance(source, (str, os.PathLike)) else source
        self.frames: Sequence[Frame] = Frames(self)
        try:
            self.networks = build_networks(self.head)
            self._renderer = make_renderer(self.networks, device=device, threads=threads)
        except BaseException:
            if self.source is not source:
                self.source.close()
            raise
        self._loaded: int | None = None
        self._shown: State | None = None
        self._colour: CameraColour | None = None

    def __repr__(self) -> str:
        return f"<Video {self.name}: {len(self)} frames, {self.status}>"

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    @property
    def name(self) -> str:
        """Path or address, as it was given."""
        return self.source.name

    @property
    def path(self) -> Path:
        """Path or address; outputs are named after its stem."""
        return self.source.path

    @property
    def head(self) -> Head:
        """All that the file's header declares."""
        return self.source.head

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The rig as the header has it; `Frame.cameras` is where its cameras are at a frame."""
        return self.head.cameras

    @property
    def frame_rate(self) -> Fraction:
        """Nominal frames per second; `Frame.time` has the time of each frame."""
        return self.head.frame_rate

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last one, exact; 0 if there are no frames."""
        if not self.frames:
            return Fraction(0)
        return end_of_last(self.frames[-1].time, self.frame_rate) - self.frames[0].time

    @property
    def transparent(self) -> bool:
        """Whether the background is transparent."""
        return self.head.background is None

    @property
    def status(self) -> str:
        """Whether the file is whole; see `invcodec.container.reader.Reader`."""
        return self.source.status

    @property
    def problems(self) -> Sequence[str]:
        """One line for each defect of the file."""
        return self.source.problems

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.source.size

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __contains__(self, number: object) -> bool:
        """Whether there is a frame with this number."""
        return isinstance(number, int) and self.source.frames.position(number) is not None

    @overload
    def __getitem__(self, number: int) -> Frame: ...
    @overload
    def __getitem__(self, number: slice) -> list[Frame]: ...
    def __getitem__(self, number: int | slice) -> Frame | list[Frame]:
        """The frame with this number, or all frames whose numbers are in a range `first:stop`.

        Raises:
            FrameNotFoundError: no frame has this number; the message names the neighbours. It is a `UsageError` and a
                `KeyError`. A range that holds no frame gives an empty list instead.
            UsageError: a range with a step.
        """
        if not isinstance(number, slice):
            return Frame(self, self.source.entry(number))
        if number.step is not None:
            raise UsageError(f"{self.name}: a range of frame numbers takes no step; use video.frames[::step]")
        return [Frame(self, entry) for entry in self.source.frames.numbered(number.start, number.stop)]

    def at(self, seconds: Fraction | float) -> Frame:
        """The frame on screen at a time.

        Raises:
            UsageError: before the first frame, or after the end of the last one.
        """
        return Frame(self, self.source.frames.ask(lambda frames: self._shown_at(seconds, frames)))

    def _shown_at(self, seconds: Fraction | float, frames: FrameList) -> FrameEntry:
        if not frames:
            raise UsageError(f"{self.name}: holds no frames")
        start, end = frames[0].time, end_of_last(frames[-1].time, self.frame_rate)
        if not start <= seconds < end:
            raise UsageError(
                f"{self.name}: nothing is on screen at {float(seconds):g} s; "
                f"the file runs from {float(start):g} to {float(end):g} s"
            )
        return frames[frames.at(seconds)]

    def render_weights(
        self, weights: Mapping[TensorKey, np.ndarray], camera: Camera, *, neutral_colour: bool = False
    ) -> View:
        """Render with weights that need not be those of a frame.

        Args:
            weights: float32, of all tensors.
            camera, neutral_colour: as for `Frame.render`.
        """
        self._loaded = self._shown = None
        self._load(weights)
        return self._picture(camera, neutral_colour=neutral_colour)

    def _render(self, number: int, camera: Camera, *, neutral_colour: bool) -> View:
        if self._loaded != number:
            state = self.source.state_at(number)
            self._load(state.weights(self._shown))
            self._loaded, self._shown = number, state
        return self._picture(camera, neutral_colour=neutral_colour)

    def _load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        """Replace weights of the networks and of the cameras' colours."""
        scene, self._colour = camera_colour.split(self.head, weights, self._colour)
        self._renderer.load(scene)

    def _picture(self, camera: Camera, *, neutral_colour: bool) -> View:
        background = np.zeros(3) if self.head.background is None else np.array(self.head.background)
        colour = None if neutral_colour else self._colour
        # A hostile file may hold any cameras and weights: let values overflow, `displayed` makes colours of them.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts = list(self._render_strips(camera, background, colour))
        rgb, alpha, depth = (np.concatenate([on_host(a) for a in arrays]) for arrays in zip(*parts, strict=True))
        shape = (camera.height, camera.width)
        return View(rgb.reshape(*shape, 3), alpha.reshape(shape), depth.reshape(shape))

    def _render_strips(
        self, camera: Camera, background: np.ndarray, colour: CameraColour | None
    ) -> Iterator[tuple[Array, Array, Array]]:
        """Colour `[N, 3]` uint8, opacity `[N]` and depth `[N]` of strips of rows, top to bottom, on the device."""
        renderer, space = self._renderer, self.networks.space
        rows = max(1, renderer.rays_at_once // camera.width)
        known = colour.index(camera.name) if colour else None
        for top in range(0, camera.height, rows):
            centres = camera.centres(range(top, min(top + rows, camera.height)), renderer.place)
            rays = space.march(*camera.rays(centres))
            pixels = renderer.render(rays, background)
            rgb = displayed(pixels, transparent=self.transparent, colour=colour, camera=known, place=renderer.place)
            s = pixels.s
            depth = namespace(s).where(s < 1, space.depth(s, rays), np.inf)
            yield rgb, pixels.opacity, single(depth)


def open(path: str | os.PathLike[str], *, device: str = "auto", threads: int | None = None) -> Video:
    """Open an .inv file for reading.

    >>> import invcodec
    >>> with invcodec.open("spec/vectors/valid/grid-ndc/input.inv") as video:
    ...     for frame in video:
    ...         view = frame.render(video.cameras[0])
    >>> video.frame_rate, video.duration, view.rgb.shape
    (Fraction(25, 1), Fraction(3, 25), (6, 8, 3))

    Args:
        path: of the file, or its http address, from which only what is needed is fetched.
        device, threads: as for `Video`.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: see `invcodec.errors`.
    """
    return Video(path, device=device, threads=threads)

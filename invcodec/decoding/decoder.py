"""Random access to a file's frames, and pictures of them from any pose."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from invcodec.arrays import Array, namespace, on_host, single
from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.metrics import to_8_bit
from invcodec.render import camera_colour, make_renderer
from invcodec.render.camera_colour import CameraColour
from invcodec.render.networks import build_networks


@dataclass(frozen=True)
class View:
    """A rendered picture.

    Attributes:
        rgb: `[H, W, 3]` uint8, display-referred sRGB. Straight colour where the background is transparent, else
            composited over the background.
        alpha: `[H, W]` float32, opacity.
        depth: `[H, W]` float32, z-depth in world units; infinite where less than half of the light is stopped.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray


class FrameSource(Protocol):
    """Frames of a file, however they are read. See `invcodec.container.reader.Reader`."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def head(self) -> Head: ...
    @property
    def frames(self) -> list[FrameEntry]: ...
    @property
    def status(self) -> str: ...
    @property
    def problems(self) -> list[str]: ...
    @property
    def size(self) -> int: ...
    def entry(self, number: int) -> FrameEntry: ...
    def state_at(self, number: int) -> State: ...
    def cameras_at(self, number: int) -> tuple[Camera, ...]: ...
    def close(self) -> None: ...


class Decoder:
    """An open .inv file.

    Args:
        path: of the file, its address, or what reads its frames in another way.
        device: where to render: "auto", "cpu", "cuda".
        threads: to use on the CPU; all cores if None.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: see `invcodec.errors`.
    """

    def __init__(
        self, path: str | os.PathLike[str] | FrameSource, *, device: str = "auto", threads: int | None = None
    ) -> None:
        self.reader: FrameSource = StateReader(path) if isinstance(path, (str, os.PathLike)) else path
        self._networks = build_networks(self.reader.head)
        self._engine = make_renderer(self._networks, device=device, threads=threads)
        self._loaded: int | None = None
        self._colour: CameraColour | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()

    @property
    def head(self) -> Head:
        return self.reader.head

    @property
    def frames(self) -> list[FrameEntry]:
        return self.reader.frames

    @property
    def status(self) -> str:
        """See `invcodec.container.reader.Reader`."""
        return self.reader.status

    @property
    def transparent(self) -> bool:
        return self.head.background is None

    def entry(self, number: int) -> FrameEntry:
        """The frame with this number; `UsageError` names the neighbours if there is none."""
        return self.reader.entry(number)

    def at_time(self, seconds: Fraction | float) -> FrameEntry:
        """The frame on screen at a time.

        Raises:
            UsageError: before the first frame, or after the last one has ended.
        """
        if not self.frames:
            raise UsageError(f"{self.reader.name}: holds no frames")
        first, last = self.frames[0], self.frames[-1]
        end = last.time + 1 / self.head.frame_rate
        if not first.time <= seconds < end:
            raise UsageError(
                f"{self.reader.name}: nothing is on screen at {float(seconds):g} s; "
                f"the file runs from {float(first.time):g} to {float(end):g} s"
            )
        return self.frames[bisect_right([entry.time for entry in self.frames], seconds) - 1]

    def cameras(self, number: int | None = None) -> tuple[Camera, ...]:
        """The rig at a frame, or as the header has it."""
        return self.head.cameras if number is None else self.reader.cameras_at(number)

    def weights(self, number: int) -> dict[str, np.ndarray]:
        """Decoded float32 weights of a frame, by `network/tensor`; bit-identical on every machine."""
        state = self.reader.state_at(number).weights()
        return {f"{network}/{tensor}": value for (network, tensor), value in state.items()}

    def render(self, number: int, camera: Camera, *, neutral_colour: bool = False) -> View:
        """Render a frame from a camera.

        Args:
            camera: any pose. If its name is that of one of the file's cameras, the picture gets that camera's
                exposure and white balance.
            neutral_colour: leave the picture in the scene's own colours.
        """
        if self._loaded != number:
            weights, self._colour = camera_colour.split(self.head, self.reader.state_at(number).weights())
            self._engine.load(weights)
            self._loaded = number
        background = np.zeros(3) if self.head.background is None else np.array(self.head.background)
        colour = None if neutral_colour else self._colour
        # Cameras and weights of a hostile file may be anything; what overflows is shown as it comes out.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts = list(self._render_parts(camera, background, colour))
        rgb, alpha, depth = (np.concatenate([on_host(a) for a in arrays]) for arrays in zip(*parts, strict=True))
        shape = (camera.height, camera.width)
        return View(rgb.reshape(*shape, 3), alpha.reshape(shape), depth.reshape(shape))

    def _render_parts(
        self, camera: Camera, background: np.ndarray, colour: CameraColour | None
    ) -> Iterator[tuple[Array, Array, Array]]:
        """Pictures, opacities and depths of some rows after the other, wherever the engine computes."""
        engine, space = self._engine, self._networks.space
        rows = max(1, engine.rays_at_once // camera.width)
        known = colour.index(camera.name) if colour else None
        for top in range(0, camera.height, rows):
            centres = camera.centres(range(top, min(top + rows, camera.height)), engine.place)
            rays = space.march(*camera.rays(centres))
            pixels = engine.render(rays, background)
            rgb, alpha, s = pixels.rgb, pixels.opacity, pixels.s
            if self.transparent:
                rgb = rgb / alpha.clip(min=1e-4)[:, None]
            if colour is not None and known is not None:
                rgb = colour.apply(rgb, known, engine.place)
            depth = namespace(s).where(s < 1, space.depth(s, rays), np.inf)
            yield to_8_bit(rgb), alpha, single(depth)


def open_file(path: str | os.PathLike[str], *, device: str = "auto", threads: int | None = None) -> Decoder:
    """Open an .inv file; see `Decoder`."""
    return Decoder(path, device=device, threads=threads)

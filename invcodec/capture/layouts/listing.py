"""What a layout reads out of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from invcodec.geometry.camera import Camera

Source = Literal["images", "videos"]


@dataclass(frozen=True)
class Stream:
    """What a camera films now.

    Attributes:
        url: as ffmpeg's -i takes it.
        options: of ffmpeg, before -i.
        offset: added to its time stamps, in seconds.
        arrival: whether its time stamps are the times at which frames arrive, rather than the stream's own.
    """

    url: str
    options: tuple[str, ...] = ()
    offset: float = 0.0
    arrival: bool = False


@dataclass(frozen=True)
class CameraFiles:
    """One camera and where its images are: a video, or a picture for each frame number.

    Attributes:
        camera: at the size that the calibration was made for.
        images: picture by frame number.
        masks: mask picture by frame number, or under None one mask for all frames; black is ignored.
        stream: where its images come from while it films, or None.
    """

    camera: Camera
    video: Path | None = None
    images: Mapping[int, Path] = field(default_factory=dict)
    masks: Mapping[int | None, Path] = field(default_factory=dict)
    stream: Stream | None = None


@dataclass(frozen=True)
class Listing:
    """A capture as its folder declares it.

    Attributes:
        cameras: in order.
        fps: frames per second, or None where only the videos know.
        rescale: whether a calibration made for another image size may be scaled to the images' own.
    """

    cameras: tuple[CameraFiles, ...]
    fps: Fraction | None
    source: Source
    rescale: bool = False

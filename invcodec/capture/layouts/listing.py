"""Interface of layouts, and the listing that they read from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from invcodec.geometry.camera import Camera
from invcodec.geometry.convention import OPENGL, Convention
from invcodec.names import Source


@dataclass(frozen=True)
class Stream:
    """A live camera's video stream.

    Attributes:
        url: what FFmpeg opens.
        format: FFmpeg's name of its format, or None to have it recognised.
        options: FFmpeg's input options by name.
        offset: seconds added to the camera's timestamps.
        arrival: use the times at which frames arrive instead of the stream's own timestamps.
        played: whether it is a file, which stands in for a camera and is read in real time.
    """

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    offset: float = 0.0
    arrival: bool = False
    played: bool = False


@dataclass(frozen=True)
class CameraFiles:
    """A camera and its images: a video, or an image file per frame number.

    Attributes:
        camera: at the image size that it was calibrated for.
        images: image files by frame number.
        masks: mask images by frame number, or under None one mask for all frames; black pixels are ignored.
        stream: the live stream, if it is a live camera.
        start: where frame 0 is in the video, in seconds after its first frame.
    """

    camera: Camera
    video: Path | None = None
    images: Mapping[int, Path] = field(default_factory=dict)
    masks: Mapping[int | None, Path] = field(default_factory=dict)
    stream: Stream | None = None
    start: Fraction = Fraction(0)


@dataclass(frozen=True)
class Listing:
    """A capture as its folder, or file, declares it.

    Attributes:
        cameras: in order.
        fps: frames per second, or None if only the videos tell.
        source: what the frames are stored as.
        rescale: whether a calibration for another image size may be scaled to the size of the images.
        flat: whether it is one camera's pictures, and not a scene that several cameras see.
        uncalibrated: whether cameras are but names, and take the size of their pictures.
    """

    cameras: tuple[CameraFiles, ...]
    fps: Fraction | None
    source: Source
    rescale: bool = False
    flat: bool = False
    uncalibrated: bool = False


def existing(folder: Path, *names: str) -> list[Path]:
    """These files, if a folder has all of them; else none."""
    paths = [folder / name for name in names]
    return paths if all(path.exists() for path in paths) else []


@dataclass(frozen=True)
class Layout:
    """A way to lay out a capture in a folder, or in one file.

    Attributes:
        files: the files of a folder that describe it, of whatever kind they are; none if it is not of this layout. They
            are checked before they are read: they must be regular files in the folder.
        read: everything that a folder declares, from images or videos as requested (None: either, images first);
            raises CaptureError. Images and videos themselves are checked later.
        expects: the files that make up this layout, for error messages.
        convention: of its poses; None without any.
    """

    files: Callable[[Path], Sequence[Path]]
    read: Callable[[Path, Source | None], Listing]
    expects: str
    convention: Convention | None = OPENGL

"""Names, ranges and defaults that users see, each declared once.

This is plain data, so the command line can offer it without importing what implements it. Other packages extend
profiles and layouts through entry points.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from invcodec.errors import InvWarning, UsageError

PRESETS = {
    "draft": "400 steps, then 60 a frame",
    "fast": "1,200 steps, then 140 a frame",
    "medium": "3,000 steps, then 300 a frame",
    "slow": "10,000 steps, then 1,000 a frame",
    "paper": "as published: 10,000 steps a frame",
}
"""Presets, each with a one-line description; `invcodec.encoding.presets` holds their settings."""
DEFAULT_PRESET = "medium"
LIVE_KEY_SECONDS, LIVE_FRAME_SECONDS = 30.0, 2.0
"""Default deadlines of live encoding, of the first frame and of every later one."""

PROFILES = ("grid", "nerf", "image")
"""Built-in network profiles; `invcodec.field.registry` holds their classes."""
PROFILE_GROUP = "invcodec.profiles"
"""Entry-point group of further profiles. An entry is named like its profile and refers to the class."""

LAYOUTS = (
    "clip",
    "transforms",
    "transforms_per_frame",
    "dnerf",
    "n3dv",
    "colmap",
    "opencv",
    "aniposelib",
    "metashape",
    "realitycapture",
    "actorshq",
    "kalibr",
    "technicolor",
    "immersive",
    "qualisys",
)
"""Built-in capture layouts in order of preference; each is a module of `invcodec.capture.layouts`."""
LAYOUT_GROUP = "invcodec.layouts"
"""Entry-point group of further layouts. An entry refers to an `invcodec.capture.layouts.listing.Layout`."""

Source = Literal["images", "videos"]
"""Storage of a capture's frames."""
SOURCES: tuple[Source, ...] = get_args(Source)
"""In order of preference."""

Alpha = Literal["mask", "matte", "ignore"]
"""What the pixels of a capture mean that its alpha or masks leave empty."""
ALPHAS: tuple[Alpha, ...] = get_args(Alpha)

Evidence = Literal["sound", "motion"]
"""What tells when videos began."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

Scene = Literal["still", "moving", "repainted", "changing"]
"""A synthetic scene."""
SCENES: tuple[Scene, ...] = get_args(Scene)
RigKind = Literal["arc", "ring", "dome"]
"""How the cameras of a synthetic capture stand."""
RIG_KINDS: tuple[RigKind, ...] = get_args(RigKind)
SYNTH_LAYOUTS = ("transforms", "n3dv")
"""Layouts that a synthetic capture can be written in."""

DEFAULT_QUALITY = 50.0
DEFAULT_KEY_EVERY = 60
"""Most frames from one keyframe to the next. At 128x96 (8 training cameras, one core) a keyframe decoded in 42 ms and a
later frame in 8.9 ms, so the last of 60 frames takes about 0.5 s. A keyframe took 14 kB there, another frame
1.1 kB: keyframes are less than a fifth of a file of 240 frames. At 676x507 the first shares are similar
(160 kB, 20 kB), where a later frame decodes in 75 ms."""
SPLATS_RANGE, DEFAULT_SPLATS = (10_000, 10_000_000), 250_000
"""Of an exported frame, at most."""
QUALITY_RANGE = (0, 100)
PSNR_RANGE = (5, 60)
"""Of a target PSNR, in dB."""


def profiles() -> tuple[str, ...]:
    """All profiles, built-in and installed."""
    return tuple(dict.fromkeys((*PROFILES, *plugins(PROFILE_GROUP))))


def layouts() -> tuple[str, ...]:
    """All capture layouts, built-in and installed, in order of preference."""
    return tuple(dict.fromkeys((*LAYOUTS, *plugins(LAYOUT_GROUP))))


def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points that installed packages register in a group, by name."""
    return {point.name: point for point in entry_points(group=group)}


def load_plugin(point: EntryPoint) -> Any:
    """The object that an entry point refers to.

    Raises:
        UsageError: it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"plug-in '{point.name}' ({point.value}) cannot be loaded: {reason}") from error


def loaded_plugins(group: str) -> Iterator[tuple[str, Any]]:
    """Name and object of each plug-in of a group, loaded one by one; one that cannot be loaded is skipped and reported
    as an `InvWarning`."""
    for name, point in plugins(group).items():
        try:
            found = load_plugin(point)
        except UsageError as error:
            warnings.warn(f"{error}; it is ignored", InvWarning, stacklevel=2)
            continue
        yield name, found

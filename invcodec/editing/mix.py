"""Mixing: the structure of one frame or file with the colours of another, without training.

INV (arXiv 2302.01532) shows that networks which continue one another can exchange layers: the first ones bring
structure, the later ones colour. See docs/layers.md.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np

from invcodec.coding.chain import StateReader
from invcodec.coding.quantize import step
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.editing.rewriting import check_sound, rewrite
from invcodec.errors import UsageError
from invcodec.field.profile import TensorKey
from invcodec.render import camera_colour
from invcodec.render.networks import build_networks

_LEAST_KINSHIP = 0.75
"""Least correlation of weights. Of frames that continue one another it was 0.93 and more; of networks that were trained
apart 0.21, and 0.53 after few steps from the same random weights."""


def mix(
    structure: str | os.PathLike[str],
    colours: str | os.PathLike[str],
    out: BinaryIO,
    *,
    frames: tuple[int | None, int | None] = (None, None),
    structure_frame: int | None = None,
    colour_frame: int | None = None,
    layers: int | None = None,
) -> Sequence[FrameEntry]:
    """Write a file with the structure of one file and the colours of another, which may be the same file.

    Every frame takes both from the frames of its number, unless one of them stays: then it has the same structure, or
    the same colours, in all frames. Integers are copied, so nothing is lost. Numbers, times, cameras and their
    exposures are those of the structure's file, or of the colours' if only the structure stays.

    Args:
        structure, colours: the files.
        out: writable binary file.
        frames: first frame number, and the one before which to stop; None: from the beginning, to the end. Where both
            structure and colours stay, there is one frame, that of the structure.
        structure_frame, colour_frame: number of a frame to take the structure, or the colours, of all frames from.
        layers: how many layers are structure; as the file declares it if None.

    Raises:
        UsageError: no such file, frame or number of layers; a range of frames where both stay; networks that differ, or
            that were trained apart.
        DamagedError: a file is damaged or truncated.
        UnsupportedError: unknown networks.
    """
    if structure_frame is not None and colour_frame is not None and frames != (None, None):
        raise UsageError("a structure frame and a colour frame together give one frame; leave out the range of frames")
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(StateReader(path)) for path in (structure, colours))
        _check_fit(ours, theirs)
        for reader in (ours, theirs):
            check_sound(reader)
        exchanged = _colour_tensors(ours.head, layers)
        timeline = theirs if structure_frame is not None and colour_frame is None else ours
        if structure_frame is not None and colour_frame is not None:
            kept: Sequence[FrameEntry] = [ours.entry(structure_frame)]
        else:
            kept = timeline.frames.numbered(*frames)
        if not kept:
            raise UsageError(f"{timeline.name}: has no frames in this range")
        fixed = [
            None if number is None else reader.state_at(number)
            for reader, number in ((ours, structure_frame), (theirs, colour_frame))
        ]

        def change(entry: FrameEntry) -> tuple[dict[TensorKey, np.ndarray], dict[TensorKey, int]]:
            first, second = (
                reader.state_at(entry.number) if state is None else state
                for reader, state in zip((ours, theirs), fixed, strict=True)
            )
            # Recolouring changes one of the two alone.
            kinship = max(_kinship(first, second, keys) for keys in (exchanged, scene.keys() - exchanged))
            if kinship < _LEAST_KINSHIP:
                raise UsageError(
                    f"frame {entry.number}: the colours of {theirs.name} do not fit the structure of {ours.name}: "
                    f"their weights correlate by {kinship:.2f} only, so they were trained apart, by two encodes or on "
                    "two sides of a cut; choose frames that continue one another"
                )
            own = first if timeline is ours else second
            parts = {key: second if key in exchanged else first if key in scene else own for key in own.levels}
            return {k: state.levels[k] for k, state in parts.items()}, {k: state.qps[k] for k, state in parts.items()}

        scene = build_networks(ours.head).tensors
        notes = {"mixed": {"structure_frame": structure_frame, "colour_frame": colour_frame, "layers": layers}}
        return rewrite(timeline, kept, out, notes, change)


def _colour_tensors(head: Head, layers: int | None) -> set[TensorKey]:
    """The tensors behind the structure layers."""
    networks = build_networks(head)
    if layers is None:
        return {key for key, spec in networks.tensors.items() if spec.group == "colour"}
    count = len(networks.layers)
    if not 0 < layers < count:
        names = ", ".join(layer.name for layer in networks.layers)
        raise UsageError(f"{layers} layers of structure: choose 1 to {count - 1}; the layers are {names}")
    return {key for layer in networks.layers[layers:] for key in layer.tensors}


def _check_fit(ours: StateReader, theirs: StateReader) -> None:
    """Refuse files whose networks differ.

    Raises:
        UsageError: it names the first difference.
    """
    pairs = [
        [info for info in reader.head.networks if not camera_colour.is_declared_by(info)] for reader in (ours, theirs)
    ]
    names = [", ".join(info.name for info in infos) for infos in pairs]
    difference = None if names[0] == names[1] else f"has the networks {names[1]}, not {names[0]}"
    for mine, other in zip(*pairs, strict=False):
        if difference is None and (mine.profile, mine.version) != (other.profile, other.version):
            difference = f"network '{mine.name}' is of profile {other.profile_name}, not {mine.profile_name}"
        if difference is None and mine.config != other.config:
            key = next(k for k in {**mine.config, **other.config} if other.config.get(k) != mine.config.get(k))
            difference = f"network '{mine.name}' has {key} {other.config.get(key)}, not {mine.config.get(key)}"
        if difference is None and mine.space != other.space:
            difference = f"network '{mine.name}' covers another space"
        if difference is None and (mine.role, mine.tensors) != (other.role, other.tensors):
            difference = f"network '{mine.name}' has another role or other tensors"
    if difference is not None:
        raise UsageError(
            f"{theirs.name}: {difference} as in {ours.name}; only files that come from one encode can be mixed"
        )


def _kinship(first: State, second: State, keys: Collection[TensorKey]) -> float:
    """Correlation of weights about 0, tensors weighted alike; 1 if they are the same."""
    products = [_product(first, second, key) for key in keys]
    known = [product for product in products if product is not None]
    return float(np.mean(known)) if known else 1.0


def _product(first: State, second: State, key: TensorKey) -> float | None:
    a, b = (state.levels[key].astype(np.float64).ravel() * step(state.qps[key]) for state in (first, second))
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else None

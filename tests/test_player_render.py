"""The renderer of the player, in Chromium without a GPU, against pictures of the package."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from browser import needs_chromium
from files import SPEC
from test_player import in_a_page

from invcodec.decoding.video import Video

LEAST_PSNR, MOST_BEYOND = 45.0, 0.01
"""Decibels; share of pixels that differ by more than 2."""


def compared(pixels: str, wanted: np.ndarray) -> tuple[float, float]:
    """`differences` of the pixels that the page gives and a picture `[H, W, 3 or 4]` uint8."""
    height, width, channels = wanted.shape
    found = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)
    return differences(found[:, :, :channels], wanted)


def differences(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """PSNR of two pictures `[H, W, C]` uint8, and the share of pixels that differ by more than 2."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    mse = (difference**2).mean()
    return float(10 * np.log10(255**2 / mse)) if mse else np.inf, float((difference > 2).any(2).mean())


def unlike(found: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: (psnr, beyond) for name, (psnr, beyond) in found.items() if psnr < LEAST_PSNR or beyond > MOST_BEYOND}


@needs_chromium
def test_pictures_are_those_of_the_vectors() -> None:
    views: dict[str, Any] = {}
    for path in sorted(SPEC.glob("vectors/*/*/expect.json")):
        view = json.loads(path.read_text()).get("render")
        if view and "refused" not in view:
            views[f"{path.parent.parent.name}/{path.parent.name}"] = view
    assert len(views) > 20
    asked = {name: [{"frame": view["frame"], "camera": view["camera"]}] for name, view in views.items()}
    found = asyncio.run(
        in_a_page(
            f"""
            const pictures = {{}};
            for (const [name, wanted] of Object.entries({json.dumps(asked)})) {{
                [pictures[name]] = await player.pictures(`/vectors/${{name}}/input.inv`, wanted);
            }}
            return pictures;
            """
        )
    )
    assert unlike({name: compared(found[name], np.array(view["rgb"], np.uint8)) for name, view in views.items()}) == {}


@needs_chromium
def test_pictures_of_a_scene_are_those_of_the_package_whatever_frame_was_shown_before(encoded: Path) -> None:
    # Forwards only what changed is uploaded; backwards the decoder begins again at the keyframe.
    views = [(1, "cam00"), (2, "cam03"), (3, "cam03"), (2, "cam00"), (1, "cam00")]
    with Video(encoded, device="cpu", threads=1) as video:
        frames = {frame.number: frame for frame in video}
        wanted = [frames[number].render(camera).rgb for number, camera in views]
    asked = json.dumps([{"frame": number, "camera": camera} for number, camera in views])
    found = asyncio.run(in_a_page(f"return player.pictures('/files/{encoded.name}', {asked});", files=encoded.parent))
    rows = {f"{i}: {view}": compared(found[i], wanted[i]) for i, view in enumerate(views)}
    assert unlike(rows) == {}

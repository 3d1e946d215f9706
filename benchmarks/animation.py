"""The animation of README.md: the player in a browser, going once around the scene while the file plays slowly.

    make demo
    python benchmarks/animation.py demo/out.inv -o docs/viewer.webp

Each picture is taken at a link to a moment and a view, once the player has rendered it to the end: a slow machine
records the same as a fast one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
from common import PROGRAM, ROOT
from PIL import Image

import invcodec
from invcodec.container.index import end_of_last
from invcodec.geometry.rig import orbit

sys.path.insert(0, str(ROOT / "tests"))

PLAYER = "document.querySelector('inv-player')"


def links(file: Path, count: int) -> list[str]:
    """Links `#t=...&pose=...` to moments and views at even distances, of which the first also follows the last."""
    with invcodec.open(file) as video:
        frames = list(video)
        duration = float(end_of_last(frames[-1].time, video.frame_rate))
        poses = [camera.pose.ravel() for camera in orbit(frames[0].cameras, count)]
    times = np.arange(count) / count * duration
    return [f"#t={time:.4f}&pose={','.join(f'{x:.6f}' for x in pose)}" for time, pose in zip(times, poses, strict=True)]


async def record(page: Path, moments: list[str], size: tuple[int, int]) -> list[Image.Image]:
    """What is seen of the player on a page at links."""
    pictures = []
    async with import_module("browser").Browser(size) as browser:
        await browser.open(page.as_uri())
        await browser.until(f"{PLAYER}?.duration > 0")
        # It plays, but its clock goes from link to link only.
        await browser.run(f"{PLAYER}.playbackRate = 0; {PLAYER}.play()")
        for moment in moments:
            go = f"addEventListener('hashchange', () => done(), {{ once: true }}); location.hash = {moment!r};"
            await browser.run(f"new Promise((done) => {{ {go} }})")
            await browser.until(f"{PLAYER}.state.settled")
            pictures.append(Image.open(io.BytesIO(await browser.screenshot())).convert("RGB"))
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an .inv file")
    parser.add_argument("--size", default="280x279", help="of the window, in pixels; 280x279 if not given")
    parser.add_argument("--count", type=int, default=24, help="pictures; 24 if not given")
    parser.add_argument("--rate", type=float, default=7.5, help="pictures a second; 7.5 if not given")
    parser.add_argument("--quality", type=int, default=80, help="of WebP, 0 to 100; 80 if not given")
    parser.add_argument("-o", "--output", type=Path, required=True, help="WebP file")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "clip.html"
        subprocess.run([*PROGRAM, "export", options.file, "--html", page], check=True)
        pictures = asyncio.run(record(page, links(options.file, options.count), (width, height)))
    pictures[0].save(
        options.output,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / options.rate),
        loop=0,
        quality=options.quality,
        method=6,
    )


if __name__ == "__main__":
    main()

"""Decoding and rendering at size: how long each step takes from a record to a picture, on a file of any size.

    python benchmarks/size.py video.inv
    python benchmarks/size.py video.inv --sizes 676x507 1345x1008 --threads 2

Prints the machine, its instruction set and the commit, and then the fastest of several repeats, as wall time and as
time on all cores:

    key, delta      a keyframe and the file's own deltas, encoded and decoded (one core)
    changed         a delta that changes a share of all weights, spread at random (one core)
    load            from decoded integers to the renderer, after a delta and from nothing
    WxH             a view of the last frame; of that, making the rays, the engine, and 8-bit colours
    view WxH        the viewer: to the first picture, and to the last one, of a view that it has not shown before
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import numpy as np
from common import commit, instruction_set, machine

from invcodec.coding.codec import decode, delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.decoding import video as video_module
from invcodec.decoding.video import Video
from invcodec.field.profile import OCCUPANCY
from invcodec.geometry.camera import Camera
from invcodec.geometry.space import Space
from invcodec.render import camera_colour
from invcodec.streaming.followed import FollowedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest

Times = tuple[float, float]
"""Wall time, and time on all cores, in seconds."""


def fastest(work: Callable[[], Any], repeats: int) -> tuple[Times, Any]:
    """The shortest of both times over some repeats, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        start = perf_counter(), process_time()
        result = work()
        times.append((perf_counter() - start[0], process_time() - start[1]))
    return (min(wall for wall, _ in times), min(cores for _, cores in times)), result


def shown(name: str, times: Times, more: str = "") -> None:
    print(f"{name:24} {1000 * times[0]:8.1f} ms, {1000 * times[1]:8.1f} ms on all cores{more}", flush=True)


def measure_coding(states: list[State], share: float, repeats: int) -> None:
    before = measure_record("key", None, states[0], repeats)
    for state in states[1:]:
        before = measure_record("delta", before, state, repeats)
    measure_record("changed", before, spread(before, share), repeats)


def measure_record(name: str, before: State | None, after: State, repeats: int) -> State:
    def encode() -> tuple[bytes, State]:
        return encode_key(after.head, after.levels, after.qps) if before is None else encode_delta(before, after.levels)

    times, (coded, state) = fastest(encode, repeats)
    count = sum(levels.size for levels in after.levels.values())
    changed = count if before is None else changes(before, after)
    shown(f"{name}, encode", times, f", {len(coded)} bytes, {changed} of {count} weights")
    frame = key_frame(state, 0) if before is None else delta_frame(state, 1, 0)
    times, state = fastest(lambda: decode(after.head, frame, coded, before), repeats)
    shown(f"{name}, decode", times)
    return state


def changes(before: State, after: State) -> int:
    return sum(int((levels != before.levels[key]).sum()) for key, levels in after.levels.items())


def spread(before: State, share: float) -> State:
    """A state in which a share of all weights differs by 1 or 2."""
    rng = np.random.default_rng(0)
    levels = {}
    for key, old in before.levels.items():
        change = (rng.random(old.shape) < share) * rng.choice([-2, -1, 1, 2], old.shape)
        levels[key] = old if key[1] == OCCUPANCY else (old + change).astype(np.int32)
    return State(before.head, levels, before.qps, before.coder, before.memory)


@contextmanager
def timed(owner: Any, name: str, total: dict[str, float]) -> Iterator[None]:
    """Add the wall time of calls of a function to `total[name]`."""
    function = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        start = perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            total[name] = total.get(name, 0.0) + perf_counter() - start

    with patch.object(owner, name, call):
        yield


def measure_pictures(path: Path, sizes: list[tuple[int, int]], threads: int, repeats: int) -> None:
    with Video(path, device="cpu", threads=threads) as video:
        last = video.frames[-1]
        camera = last.cameras[0]
        renderer = video._renderer
        last.render(camera.resized(64, 48))
        state = video.source.state_at(last.number)
        before = video.source.state_at(video.frames[-2].number) if last.kind == "delta" else None
        for name, since in (("load", None), ("load, after a delta", before)):
            shown(name, fastest(partial(load, video, state, since), repeats)[0])
        for width, height in sizes:
            parts: dict[str, float] = {}
            view = camera.resized(width, height)
            with (
                timed(Camera, "rays", parts), timed(Space, "march", parts), timed(renderer, "render", parts),
                timed(video_module, "displayed", parts),
            ):  # fmt: skip
                times, _ = fastest(partial(last.render, view), repeats)
            share = {name: 1000 * seconds / repeats for name, seconds in parts.items()}
            shown(f"{width}x{height}", times, "; on average " + ", ".join(f"{n} {s:.0f}" for n, s in share.items()))


def load(video: Video, state: State, since: State | None) -> None:
    """What a video does before it renders another frame."""
    weights, _ = camera_colour.split(video.head, state.weights(since), video._colour)
    video._renderer.load(weights)


def measure_viewer(path: Path, sizes: list[tuple[int, int]], threads: int, repeats: int) -> None:
    arrived: list[tuple[float, Picture]] = []
    final = threading.Event()

    def deliver(picture: Picture) -> None:
        arrived.append((perf_counter(), picture))
        if picture.about.get("final", True):
            final.set()

    service = RenderService(FollowedFile(str(path)), device="cpu", threads=threads)
    client = Client(deliver)
    service.add(client)
    number = service.file.frames[-1].number
    camera = service.file.head.cameras[0]
    name, focal = camera.name, camera.fy / camera.height
    for width, height in sizes:
        firsts, lasts, pictures = [], [], 0
        for _ in range(repeats):
            arrived.clear()
            final.clear()
            start = perf_counter()
            service.show(client, ViewRequest(number, (width, height), name, None, focal, False))
            final.wait()
            firsts.append(arrived[0][0] - start)
            lasts.append(arrived[-1][0] - start)
            pictures = len(arrived)
        print(
            f"view {width}x{height}: first picture {1000 * min(firsts):.0f} ms (slowest {1000 * max(firsts):.0f}), "
            f"last of {pictures} {1000 * min(lasts):.0f} ms"
        )
    service.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["676x507", "1345x1008"], help="of views")
    parser.add_argument("--share", type=float, default=0.01, help="of the weights that part `changed` changes")
    parser.add_argument("--threads", type=int, default=2, help="to render with")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    sizes = [(int(width), int(height)) for width, height in (size.split("x") for size in arguments.sizes)]
    print(f"{machine()}, {instruction_set()}, {arguments.threads} threads; commit {commit()}")
    with Video(arguments.file, device="cpu") as video:
        states = [video.source.state_at(frame.number) for frame in video.frames[:4]]
    measure_coding(states, arguments.share, arguments.repeats)
    measure_pictures(arguments.file, sizes, arguments.threads, arguments.repeats)
    measure_viewer(arguments.file, sizes, arguments.threads, arguments.repeats)


if __name__ == "__main__":
    main()

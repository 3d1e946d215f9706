"""Pictures for those who look: coarse ones at once, finer ones while nobody moves."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import perf_counter as clock
from typing import Any

import numpy as np
from PIL import Image

from invcodec.decoding.video import Video, View
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera, check_pose
from invcodec.geometry.rig import default_view, focus_point
from invcodec.streaming.watched import Watched

MAX_PIXELS = 1920 * 1080
_PROMPT = 0.07
"""Seconds that the first picture of a new view may take."""
_PATIENCE = 0.05
"""Seconds after which a finer picture is given up if somebody has moved."""
_LEAST_HEIGHT = 24
_FIRST_GUESS = 2e5
"""Rays a second, before any was measured."""
_QUALITY = 85
_TURBO = np.array(
    [(48, 18, 59), (70, 107, 227), (40, 187, 236), (49, 242, 153), (162, 252, 60), (237, 208, 58), (251, 128, 34),
     (210, 49, 5), (122, 4, 3)], np.float32,
)  # fmt: skip
"""Far to near. Every eighth part of Google's Turbo map."""


@dataclass(frozen=True)
class Wish:
    """What somebody wants to see.

    Attributes:
        number: of the frame.
        size: width and height in pixels.
        camera: name of the rig's camera to look through, or empty.
        pose: `[3, 4]` camera-to-world, where no camera is named.
        focal: focal length in picture heights, likewise.
        depth: show depth in false colours.
        serial: told back with each picture.
    """

    number: int
    size: tuple[int, int]
    camera: str
    pose: np.ndarray | None
    focal: float
    depth: bool
    serial: int = 0

    @classmethod
    def parse(cls, data: Any) -> Wish:
        """From what a page sends.

        Raises:
            UsageError: anything that makes no sense.
        """
        try:
            width, height = (int(side) for side in data["size"])
            focal = float(data.get("focal") or 1.0)
            camera = str(data.get("camera") or "")
            pose = None if camera else check_pose(data["pose"], "view")
            wish = cls(int(data["frame"]), (width, height), camera, pose, focal, bool(data.get("depth")),
                       int(data.get("serial", 0)))  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise UsageError(f"view: not understood ({error})") from None
        if not (1 <= width <= 8192 and 1 <= height <= 8192 and width * height <= MAX_PIXELS and 0.05 < focal < 50):
            raise UsageError("view: its size or focal length is out of bounds")
        return wish


@dataclass(frozen=True)
class Picture:
    """An encoded picture, and what there is to say of it."""

    data: bytes
    about: dict[str, Any]


class Looker:
    """Somebody who looks. Pictures are given to `deliver`, from another thread."""

    def __init__(self, deliver: Callable[[Picture], None]) -> None:
        self.deliver = deliver
        self.wish: Wish | None = None
        self.level = 0


class Painter:
    """Renders for all lookers, one picture at a time, in a thread of its own.

    Args:
        watched: the file.
    """

    def __init__(self, watched: Watched, *, device: str = "auto", threads: int | None = None) -> None:
        self.watched = watched
        self._options: dict[str, Any] = {"device": device, "threads": threads}
        self._lookers: list[Looker] = []
        self._orders: list[tuple[Wish, Future[bytes]]] = []
        self._work = threading.Condition()
        self._closed = False
        self._generation = -1
        self._speed = _FIRST_GUESS
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify_all()
        self._thread.join(5)
        self.watched.close()

    def add(self, looker: Looker) -> None:
        with self._work:
            self._lookers.append(looker)

    def remove(self, looker: Looker) -> None:
        with self._work:
            self._lookers.remove(looker)

    def wish(self, looker: Looker, wish: Wish) -> None:
        """From now on a looker wants to see this."""
        with self._work:
            looker.wish, looker.level = wish, 0
            self._work.notify_all()

    def order(self, wish: Wish) -> Future[bytes]:
        """One finished picture, as PNG."""
        order: Future[bytes] = Future()
        with self._work:
            self._orders.append((wish, order))
            self._work.notify_all()
        return order

    def _next(self) -> tuple[Looker | None, Wish, Future[bytes] | None] | None:
        """What to do now; those who just moved come first, and everybody has a turn."""
        with self._work:
            while not self._closed:
                if self._orders:
                    wish, order = self._orders.pop(0)
                    return None, wish, order
                waiting = [looker for looker in self._lookers if looker.wish is not None]
                if waiting:
                    looker = min(waiting, key=lambda each: each.level)
                    self._lookers.remove(looker)
                    self._lookers.append(looker)
                    assert looker.wish is not None
                    return looker, looker.wish, None
                self._work.wait()
        return None

    def _run(self) -> None:
        while (task := self._next()) is not None:
            looker, wish, order = task
            try:
                if order is not None:
                    order.set_result(self._encode(self._render(wish, wish.size, None), wish, exact=True)[0])
                elif looker is not None:
                    self._serve(looker, wish)
            except Exception as error:
                # One bad wish must not be the last one; whoever made it is told.
                if order is not None:
                    order.set_exception(UsageError(str(error)))
                elif looker is not None:
                    self._done(looker, wish)
                    looker.deliver(Picture(b"", {"serial": wish.serial, "error": str(error)}))

    def _video_now(self) -> Video:
        if self._generation != self.watched.generation:
            self._generation = self.watched.generation
            self._video = Video(self.watched, **self._options)
        return self._video

    def _serve(self, looker: Looker, wish: Wish) -> None:
        """The next finer picture of what somebody wants to see."""
        sizes = self._sizes(wish.size)
        level = min(looker.level, len(sizes) - 1)
        started = clock()
        self.watched.entry(wish.number)
        self._video_now()
        self.watched.state_at(wish.number)
        decoded = clock()
        view = self._render(wish, sizes[level], looker if level else None)
        if view is None:
            return
        rendered = clock()
        final = level == len(sizes) - 1
        data, kind = self._encode(view, wish, exact=final)
        entry, stats = self.watched.entry(wish.number), self.watched.stats_at(wish.number)
        arrival = self.watched.arrivals.get(wish.number)
        about = {
            "serial": wish.serial,
            "frame": wish.number,
            "time": float(entry.time),
            "kind": entry.kind,
            "bytes": entry.length,
            "psnr": stats.psnr,
            "captured": None if stats.captured is None else stats.captured / 1000,
            "arrived": arrival.at if arrival else None,
            "size": sizes[level],
            "final": final,
            "type": kind,
            "decoding": decoded - started + (arrival.decoding if arrival else 0.0),
            "rendering": rendered - decoded,
            "encoding": clock() - rendered,
        }
        if final:
            self._done(looker, wish)
        else:
            with self._work:
                if looker.wish is wish:
                    looker.level = level + 1
        looker.deliver(Picture(data, about))

    def _done(self, looker: Looker, wish: Wish) -> None:
        with self._work:
            if looker.wish is wish:
                looker.wish = None

    def _sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """From what can be rendered at once to the whole, each with four times the pixels of the one before."""
        width, height = size
        sizes = [size]
        while sizes[-1][0] * sizes[-1][1] > self._speed * _PROMPT and height // 2 ** len(sizes) >= _LEAST_HEIGHT:
            factor = 2 ** len(sizes)
            sizes.append((max(1, width // factor), height // factor))
        return sizes[::-1]

    def _camera(self, wish: Wish, size: tuple[int, int]) -> Camera:
        width, height = size
        if wish.camera:
            return self._video[wish.number].camera(wish.camera).resized(width, height)
        base = self._video.cameras[0]
        focal = wish.focal * height
        assert wish.pose is not None
        return Camera("", width, height, focal, focal, width / 2, height / 2, wish.pose, near=base.near, far=base.far)

    def _render(self, wish: Wish, size: tuple[int, int], looker: Looker | None) -> Any:
        """A view, in strips; None if a looker wants something else meanwhile."""
        frame = self._video_now()[wish.number]
        camera = self._camera(wish, size)
        width, height = size
        rows = max(1, int(self._speed * _PATIENCE / width))
        parts = []
        started = clock()
        for top in range(0, height, rows):
            if looker is not None and looker.wish is not wish:
                return None
            strip = replace(camera, height=min(rows, height - top), cy=camera.cy - top)
            parts.append(frame.render(strip))
        speed = width * height / max(clock() - started, 1e-6)
        self._speed += 0.3 * (speed - self._speed)
        arrays = ([getattr(part, name) for part in parts] for name in ("rgb", "alpha", "depth"))
        return View(*(np.concatenate(each) for each in arrays))

    def _encode(self, view: View, wish: Wish, *, exact: bool) -> tuple[bytes, str]:
        """PNG where every value counts or something shines through, else JPEG; and its media type."""
        file = io.BytesIO()
        transparent = self._video.transparent and not wish.depth
        if wish.depth:
            image = _false_colours(view.depth, self._video.cameras)
        else:
            image = view.rgba if transparent else view.rgb
        if exact or transparent:
            Image.fromarray(image).save(file, "PNG", compress_level=1)
            return file.getvalue(), "image/png"
        Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue(), "image/jpeg"


def _false_colours(depth: np.ndarray, rig: tuple[Camera, ...]) -> np.ndarray:
    """Colours `[H, W, 3]` uint8 of z-depths `[H, W]`: near is red, far is blue, nothing is black."""
    there = np.isfinite(depth) & (depth > 0)
    near = min((camera.near for camera in rig if camera.near), default=None)
    far = max((camera.far for camera in rig if camera.far), default=None)
    if there.any():
        near = near or float(np.quantile(depth[there], 0.02))
        far = far or float(np.quantile(depth[there], 0.98))
    near = near or 1.0
    far = max(far or near, near * 1.01)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(there, (1 / depth - 1 / far) / (1 / near - 1 / far), 0.0)
    place = np.clip(np.nan_to_num(place), 0, 1) * (len(_TURBO) - 1)
    low = np.minimum(place.astype(int), len(_TURBO) - 2)
    part = (place - low)[..., None]
    colours = _TURBO[low] * (1 - part) + _TURBO[low + 1] * part
    return np.where(there[..., None], np.rint(colours), 0).astype(np.uint8)


def scene(watched: Watched) -> dict[str, Any]:
    """What a page must know of a file before it can ask for pictures, in plain types."""
    rig = watched.head.cameras
    centres = np.stack([camera.pose[:, 3] for camera in rig])
    spread = float(np.linalg.norm(centres - centres.mean(0), axis=1).max()) or 1.0
    up = np.mean([camera.pose[:, 1] for camera in rig], 0)
    start = default_view(rig)
    views = [(camera.name + (" (held out)" if camera.held_out else ""), camera) for camera in rig]
    if not start.name:
        views.insert(0, ("middle of the rig", start))
    return {
        "name": watched.path.name,
        "rate": float(watched.head.frame_rate),
        "transparent": watched.head.background is None,
        "up": (up / (np.linalg.norm(up) or 1.0)).tolist(),
        "spread": spread,
        "start": next(i for i, (_, camera) in enumerate(views) if camera is start),
        "views": [
            {
                "label": label,
                "camera": camera.name,
                "pose": camera.pose.tolist(),
                "focal": camera.fy / camera.height,
                "aspect": camera.width / camera.height,
                "distance": _distance(rig, camera, spread),
            }
            for label, camera in views
        ],
    }


def _distance(rig: tuple[Camera, ...], camera: Camera, spread: float) -> float:
    """How far off a view's centre of interest is."""
    distance = float(np.linalg.norm(focus_point(rig, camera) - camera.pose[:, 3]))
    return distance if math.isfinite(distance) and distance > 0 else 3 * spread

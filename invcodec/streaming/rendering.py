"""Rendering for the viewer's clients: a coarse picture at once, then finer ones while the view stays the same."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter as clock
from typing import Any

import numpy as np
from PIL import Image

from invcodec.decoding.video import Video, View
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera, check_pose
from invcodec.streaming.followed import FollowedFile

MAX_PIXELS = 1920 * 1080
"""Largest picture that a client may request."""
_FIRST_PICTURE = 0.07
"""Seconds that the first picture of a new view may take."""
_STRIP = 0.05
"""Seconds that a strip of a picture takes; the picture is abandoned between strips if its client has moved on."""
_MIN_HEIGHT = 24
"""Height in pixels of the coarsest picture."""
_FIRST_GUESS = 2e5
"""Rays per second, until they are measured."""
_JPEG_QUALITY = 85
_TURBO = np.array(
    [(48, 18, 59), (70, 107, 227), (40, 187, 236), (49, 242, 153), (162, 252, 60), (237, 208, 58), (251, 128, 34),
     (210, 49, 5), (122, 4, 3)], np.float32,
)  # fmt: skip
"""From far to near: nine evenly spaced colours of Google's Turbo colour map."""


@dataclass(frozen=True)
class ViewRequest:
    """The view that a client asks for.

    Attributes:
        number: frame number.
        size: width and height in pixels.
        camera: name of one of the rig's cameras, or empty.
        pose: `[3, 4]` camera-to-world, if no camera is named.
        focal: focal length as a multiple of the picture's height.
        depth: show depth in false colours.
        serial: the client's number of this request, returned with each picture.
    """

    number: int
    size: tuple[int, int]
    camera: str
    pose: np.ndarray | None
    focal: float
    depth: bool
    serial: int = 0

    @classmethod
    def parse(cls, data: Any) -> ViewRequest:
        """From what a page sends as JSON.

        Raises:
            UsageError: a missing or invalid field.
        """
        try:
            width, height = (int(side) for side in data["size"])
            focal = float(data["focal"])
            camera = str(data.get("camera") or "")
            pose = None if camera else check_pose(data["pose"], "view")
            request = cls(int(data["frame"]), (width, height), camera, pose, focal, bool(data.get("depth")),
                       int(data.get("serial", 0)))  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise UsageError(f"view: invalid request ({error})") from None
        if abs(request.number) >= 1 << 63:
            raise UsageError("view: no such frame")
        if not (1 <= width <= 8192 and 1 <= height <= 8192 and width * height <= MAX_PIXELS and 0.05 < focal < 50):
            raise UsageError("view: size or focal length out of range")
        return request


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        data: PNG or JPEG; empty if `about` has an `error`.
        about: frame, size, timings and so on, in types that JSON has.
    """

    data: bytes
    about: dict[str, Any]


class Client:
    """A connected viewer.

    Args:
        deliver: called with each picture, from the rendering thread.

    Attributes:
        request: the view that is still to be rendered in full, or None.
        level: how many pictures of it have been delivered.
    """

    def __init__(self, deliver: Callable[[Picture], None]) -> None:
        self.deliver = deliver
        self.request: ViewRequest | None = None
        self.level = 0


class RenderService:
    """Renders for all clients, one strip of a picture at a time, in a thread of its own.

    A frame that has not arrived yet is waited for.

    Args:
        file: the file to render, which is closed together with the service.
        device, threads: as for `invcodec.decoding.video.Video`.
    """

    def __init__(self, file: FollowedFile, *, device: str = "auto", threads: int | None = None) -> None:
        self.file = file
        self._options: dict[str, Any] = {"device": device, "threads": threads}
        self._clients: list[Client] = []
        self._work = threading.Condition()
        self._closed = False
        self._video: tuple[int, Video] | None = None
        self._speed = _FIRST_GUESS
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        file.changed = self._wake

    def _wake(self) -> None:
        with self._work:
            self._work.notify_all()

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify_all()
        self._thread.join(5)
        self.file.close()

    def add(self, client: Client) -> None:
        with self._work:
            self._clients.append(client)

    def remove(self, client: Client) -> None:
        with self._work:
            self._clients.remove(client)
            client.request = None

    def show(self, client: Client, request: ViewRequest) -> None:
        """Render this view for a client, in place of the one before."""
        with self._work:
            client.request, client.level = request, 0
            self._work.notify_all()

    def _next(self) -> tuple[Client, ViewRequest] | None:
        """Of what can be rendered now, the coarsest picture comes first, and clients take turns."""
        looking = [
            (each.level, each, each.request)
            for each in self._clients
            if each.request is not None and not self.file.expects(each.request.number)
        ]
        if not looking:
            return None
        _, client, request = min(looking, key=lambda row: row[0])
        # Others come before this client now.
        self._clients.remove(client)
        self._clients.append(client)
        return client, request

    def _wait(self) -> tuple[Client, ViewRequest] | None:
        """Wait for something to do; None once the service closes."""
        with self._work:
            while not self._closed:
                if found := self._next():
                    return found
                self._work.wait()
        return None

    def _run(self) -> None:
        while found := self._wait():
            with self._answering(*found):
                self._serve(*found)

    @contextmanager
    def _answering(self, client: Client, request: ViewRequest) -> Iterator[None]:
        """Whatever goes wrong with a request, its client is told, and the thread goes on."""
        try:
            yield
        except Exception as error:
            self._done(client, request)
            text = str(error) or type(error).__name__
            with suppress(Exception):
                client.deliver(Picture(b"", {"serial": request.serial, "error": text}))

    def _opened(self) -> Video:
        """The video, opened again if another file has taken its place."""
        generation = self.file.generation
        if self._video is None or self._video[0] != generation:
            self._video = generation, Video(self.file, **self._options)
        return self._video[1]

    def _serve(self, client: Client, request: ViewRequest) -> None:
        """Render and deliver the next finer picture of a client's view."""
        sizes = self._sizes(request.size)
        level = min(client.level, len(sizes) - 1)
        started = clock()
        self.file.entry(request.number)
        video = self._opened()
        view = self._render(video, request, sizes[level], lambda: not level or client.request is request)
        if view is None:
            return
        final = level == len(sizes) - 1
        data, kind = _encode(video, view, request, exact=final)
        stats = self.file.stats_at(request.number)
        fidelity = stats.fidelity
        about = {
            "serial": request.serial,
            "frame": request.number,
            "psnr": fidelity.psnr if fidelity else None,
            "psnr_moving": fidelity.psnr_moving if fidelity else None,
            "captured": stats.captured,
            "size": sizes[level],
            "final": final,
            "type": kind,
            "took": clock() - started,
        }
        if final:
            self._done(client, request)
        else:
            with self._work:
                if client.request is request:
                    client.level = level + 1
        client.deliver(Picture(data, about))

    def _done(self, client: Client, request: ViewRequest) -> None:
        with self._work:
            if client.request is request:
                client.request = None

    def _sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes of a view's pictures, from one that renders quickly to the full size, each four times the last."""
        width, height = size
        sizes = [size]
        while sizes[-1][0] * sizes[-1][1] > self._speed * _FIRST_PICTURE and height // 2 ** len(sizes) >= _MIN_HEIGHT:
            factor = 2 ** len(sizes)
            sizes.append((max(1, width // factor), height // factor))
        return sizes[::-1]

    def _render(
        self, video: Video, request: ViewRequest, size: tuple[int, int], wanted: Callable[[], bool]
    ) -> View | None:
        """Render strip by strip; None once the picture is no longer wanted, which is asked before each strip."""
        frame = video[request.number]
        camera = _camera(video, request, size)
        width, height = size
        rows = max(1, int(self._speed * _STRIP / width))
        parts = []
        took = 0.0
        for top in range(0, height, rows):
            if not wanted():
                return None
            started = clock()
            strip = replace(camera, height=min(rows, height - top), cy=camera.cy - top)
            parts.append(frame.render(strip))
            took += clock() - started
        speed = width * height / max(took, 1e-6)
        self._speed += 0.3 * (speed - self._speed)
        arrays = ([getattr(part, name) for part in parts] for name in ("rgb", "alpha", "depth"))
        return View(*(np.concatenate(each) for each in arrays))


def _camera(video: Video, request: ViewRequest, size: tuple[int, int]) -> Camera:
    width, height = size
    focal = request.focal * height
    if request.camera:
        camera = video[request.number].camera(request.camera).resized(width, height)
        zoom = focal / camera.fy
        cx, cy = (half + (at - half) * zoom for at, half in ((camera.cx, width / 2), (camera.cy, height / 2)))
        return replace(camera, fx=camera.fx * zoom, fy=focal, cx=cx, cy=cy)
    base = video.cameras[0]
    assert request.pose is not None
    return Camera("", width, height, focal, focal, width / 2, height / 2, request.pose, near=base.near, far=base.far)


def _encode(video: Video, view: View, request: ViewRequest, *, exact: bool) -> tuple[bytes, str]:
    """The picture and its media type: PNG if it is to be exact or has alpha, else JPEG."""
    file = io.BytesIO()
    transparent = video.transparent and not request.depth
    if request.depth:
        image = _false_colours(view.depth, video.cameras)
    else:
        image = view.rgba if transparent else view.rgb
    if exact or transparent:
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        return file.getvalue(), "image/png"
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue(), "image/jpeg"


def _false_colours(depth: np.ndarray, rig: tuple[Camera, ...]) -> np.ndarray:
    """Colours `[H, W, 3]` uint8 of z-depths `[H, W]`: near is red, far is blue, and empty space is black."""
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

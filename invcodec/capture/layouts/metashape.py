"""Metashape: an `.xml` file of "Export cameras" (Agisoft Metashape's manual, appendix D, "Camera models").

The principal point is given relative to the picture's centre; poses are in the space of a component or chunk, whose own
transform, with a scale, is applied.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from invcodec.capture.layouts.calibration import Values, first_with, read_xml, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.convention import OPENCV
from invcodec.geometry.rotations import from_opencv_axes
from invcodec.names import Source

_FISHEYE = {"frame": False, "fisheye": True, "equidistant_fisheye": True}


def files(folder: Path) -> list[Path]:
    return first_with(folder, "*.xml", lambda text: "<chunk" in text and "<sensor" in text)


def read(folder: Path, source: Source | None) -> Listing:
    if not (found := files(folder)):
        raise CaptureError(f"{folder}: no .xml file of Metashape with a chunk and its sensors")
    root = read_xml(path := found[0])
    chunk = root if root.tag == "chunk" else root.find("chunk")
    if chunk is None:
        raise CaptureError(f"{path}: has no <chunk>")
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    world = _transform(chunk.find("transform"), f"{path}: <transform> of the chunk")
    components = {
        each.get("id"): _transform(each.find("transform"), f"{path}: component {each.get('id')}")
        for each in chunk.iterfind("components/component")
    }
    cameras = []
    for entry in chunk.iterfind("cameras//camera"):
        matrix = entry.findtext("transform")
        # Cameras that could not be aligned have none, and are no use.
        if matrix is None or entry.get("enabled") in ("0", "false"):
            continue
        label = entry.get("label") or f"camera {entry.get('id')}"
        where = f"{path}: camera '{label}'"
        scale, rotation, shift = components.get(entry.get("component_id"), world)
        inner = Values({"transform": matrix.split()}, where).array("transform", (4, 4))
        centre = scale * rotation @ inner[:3, 3] + shift
        pose = from_opencv_axes(rotation @ inner[:3, :3], centre)
        sensor = sensors.get(entry.get("sensor_id"))
        if sensor is None:
            raise CaptureError(f"{where}: its sensor {entry.get('sensor_id')} is not among <sensors>")
        # Labels are the pictures' names, often with their ending.
        cameras.append(_camera(PurePath(label).stem, sensor, pose, where))
    return with_pictures(folder, path, cameras, source)


def _transform(entry: ElementTree.Element | None, where: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation `[3, 3]` and translation `[3]`; each may be missing."""
    found: dict[str, Any] = {} if entry is None else {each.tag: (each.text or "").split() for each in entry}
    values = Values(found, where)
    return (
        values.number("scale", 1),
        values.array("rotation", (3, 3), default=np.eye(3).ravel().tolist()).reshape(3, 3),
        values.array("translation", (3,), default=[0, 0, 0]),
    )


def _camera(name: str, sensor: ElementTree.Element, pose: np.ndarray, where: str) -> Camera:
    lens = sensor.find("calibration[@class='adjusted']")
    lens = sensor.find("calibration") if lens is None else lens
    resolution = None if lens is None else lens.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    if lens is None or resolution is None:
        raise CaptureError(f"{where}: its sensor has no <calibration> or no <resolution>")
    kind = lens.get("type") or sensor.get("type") or "frame"
    if kind not in _FISHEYE:
        raise CaptureError(f"{where}: lens type '{kind}' is not supported; export undistorted images")
    fisheye = _FISHEYE[kind]
    values = Values({**resolution.attrib, **{each.tag: each.text for each in lens if each.tag != "resolution"}}, where)
    width, height = size = values.size((values.number("width"), values.number("height")))
    cx, cy, b1, b2, k1, k2, k3, k4, p1, p2, p3, p4 = (
        values.number(key, 0) for key in ("cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4")
    )
    if p3 or p4 or (k4 and not fisheye):
        raise CaptureError(f"{where}: k4, p3 and p4 are not supported; export undistorted images")
    f = values.number("f")
    matrix = np.array([[f + b1, b2, width / 2 + cx], [0, f, height / 2 + cy], [0, 0, 1]])
    # Metashape's p1 and p2 are the other way round than OpenCV's.
    return values.camera(name, size, matrix, pose, (k1, k2, p2, p1, k3, k4), fisheye=fisheye)


LAYOUT = Layout(
    files,
    read,
    "an .xml file of Metashape",
    replace(OPENCV, note="then the transforms of component and chunk"),
)

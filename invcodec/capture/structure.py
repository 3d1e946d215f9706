"""Structure from motion: where cameras stand, and what lenses they have, from what their pictures have in common.

COLMAP does it (Schönberger and Frahm, CVPR 2016), through pycolmap: features, geometry of pairs, incremental mapping,
bundle adjustment. As the cameras of a rig do not move, all pictures of one are one picture to it, which holds the
features of several instants; a feature has to be matched at the same instant. The result is the same in every run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from invcodec.capture.capture import Frame
from invcodec.extras import require
from invcodec.geometry.camera import Camera
from invcodec.geometry.rotations import pose_from_opencv

Counted = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Takes what is being done and the number of its steps; the function in its context is called after each of them."""

_FEATURES = 3000
"""At most, of a picture."""
_RATIO, _FARTHEST = 0.8, 0.7
"""A match's angle between descriptors is below this factor times that of the second best, and below this many
radians; COLMAP's defaults."""
_LENGTH = 512.0
"""Of a descriptor."""
_SAME = 4.0
"""Matches of several instants that are in the same cells of this many pixels are one: the background's."""
ENOUGH_MATCHES = 15
"""Fewer that agree with one epipolar geometry say nothing about a pair."""
_BEGINNING = 50
"""Points of the pair of cameras that mapping begins with, if there is one; otherwise fewer."""
_ERROR, _ERROR_SHARE = 1.5, 0.004
"""How far a point may be from where it should be while cameras are still being placed: in pixels, or as a share of the
picture's longer side if that is more."""
_ROUNDS = 3
_OUTLYING = 4.0
"""In each round of refinement, observations worse than the median by this factor are left out."""
_NOISE = 0.1
"""No feature is placed better than that, in pixels."""
_MIN_ANGLE = 1.5
"""Between the rays of a point, in degrees: others say little about its depth."""
_WORTH = 1.25
"""Lenses of their own are kept if with a common one errors are larger by this factor, or fewer observations fit."""


@dataclass(frozen=True)
class Structure:
    """What structure from motion found, in a world of arbitrary origin, axes and unit.

    Attributes:
        cameras: in the order of the pictures, None where a camera could not be placed.
        points: `[N, 3]`, those that three cameras see, if there are three.
        errors: mean distance of each camera's points from where they were seen, in pixels; NaN if it was not placed.
        seen: how many of the points each camera saw.
        features: how many features each camera's pictures have.
        matches: `[C, C]`, how many features each two cameras have in common, in agreement with one epipolar geometry.
        shared: whether cameras with pictures of one size have one lens.
    """

    cameras: tuple[Camera | None, ...]
    points: np.ndarray
    errors: np.ndarray
    seen: np.ndarray
    features: np.ndarray
    matches: np.ndarray
    shared: bool


@dataclass(frozen=True)
class Features:
    """Of one picture: `keys` `[N, 4]` float32 (x, y, scale, orientation), `descriptors` `[N, 128]` float32."""

    keys: np.ndarray
    descriptors: np.ndarray


_NONE = Features(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float32))


def require_colmap() -> Any:
    """The module pycolmap.

    Raises:
        UsageError: it is not installed.
    """
    pycolmap = require("pycolmap", "calibrate", "calibrating needs COLMAP")
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    # It has a handler of its own, which prints a trace.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return pycolmap


def reconstruct(
    cameras: Sequence[Camera],
    frames: Iterable[Frame],
    instants: int,
    *,
    shared: bool | None,
    known: bool,
    seed: int,
    counted: Counted,
) -> Structure:
    """Place cameras, and find their lenses: focal length, k1 and k2; principal points are taken to be central.

    Args:
        cameras: with focal lengths to begin with; poses are ignored.
        frames: at some instants.
        instants: how many.
        shared: whether cameras with pictures of one size have one lens; decided by what fits if None.
        known: whether the focal lengths are more than a guess.

    Raises:
        UsageError: pycolmap is not installed.
        CaptureError: a picture cannot be read.
    """
    colmap = require_colmap()
    colmap.set_random_seed(seed)
    error = max(_ERROR, _ERROR_SHARE * max(max(camera.width, camera.height) for camera in cameras))
    features = _all_features(colmap, cameras, frames, instants, counted)
    counts = np.array([[len(each.keys) for each in row] for row in features])
    database = colmap.Database.open(":memory:")
    lenses = _declare(colmap, database, cameras, features, known)
    matches = _match_all(colmap, database, lenses, features, error, seed, counted)
    with counted("placing cameras", len(cameras)) as done:
        found = _map(colmap, database, error, seed, done)
    database.close()
    structure = Structure(
        (None,) * len(cameras),
        np.zeros((0, 3)),
        np.full(len(cameras), np.nan),
        np.zeros(len(cameras), int),
        counts.sum(0),
        matches,
        False,
    )
    if found is None:
        return structure
    own, common = (
        _refined(colmap, _with_lenses(colmap, found, cameras, each), error) if shared in (None, each) else None
        for each in (False, True)
    )
    # A common lens has fewer unknowns.
    is_shared = common is not None and (own is None or common.fits_like(own))
    best = common if is_shared else own
    assert best is not None
    return _described(replace(structure, shared=is_shared), best.model, cameras)


def _all_features(
    colmap: Any, cameras: Sequence[Camera], frames: Iterable[Frame], instants: int, counted: Counted
) -> list[list[Features]]:
    """Features of all cameras by instant."""
    options = colmap.FeatureExtractionOptions(use_gpu=False, num_threads=1)
    options.sift.max_num_features = _FEATURES
    extractor = colmap.FeatureExtractor.create(options, colmap.Device.cpu)
    found: list[list[Features]] = []
    with counted("finding features", instants * len(cameras)) as done:
        for frame in frames:
            found.append([])
            for image, mask in zip(frame.images, frame.masks, strict=True):
                if image is None:
                    found[-1].append(_NONE)
                else:
                    grey = np.asarray(Image.fromarray(image[..., :3]).convert("L"))
                    keys, descriptors = extractor.extract_from_uint8_array(grey)
                    found[-1].append(_unmasked(colmap.keypoints_to_matrix(keys), descriptors.data, mask))
                done()
    return found


def _unmasked(keys: np.ndarray, descriptors: np.ndarray, mask: np.ndarray | None) -> Features:
    """Features outside of what a mask `[H, W]` hides."""
    keys, descriptors = keys.reshape(-1, 4).astype(np.float32), descriptors.reshape(-1, 128).astype(np.float32)
    if mask is not None:
        column, row = (keys[:, axis].astype(int).clip(0, mask.shape[1 - axis] - 1) for axis in (0, 1))
        keys, descriptors = keys[mask[row, column]], descriptors[mask[row, column]]
    return Features(keys, descriptors)


def _declare(
    colmap: Any, database: Any, cameras: Sequence[Camera], features: Sequence[Sequence[Features]], known: bool
) -> list[Any]:
    """Write cameras and their features to a database, numbered from 1; returns COLMAP's lenses."""
    lenses = []
    for index, camera in enumerate(cameras):
        model = "SIMPLE_RADIAL_FISHEYE" if camera.fisheye else "SIMPLE_RADIAL"
        lens = colmap.Camera.create_from_model_name(index + 1, model, camera.fx, camera.width, camera.height)
        lens.has_prior_focal_length = known
        database.write_camera(lens, use_camera_id=True)
        rig = colmap.Rig(rig_id=index + 1)
        rig.add_ref_sensor(lens.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        image = colmap.Image(name=camera.name, camera_id=index + 1, image_id=index + 1)
        database.write_image(image, use_image_id=True)
        frame = colmap.Frame(rig_id=index + 1)
        frame.add_data_id(image.data_id)
        database.write_frame(frame)
        database.write_keypoints(index + 1, np.concatenate([row[index].keys for row in features]))
        lenses.append(lens)
    return lenses


def _match_all(
    colmap: Any,
    database: Any,
    lenses: Sequence[Any],
    features: Sequence[Sequence[Features]],
    error: float,
    seed: int,
    counted: Counted,
) -> np.ndarray:
    """Match each two cameras' features instant by instant; returns the numbers `[C, C]` of those that agree."""
    count = len(lenses)
    options = colmap.TwoViewGeometryOptions(min_num_inliers=ENOUGH_MATCHES, detect_watermark=False)
    options.ransac.max_error, options.ransac.random_seed = error, seed
    places = [np.concatenate([row[index].keys[:, :2] for row in features]).astype(np.float64) for index in range(count)]
    starts = np.cumsum([[0] * count] + [[len(each.keys) for each in row] for row in features], 0)
    agreeing = np.zeros((count, count), int)
    with counted("matching", count * (count - 1) // 2) as done:
        for a, b in combinations(range(count), 2):
            pairs = np.concatenate([match(row[a], row[b]) + starts[t, [a, b]] for t, row in enumerate(features)])
            cells = np.floor(np.hstack([places[a][pairs[:, 0]], places[b][pairs[:, 1]]]) / _SAME)
            pairs = pairs[np.sort(np.unique(cells, axis=0, return_index=True)[1])].astype(np.uint32)
            if len(pairs) >= ENOUGH_MATCHES:
                geometry = colmap.estimate_two_view_geometry(lenses[a], places[a], lenses[b], places[b], pairs, options)
                agreeing[a, b] = agreeing[b, a] = len(geometry.inlier_matches)
                if len(geometry.inlier_matches) >= ENOUGH_MATCHES:
                    database.write_matches(a + 1, b + 1, pairs)
                    database.write_two_view_geometry(a + 1, b + 1, geometry)
            done()
    return agreeing


def match(a: Features, b: Features) -> np.ndarray:
    """Indices `[M, 2]` of features that are each other's best match, and much better than the second best.

    pycolmap's own matcher gives the same, but takes ten times as long and keeps other threads from running.
    """
    if min(len(a.keys), len(b.keys)) < 2:
        return np.zeros((0, 2), int)
    # Of integers below 2^24, so exact whatever the order.
    likeness = a.descriptors @ b.descriptors.T
    there, back = _best(likeness), _best(likeness.T)
    rows = np.flatnonzero(there >= 0)
    rows = rows[back[there[rows]] == rows]
    return np.stack([rows, there[rows]], 1)


def _best(likeness: np.ndarray) -> np.ndarray:
    """For each row of `[N, M]` the column of its best match, or -1."""
    rows = np.arange(len(likeness))
    best = likeness.argmax(1)
    first = likeness[rows, best]
    rest = likeness.copy()
    rest[rows, best] = -1
    angle, second = (np.arccos(np.minimum(value / _LENGTH**2, 1)) for value in (first, rest.max(1)))
    return np.where((angle < _RATIO * second) & (angle < _FARTHEST), best, -1)


def _map(colmap: Any, database: Any, error: float, seed: int, done: Callable[[], None]) -> Any:
    """The largest model that incremental mapping finds, or None."""
    options = colmap.IncrementalPipelineOptions(
        num_threads=1, random_seed=seed, min_model_size=2, extract_colors=False, min_num_matches=ENOUGH_MATCHES
    )
    options.mapper.random_seed = options.triangulation.random_seed = seed
    options.mapper.init_max_error = options.mapper.filter_max_reproj_error = error
    options.mapper.abs_pose_max_error = 3 * error
    options.mapper.init_min_num_inliers, options.mapper.abs_pose_min_num_inliers = _BEGINNING, ENOUGH_MATCHES
    models = colmap.ReconstructionManager()
    pipeline = colmap.IncrementalPipeline(options, database, models)
    pipeline.add_callback(colmap.IncrementalPipelineCallback.NEXT_IMAGE_REG_CALLBACK.value, done)
    pipeline.run()
    found = [models.get(index) for index in range(models.size())]
    return max(found, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)


def _with_lenses(colmap: Any, found: Any, cameras: Sequence[Camera], shared: bool) -> Any:
    """A copy of a model with lenses that also have k2, of which cameras with pictures of one size may share one."""
    model = colmap.Reconstruction()
    placed = sorted(found.reg_image_ids())
    group = {
        number: next(other for other in placed if other == number or (shared and _same_size(cameras, other, number)))
        for number in placed
    }
    for number in placed:
        camera = cameras[number - 1]
        if group[number] == number:
            of_group = [found.cameras[other].params for other in placed if group[other] == number]
            focal, _, _, k1 = np.median(of_group, axis=0)
            name = "RADIAL_FISHEYE" if camera.fisheye else "RADIAL"
            lens = colmap.Camera.create_from_model_name(number, name, focal, camera.width, camera.height)
            lens.params = np.append(lens.params[:3], [k1, 0.0])
            model.add_camera_with_trivial_rig(lens)
        seen = found.images[number]
        places = np.array([point.xy for point in seen.points2D]).reshape(-1, 2)
        image = colmap.Image(name=seen.name, keypoints=places, camera_id=group[number], image_id=number)
        model.add_image_with_trivial_frame(image, seen.cam_from_world())
    for number in sorted(found.points3D):
        point = found.points3D[number]
        model.add_point3D(point.xyz, point.track)
    return model


def _same_size(cameras: Sequence[Camera], *numbers: int) -> bool:
    return len({(cameras[number - 1].width, cameras[number - 1].height) for number in numbers}) == 1


@dataclass(frozen=True)
class _Refined:
    """A model with how many observations are left of it, and the median error of its points in pixels."""

    model: Any
    observations: int
    error: float

    def fits_like(self, other: _Refined) -> bool:
        return self.error <= _WORTH * other.error and other.observations <= _WORTH * self.observations


def _refined(colmap: Any, model: Any, error: float) -> _Refined:
    """Bundle adjustment that bears mistaken matches, and leaves them out.

    Mapping itself minimises squares: a few mistakes pull focal lengths by several per cent.
    """
    observations = colmap.ObservationManager(model)
    everything = colmap.BundleAdjustmentConfig()
    for number in sorted(model.reg_image_ids()):
        everything.add_image(number)
    everything.fix_gauge(colmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    median = _median_error(model)
    for _ in range(_ROUNDS):
        observations.filter_all_points3D(error, _MIN_ANGLE)
        options = colmap.BundleAdjustmentOptions()
        options.ceres.loss_function_type = colmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = max(median, _NOISE)
        options.ceres.solver_options.num_threads = 1
        options.ceres.solver_options.function_tolerance = 1e-6
        # `colmap.bundle_adjustment` would do the same, but prints.
        colmap.create_default_bundle_adjuster(options, everything, model).solve()
        median = _median_error(model)
        error = min(error, max(_OUTLYING * median, _NOISE))
    return _Refined(model, model.compute_num_observations(), median)


def _median_error(model: Any) -> float:
    """Over a model's points, each the mean of its observations, in pixels; infinite without points."""
    model.update_point_3d_errors()
    return float(np.median([point.error for point in model.points3D.values()])) if model.num_points3D() else np.inf


def _described(structure: Structure, model: Any, cameras: Sequence[Camera]) -> Structure:
    placed: list[Camera | None] = list(structure.cameras)
    errors, seen = structure.errors.copy(), structure.seen.copy()
    for number in sorted(model.reg_image_ids()):
        image, index = model.images[number], number - 1
        world = image.cam_from_world()
        focal, cx, cy, k1, k2 = model.cameras[image.camera_id].params.tolist()
        observed = image.get_observation_points2D()
        if len(observed) < ENOUGH_MATCHES:
            continue
        camera = replace(
            cameras[index],
            fx=focal,
            fy=focal,
            cx=cx,
            cy=cy,
            pose=pose_from_opencv(world.rotation.matrix(), world.translation),
            distortion=(k1, k2),
        )
        points = np.array([model.points3D[each.point3D_id].xyz for each in observed])
        places = np.array([each.xy for each in observed])
        placed[index], seen[index] = camera, len(points)
        errors[index] = np.linalg.norm(camera.project(points)[0] - places, axis=1).mean()
    # What two cameras see alike may be two things that a third one would tell apart.
    views = min(3, len(model.reg_image_ids()))
    certain = [number for number in sorted(model.points3D) if model.points3D[number].track.length() >= views]
    points = np.array([model.points3D[number].xyz for number in certain]).reshape(-1, 3)
    return replace(structure, cameras=tuple(placed), points=points, errors=errors, seen=seen)

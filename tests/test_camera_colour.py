"""Camera colours: their declaration in a file, their separation from the scene, their effect on a picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from fields import PROFILE, SPACES, networks

from invcodec.container.head import Head
from invcodec.errors import DamagedError, UnsupportedError
from invcodec.render import camera_colour
from invcodec.render.camera_colour import CameraColour
from invcodec.render.display import displayed
from invcodec.render.engine import Pixels
from invcodec.render.networks import build_networks, declare
from invcodec.synth.rig import synthetic_rig

RIG = tuple(synthetic_rig(3, (8, 6)))
NAMES = tuple(camera.name for camera in RIG)


def head(*more: Any) -> Head:
    return Head(
        frame_rate=Fraction(25),
        time_base=Fraction(1, 1000),
        source_size=(8, 6),
        downscale=1,
        background=None,
        cameras=RIG,
        networks=(*map(declare, networks(SPACES["box"])), *more),
        encoder={},
    )


def colours(seed: int = 0) -> CameraColour:
    rng = np.random.default_rng(seed)
    return CameraColour(
        NAMES, rng.uniform(0.5, 2, (3, 3)).astype(np.float32), rng.normal(0, 0.1, (3, 3)).astype(np.float32)
    )


def test_weights_are_separated_by_role_not_by_name() -> None:
    scene = {("scene", "grid.0"): np.zeros((5, 5, 5, 2), np.float32)}
    held = colours()
    for name in (camera_colour.NAME, "exposures"):
        declared = replace(camera_colour.declare(3), name=name)
        weights = {(name, tensor): value for (_, tensor), value in held.weights().items()}
        found, colour = camera_colour.split(head(declared), scene | weights)
        assert found.keys() == scene.keys()
        assert colour is not None
        assert colour.names == NAMES
        np.testing.assert_array_equal(colour.gain, held.gain)
        np.testing.assert_array_equal(colour.offset, held.offset)
    assert camera_colour.split(head(), scene) == (scene, None)


def test_every_colour_gets_the_gain_and_offset_of_its_camera() -> None:
    held = colours()
    rgb = np.random.default_rng(1).random((4, 3), np.float32)
    cameras = np.array([2, 0, 0, 1])
    shown = held.apply(rgb, cameras)
    for row, camera in enumerate(cameras):
        np.testing.assert_array_equal(shown[row], rgb[row] * held.gain[camera] + held.offset[camera])
    index = held.index(NAMES[1])
    assert index == 1
    np.testing.assert_array_equal(held.apply(rgb, index), rgb * held.gain[1] + held.offset[1])
    assert held.index("no such camera") is None
    np.testing.assert_array_equal(held.select([2, 1]).apply(rgb, 0), held.apply(rgb, 2))


def test_cameras_without_an_estimate_stay_neutral() -> None:
    some = colours().select([0, 2])
    whole = CameraColour.of_some(NAMES, [0, 2], some.gain, some.offset)
    rgb = np.random.default_rng(1).random((4, 3), np.float32)
    np.testing.assert_array_equal(whole.apply(rgb, 1), rgb)
    np.testing.assert_array_equal(whole.apply(rgb, 2), some.apply(rgb, 1))


def test_weights_have_the_declared_shapes() -> None:
    specs = camera_colour.specs(3)
    assert {key: value.shape for key, value in colours().weights().items()} == {
        key: spec.shape for key, spec in specs.items()
    }
    declared = {("camera-colour", tensor.name): tensor.shape for tensor in camera_colour.declare(3).tensors}
    assert declared == {key: spec.shape for key, spec in specs.items()}


def test_a_file_has_at_most_one_such_network_and_it_fits_the_cameras() -> None:
    assert [each.profile.tensors for each in build_networks(head(camera_colour.declare(3)))] == [PROFILE.tensors]
    with pytest.raises(DamagedError, match="do not fit the cameras"):
        build_networks(head(camera_colour.declare(4)))
    for other in ({"config": {"cameras": 7}}, {"config": {}}, {"config": {"cameras": 3.0}}, {"space": {"kind": "box"}}):
        with pytest.raises(DamagedError, match="configuration or space do not fit"):
            build_networks(head(replace(camera_colour.declare(3), **other)))
    with pytest.raises(UnsupportedError, match="version 2"):
        build_networks(head(replace(camera_colour.declare(3), version=2)))
    twice = camera_colour.declare(3), replace(camera_colour.declare(3), name="again")
    with pytest.raises(UnsupportedError, match="combination"):
        build_networks(head(*twice))


def test_displayed_colours_are_straight_then_those_of_the_camera_then_8_bit() -> None:
    rgb = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [1e-5, 0, 0]], np.float32)
    opacity = np.array([0.5, 1, 0], np.float32)
    pixels = Pixels(rgb, opacity, np.zeros(3, np.float32))
    gain, offset = np.full((2, 3), 2, np.float32), np.array([[0, 0, 0], [0, 0, -0.4]], np.float32)
    colour = CameraColour(("a", "b"), gain, offset)
    levels = [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0, 0, 0]]
    np.testing.assert_array_equal(displayed(pixels, transparent=False), np.rint(255 * np.array(levels, np.float32)))
    straight = displayed(pixels, transparent=True, colour=colour, camera=None)
    np.testing.assert_array_equal(straight, [[51, 102, 153], [128, 128, 128], [26, 0, 0]])
    seen = displayed(pixels, transparent=True, colour=colour, camera=np.array([0, 1, 0]))
    np.testing.assert_array_equal(seen, [[102, 204, 255], [255, 255, 153], [51, 0, 0]])
    np.testing.assert_array_equal(displayed(pixels, transparent=True, colour=colour, camera=0)[0], seen[0])

"""`invcodec export`: splats and meshes against known shapes and the decoder, files read back by other libraries."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
import trimesh
from conftest import Cli
from fields import SPACES
from files import ROOT, SPEC, load
from scipy.spatial.transform import Rotation

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import encode_key, key_frame
from invcodec.container.writer import Writer
from invcodec.decoding.video import Video
from invcodec.exporting import splats
from invcodec.exporting import surface as surfaces
from invcodec.exporting.glb import glb_bytes
from invcodec.exporting.ply import ply_bytes
from invcodec.exporting.scene import Field, Sight, colours, sights
from invcodec.exporting.splats import Splats, Splatter
from invcodec.exporting.surface import surface
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at, quarter_turn_upright
from invcodec.geometry.rotations import from_quaternion, to_quaternion
from invcodec.geometry.space import Space, positions
from invcodec.metrics import psnr, to_8_bit
from invcodec.render import composite

exported = load("exported", ROOT / "benchmarks")

PROPERTIES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
IN_FRONT = np.array([0.0, 0.0, -3.0])
RADIUS = 0.5
STEPS = 96


def unit_cube(space: Space, points: np.ndarray) -> np.ndarray:
    """Inverse of `Space.world` for spaces in the world's axes."""
    if space.kind == "box":
        return (points - space.low) / (space.high - space.low)
    if space.kind == "contract":
        size = np.abs(points).max(1, keepdims=True).clip(1)
        folded = np.where(np.abs(points) >= size, np.sign(points) * (2 - 1 / size), points / size)
        return folded / 4 + 0.5
    depth = -points[:, 2:]
    xy = (points[:, :2] / depth - space.low[:2]) / (space.high[:2] - space.low[:2])
    return np.concatenate([xy, 1 - space.low[2] / depth], 1)


def ball(space: Space, centre: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A density that is as high at the surface of a ball as where meshes have theirs, and higher inside."""

    def density(points: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(space.world(points.astype(np.float64).clip(1e-6, 1 - 1e-6)) - centre, axis=1)
        return (-STEPS * np.log1p(-surfaces._LEVEL) * np.exp(60 * (RADIUS - away).clip(-1, 0.1))).astype(np.float32)

    return density


def paint(points: np.ndarray) -> np.ndarray:
    """A colour that says where in space it is."""
    return 0.5 + 0.4 * np.sin(2 * points)


def sight_of_ball(camera: Camera, centre: np.ndarray) -> Sight:
    origins, directions = camera.rays()
    a, b = (directions**2).sum(1), (directions * (origins - centre)).sum(1)
    inside = b * b - a * (((origins - centre) ** 2).sum(1) - RADIUS**2)
    depth = np.where(inside > 0, (-b - np.sqrt(inside.clip(0))) / a, np.inf)
    colour = to_8_bit(paint(origins + np.where(inside > 0, depth, 0)[:, None] * directions))
    return Sight(camera, depth.reshape(camera.height, camera.width), colour.reshape(camera.height, camera.width, 3))


def around(centre: np.ndarray, directions: np.ndarray) -> list[Sight]:
    poses = [look_at(centre + 2.5 * d / np.linalg.norm(d), centre, np.array([0.1, 1.0, 0.2])) for d in directions]
    return [sight_of_ball(Camera(f"{i}", 120, 120, 150, 150, 60, 60, pose), centre) for i, pose in enumerate(poses)]


ALL_SIDES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
CASES = [
    pytest.param(SPACES["box"], np.array([0.1, -0.2, 0.0]), id="box"),
    pytest.param(SPACES["contract"], np.array([0.3, 0.0, 0.9]), id="contract"),
    pytest.param(SPACES["ndc"], IN_FRONT, id="ndc"),
]


def test_quaternions_are_those_of_another_implementation() -> None:
    turns = Rotation.random(200, rng=np.random.default_rng(0)).as_matrix()
    turns = np.concatenate([turns, [np.diag(signs) for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))]])
    found = to_quaternion(turns)
    expected = Rotation.from_matrix(turns).as_quat()[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-12)
    np.testing.assert_allclose(from_quaternion(found), turns, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_up_becomes_y_by_quarter_turns(axis: int, sign: int) -> None:
    up = sign * np.eye(3)[axis]
    rig = [Camera("", 4, 3, 4, 4, 2, 1.5, look_at(3 * np.roll(up, k) + up, np.zeros(3), up)) for k in (1, 2)]
    turn = quarter_turn_upright(rig)
    np.testing.assert_array_equal(turn @ up, (0, 1, 0))
    assert np.linalg.det(turn) == pytest.approx(1)
    assert set(np.abs(turn).ravel()) == {0, 1}


def test_colours_are_those_of_cameras_that_see_a_point() -> None:
    centre = np.zeros(3)
    front, back = around(centre, np.array([[0.0, 0, 1], [0, 0, -1]]))
    red = Sight(front.camera, front.depth, np.full_like(front.colour, (255, 0, 0)))
    blue = Sight(back.camera, back.depth, np.full_like(back.colour, (0, 0, 255)))
    points = np.array([[0, 0, 0.5], [0, 0, -0.5], [0, 0, 0.0], [0, 0, 9]])
    known, colour = colours(points, [red, blue])
    np.testing.assert_array_equal(known, [True, True, False, False])
    np.testing.assert_allclose(colour, [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    # Away from the surface that a camera sees, it has less to say.
    near = Sight(front.camera, front.depth * 0.97, np.full_like(front.colour, (0, 255, 0)))
    assert colours(points[:1], [red, near])[1][0] @ (1, -1, 0) > 0.99


@pytest.mark.parametrize(("space", "centre"), CASES)
def test_splats_lie_in_the_surface_that_cameras_see(space: Space, centre: np.ndarray) -> None:
    most = 10_000
    made = Splatter(space, most).splats(ball(space, centre), around(centre, ALL_SIDES))
    assert most / 2 < len(made) <= most
    away = np.linalg.norm(made.positions - centre, axis=1)
    # As far from the surface as cameras look behind it, at most, and as far in front as there is some density.
    assert away.min() > RADIUS - 0.07 * 2.6
    assert away.max() < RADIUS + 0.15
    # Near its rim, a camera's pixel may show another part of the ball.
    off = np.abs(made.colours - paint(centre + (made.positions - centre) * (RADIUS / away)[:, None]))
    assert np.quantile(off, 0.98) < 0.15
    np.testing.assert_allclose(
        made.axes @ made.axes.transpose(0, 2, 1) - np.eye(3), np.zeros((len(made), 3, 3)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(made.axes), 1)
    assert ((made.opacities > 0.1) & (made.opacities < 1)).all()
    # Where the space is curved, splats are as large as their cells.
    cells = unit_cube(space, made.positions)
    cell = np.diff(np.unique(cells[:, 0].round(5))).min()
    volume = (0.4 * cell) ** 3 / space.density(made.positions)
    np.testing.assert_allclose(made.scales.prod(1), volume, rtol=0.1)


def test_a_sequence_keeps_its_grid_unless_a_frame_has_too_many() -> None:
    space, centre = SPACES["box"], np.zeros(3)
    seen = around(centre, ALL_SIDES)
    splatter = Splatter(space, 4000)
    nothing = splatter.splats(lambda points: np.zeros(len(points), np.float32), seen)
    assert len(nothing) == 0
    first, again = (splatter.splats(ball(space, centre), seen) for _ in range(2))
    np.testing.assert_array_equal(first.positions, again.positions)
    full = splatter.splats(lambda points: np.full(len(points), 1e4, np.float32), seen)
    assert 0 < len(full) <= 4000


@pytest.mark.parametrize(("space", "centre"), CASES)
def test_a_mesh_is_the_surface_that_cameras_see(
    space: Space, centre: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces, "_POINTS", 129)
    mesh = surface(space, STEPS, ball(space, centre), around(centre, ALL_SIDES))
    away = np.linalg.norm(mesh.positions - centre, axis=1)
    np.testing.assert_allclose(away, RADIUS, atol=0.04)
    np.testing.assert_allclose(mesh.colours, paint(mesh.positions), atol=0.06)
    found = trimesh.Trimesh(mesh.positions, mesh.triangles)
    # Closed, and its outside is outside.
    assert found.is_watertight
    assert found.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
    half = surface(space, STEPS, ball(space, centre), around(centre, ALL_SIDES[4:5]))
    assert (half.positions - centre)[:, 2].min() > -0.1
    assert len(half.positions) == len(np.unique(half.triangles))


def test_meshes_of_fog_are_made_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "_POINTS", 65)
    monkeypatch.setattr(surfaces, "_MOST_CELLS", 5000)
    rng = np.random.default_rng(0)
    seen = around(np.zeros(3), ALL_SIDES)
    noise = surface(SPACES["box"], 10, lambda points: rng.exponential(14, len(points)), seen)
    assert 0 < len(noise.triangles) < 5 * 5000
    assert len(surface(SPACES["box"], 10, lambda points: np.zeros(len(points)), seen).triangles) == 0


@pytest.mark.parametrize("name", ["grid-parts", "grid-contract-colour", "grid-box-transparent"])
def test_density_is_what_rays_meet(name: str) -> None:
    with Video(SPEC / f"vectors/valid/{name}/input.inv", threads=1) as video:
        frame = video.frames[-1]
        field = Field(video, threads=1)
        field.load(frame)
        camera = frame.cameras[0]
        rays, space = video.networks.space.march(*camera.rays()), video.networks.space
        samples = composite.uniform(video.networks.samples, torch.full((len(rays),), 0.5))
        along = torch.tensor(rays.origins), torch.tensor(rays.directions)
        points = positions(*along, samples.s, space.contracted).reshape(-1, 3).numpy()
        density = torch.tensor(field(points)).reshape(samples.s.shape)
        light = composite.composite(density, composite.lengths(*along, samples, space.contracted), samples.s)
        alpha = frame.render(camera).alpha.ravel()
    assert alpha.max() > 0.5
    np.testing.assert_allclose(light.opacity, alpha, atol=2e-3)


def test_density_is_zero_outside_of_the_cube() -> None:
    with Video(SPEC / "vectors/valid/nerf-scene/input.inv", threads=1) as video:
        field = Field(video, threads=1)
        field.load(video.frames[0])
    points = np.random.default_rng(0).uniform(-0.5, 1.5, (1000, 3)).astype(np.float32)
    inside = ((points >= 0) & (points < 1)).all(1)
    density = field(points)
    assert (density[~inside] == 0).all()
    assert (density[inside] > 0).any()


def test_one_splat_and_one_triangle_look_as_they_should() -> None:
    camera = Camera("", 24, 20, 30, 30, 12, 10, look_at(np.array([0.0, 0, 4]), np.zeros(3), np.array([0, 1.0, 0])))
    colour, back = np.array([0.9, 0.4, 0.1]), np.array([0.0, 0.2, 0.6])
    # The long axis is turned to the picture's vertical.
    turn = from_quaternion(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))[None]
    one = (np.zeros((1, 3)), turn, np.array([[0.4, 0.2, 0.01]]), np.array([0.8]), colour[None])
    x, y = np.meshgrid(np.arange(24) + 0.5 - 12, np.arange(20) + 0.5 - 10)
    wide, high = (0.2 * 30 / 4) ** 2 + 0.3, (0.4 * 30 / 4) ** 2 + 0.3
    alpha = 0.8 * np.exp(-(x * x / wide + y * y / high) / 2)[..., None]
    expected = alpha * colour + (1 - alpha) * back
    np.testing.assert_allclose(exported.render_splats(camera, *one, back), expected, atol=1 / 255)
    # Of two, the nearer one is in front, whatever their order.
    both = [np.concatenate([array, array]) for array in one]
    both[0][0, 2], both[4][0] = -0.5, (0, 1, 0)
    swapped = [array[::-1] for array in both]
    middle = exported.render_splats(camera, *both, back)[10, 12]
    np.testing.assert_array_equal(middle, exported.render_splats(camera, *swapped, back)[10, 12])
    assert middle[0] > middle[1]

    corners = np.array([[-1, -1, 0.0], [1, -1, 0], [0, 1, 1], [-1, -1, -1], [1, -1, -1], [0, 1, -1]])
    shades = np.concatenate([np.eye(3), np.ones((3, 3))])
    picture = exported.render_mesh(camera, corners, np.array([[3, 4, 5], [0, 1, 2]]), shades, back)
    np.testing.assert_array_equal(picture[0, 0], back)
    column, row = camera.project(np.array([[0, -0.5, 0.25]]))[0][0].astype(int)
    np.testing.assert_allclose(picture[row, column], [0.375, 0.375, 0.25], atol=0.05)


def test_ply_files_hold_what_players_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    turns = Rotation.random(5, rng=rng).as_matrix()
    made = Splats(rng.normal(size=(5, 3)), turns, rng.random((5, 3)), 0.1 + 0.8 * rng.random(5), rng.random((5, 3)))
    (tmp_path / "one.ply").write_bytes(ply_bytes(made))
    file = plyfile.PlyData.read(tmp_path / "one.ply")
    # As SuperSplat wants it, from its source: binary, one element, all of these properties, as floats.
    header = (tmp_path / "one.ply").read_bytes().split(b"end_header\n")[0].decode().splitlines()
    assert header[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 5"]
    assert header[3:] == [f"property float {name}" for name in PROPERTIES.split()]
    count, picture = exported.read_splats(tmp_path / "one.ply", np.eye(3))
    camera = Camera("", 24, 20, 30, 30, 12, 10, look_at(np.array([0.0, 0, 5]), np.zeros(3), np.array([0, 1.0, 0])))
    arrays = made.positions, made.axes, made.scales, made.opacities, made.colours
    assert count == 5
    np.testing.assert_allclose(
        picture(camera, np.zeros(3)), exported.render_splats(camera, *arrays, np.zeros(3)), atol=1e-5
    )
    # What is up is at negative y, until a player turns it.
    np.testing.assert_allclose(file["vertex"]["y"], -made.positions[:, 1], rtol=1e-6)
    np.testing.assert_allclose(file["vertex"]["z"], made.positions[:, 2], rtol=1e-6)


def test_glb_files_hold_linear_colours_that_no_light_falls_on(tmp_path: Path) -> None:
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = surfaces.Mesh(positions, np.array([[0, 1, 2]]), np.array([[0, 0.5, 1], [0.02, 0.04, 0.08], [1, 1, 1]]))
    data = glb_bytes(mesh)
    (tmp_path / "one.glb").write_bytes(data)
    (found,) = trimesh.load_scene(tmp_path / "one.glb", process=False).geometry.values()
    np.testing.assert_array_equal(found.vertices, positions)
    np.testing.assert_array_equal(found.faces, [[0, 1, 2]])
    linear = found.visual.vertex_attributes["color"] / 65535
    expected = [[0, 0.214041, 1, 1], [0.001548, 0.003096, 0.007187, 1], [1, 1, 1, 1]]
    np.testing.assert_allclose(linear, expected, atol=2e-5)
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert tree["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    assert tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]["normalized"] is True


def test_exported_splats_look_like_decoded_frames(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "splats"
    done = cli("export", encoded, "--ply", out, "--frames", "1:3", "--splats", 20000, "--threads", 2)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{out}/frame_0001.ply to {out}/frame_0002.ply")
    # What SuperSplat takes for a sequence: the same name but for a number at the end.
    assert sorted(path.name for path in out.iterdir()) == ["frame_0001.ply", "frame_0002.ply"]
    with Video(encoded, threads=1) as video:
        for number in (1, 2):
            frame = video[number]
            count, picture = exported.read_splats(out / f"frame_{number:04d}.ply", quarter_turn_upright(frame.cameras))
            assert 10000 < count <= 20000
            camera = frame.camera("cam00")
            assert camera.held_out
            shown = frame.render(camera, neutral_colour=True).rgb
            assert psnr(to_8_bit(picture(camera, np.zeros(3))), shown) > 23


def test_an_exported_mesh_looks_like_the_decoded_frame(
    cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces, "_POINTS", 97)
    out = tmp_path / "frame.glb"
    done = cli("export", encoded, "--frame", "latest", "--mesh", out, "--threads", 2)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{out}  (")
    with Video(encoded, threads=1) as video:
        frame = video.frames[-1]
        count, picture = exported.read_mesh(out, quarter_turn_upright(frame.cameras))
        assert f"({count} triangles" in done.out
        camera = frame.camera("cam00")
        shown = frame.render(camera, neutral_colour=True).rgb
        assert psnr(to_8_bit(picture(camera, np.zeros(3))), shown) > 18


def test_existing_files_are_kept_unless_forced(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "frame_0002.ply").write_text("mine")
    options = ("export", encoded, "--ply", tmp_path, "--splats", 10000, "--threads", 2)
    done = cli(*options)
    assert (done.code, done.out) == (2, "")
    assert "frame_0002.ply: already exists; use -f" in done.err
    # Nothing was begun.
    assert [path.name for path in tmp_path.iterdir()] == ["frame_0002.ply"]
    assert cli(*options, "--frame", 2, "-f").code == 0
    assert len(plyfile.PlyData.read(tmp_path / "frame_0002.ply")["vertex"]) > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "choose an output: --html, --site, --ply, --mesh"),
        (("--ply", "out", "--mesh", "a.glb"), "--ply and --mesh are mutually exclusive"),
        (("--mesh", "a.glb", "--frame", "1", "--splats", "10000"), "--splats is for --ply"),
        (("--mesh", "a.glb"), "--mesh needs a single frame, but 3 are selected; choose one with --frame"),
        (("--mesh", "a.obj", "--frame", "1"), "a.obj: unsupported format for meshes; use .glb"),
        (("--ply", "out", "--splats", "10"), "10 is not in the range 10000 to 10000000"),
        (("--ply", "out", "--frame", "9"), "no frame 9"),
        (("--ply", "file"), "file: cannot create this directory"),
        (("--mesh", "no/a.glb", "--frame", "1"), "no: no such directory"),
    ],
)
def test_wrong_requests_are_refused(
    options: tuple[str, ...], message: str, cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    done = cli("export", encoded, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("module", "options"),
    [("plyfile", ("--ply", "out")), ("trimesh", ("--mesh", "a.glb")), ("skimage.measure", ("--mesh", "a.glb"))],
)
def test_missing_libraries_are_named(
    module: str, options: tuple[str, ...], cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    done = cli("export", encoded, "--frame", 1, *options)
    assert (done.code, done.out) == (2, "")
    assert "pip install 'invcodec[export]'" in done.err
    assert not list(tmp_path.iterdir())


def test_pictures_of_one_camera_are_refused(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", SPEC / "vectors/valid/image-grid/input.inv", "--ply", tmp_path / "out")
    assert done.code == 2
    assert "holds pictures of one camera (profile image), which have no depth" in done.err
    assert not list(tmp_path.iterdir())


def test_frames_that_show_nothing_are_an_error(
    cli: Cli, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces, "_POINTS", 33)
    empty = tmp_path / "empty.inv"
    with StateReader(encoded) as reader, open(empty, "wb") as out:
        state = reader.state_at(1)
        writer = Writer(out, reader.head)
        levels = {key: 0 * value if key[1] == "occupancy" else value for key, value in state.levels.items()}
        coded, state = encode_key(reader.head, levels, state.qps)
        writer.frame(0, key_frame(state, 0), coded)
        writer.finish(True)
    for options in (("--ply", tmp_path / "out"), ("--mesh", tmp_path / "a.glb")):
        done = cli("export", empty, *options)
        assert (done.code, done.out) == (1, "")
        assert "in frame 0, the cameras see nothing that could be exported" in done.err
    assert not (tmp_path / "a.glb").exists()


def test_frames_lost_to_damage_are_named_and_others_written(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    with StateReader(encoded) as reader:
        entry = reader.entry(2)
    data = bytearray(encoded.read_bytes())
    data[entry.offset + entry.length // 2] ^= 0xFF
    damaged = tmp_path / "damaged.inv"
    damaged.write_bytes(data)
    done = cli("export", damaged, "--ply", tmp_path / "out", "--splats", 10000, "--threads", 2)
    assert done.code == 3
    assert "frame 2" in done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["frame_0001.ply", "frame_0003.ply"]


@pytest.mark.parametrize(
    "name",
    ["extreme-values", "fisheye", "distortion-rational", "moving-cameras", "nerf-coarse-fine", "grid-contract-colour"],
)
def test_every_kind_of_file_is_exported_or_said_to_show_nothing(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces, "_POINTS", 33)
    monkeypatch.setattr(splats, "_FIRST_CELLS", 32)
    monkeypatch.setattr(splats, "_MOST_CELLS", 48)
    file = SPEC / f"vectors/valid/{name}/input.inv"
    for options, made in ((("--ply", tmp_path), "frame_*.ply"), (("--mesh", tmp_path / "a.glb"), "a.glb")):
        done = cli("export", file, "--frame", "latest", "--threads", 1, *options)
        assert done.code == (0 if list(tmp_path.glob(made)) else 1)
        assert ("nothing that could be exported" in done.err) == bool(done.code)
    for path in tmp_path.glob("frame_*.ply"):
        rows = plyfile.PlyData.read(path)["vertex"]
        assert all(np.isfinite(rows[each.name]).all() for each in rows.properties)


def test_large_rigs_are_looked_at_in_smaller_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invcodec.exporting.scene._MOST_PIXELS", 12)
    with Video(SPEC / "vectors/valid/grid-ndc/input.inv", threads=1) as video:
        seen = sights(video.frames[0])
        # The first camera is held out.
        assert [sight.camera.name for sight in seen] == ["cam01"]
        assert seen[0].depth.shape == seen[0].colour.shape[:2] == (3, 4)

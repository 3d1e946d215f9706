"""Feeds damaged and hostile captures to the encoder's input: `python spec/fuzz_captures.py --inputs 5000`.

Inputs are small captures, sound but for a few mutations: of their JSON, the array of poses, pictures, masks, videos and
reconstructed points; and descriptions of live rigs whose cameras are such videos. What opens a capture, reads its
frames and fits a space and networks to it must end with a result or a typed error. Any other outcome is printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import re
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from time import monotonic

import av
import numpy as np
from fuzz import FLOATS, NUMBERS, Fuzzer
from PIL import ExifTags, Image

from invcodec.capture.capture import open_capture
from invcodec.capture.live.rig import CameraRig
from invcodec.capture.video import probe
from invcodec.encoding.capacity import fit
from invcodec.encoding.plan import check_numbers
from invcodec.encoding.presets import resolve
from invcodec.errors import InvError
from invcodec.geometry.fitting import choose_space

WIDTH, HEIGHT = 16, 12
PICTURES = ("png", "jpg", "webp", "tif", "gif", "bmp")
VIDEOS = ("mp4", "mkv", "avi", "ts")
_TEXT = (".yaml", ".yml", ".toml", ".csv", ".xml", ".txt")
_DESCRIPTIONS = (".json", ".npy", *_TEXT)
_PATIENCE = 60
"""Seconds after which something that should have ended has not."""
_SILENCE = 1.0
"""Seconds to wait for a frame of a rig, some of whose cameras may have none of the same time."""


def pose(index: int) -> list[list[float]]:
    return [[1.0, 0.0, 0.0, 0.3 * index], [0.0, 1.0, 0.0, 0.1 * index], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_clip(path: Path, rotation: int = 0) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4" if path.suffix == ".avi" else "libx264", 20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number))))
        container.mux(stream.encode(None))


def write_points(folder: Path) -> None:
    """A model of COLMAP's, in text."""
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    lines = [f"{n} 0 1 0 0 {-0.3 * n} {0.1 * n} 0 1 cam{n}.png\n1 2 3" for n in range(4)]
    (model / "images.txt").write_text("# images\n" + "\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("".join(f"{n} {n / 9} 0.5 {-2 - n} 1 2 3 0.1 1 2\n" for n in range(9)))


def calibrations() -> dict[str, str]:
    """Sound calibrations of other tools by file name, of cameras `cam0` to `cam3`; `intri.yml` is `extri.yml`, too."""
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    axes = " ".join(f'r{i}{j}="{int(i == j)}"' for i in (1, 2, 3) for j in (1, 2, 3))
    chain = table = reality = matrices = toml = sensors = aligned = marked = ""
    rows = []
    for n in range(4):
        x = 0.3 * n
        chain += f"cam{n}:\n  camera_model: pinhole\n  distortion_model: radtan\n  distortion_coeffs: [0.1, 0, 0, 0]\n"
        chain += f"  resolution: [{WIDTH}, {HEIGHT}]\n  intrinsics: [15.0, 15.0, 8.0, 6.0]\n"
        chain += "  T_cn_cnm1: [[1.0, 0.0, 0.0, 0.3], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0, 0, 0, 1]]\n"
        for name, shape, data in (
            ("K", (3, 3), [15, 0, 8, 0, 15, 6, 0, 0, 1]),
            ("D", (1, 5), [0.1, 0, 0, 0, 0]),
            ("R", (3, 1), [0, 0.1, 0]),
            ("T", (3, 1), [x, 0, 0]),
        ):
            matrices += f"{name}_cam{n}: !!opencv-matrix\n  rows: {shape[0]}\n  cols: {shape[1]}\n  data: {data}\n"
        toml += f'[cam_{n}]\nname = "cam{n}"\nsize = [{WIDTH}, {HEIGHT}]\nmatrix = [15, 0, 8, 0, 15, 6, 0, 0, 1]\n'
        toml += f"distortions = [0.1, 0, 0, 0, 0]\nrotation = [0, 0.1, 0]\ntranslation = [{x}, 0, 0]\nfisheye = false\n"
        table += f"cam{n},{WIDTH},{HEIGHT},0,0.1,0,{x},0,0,0.9,1.2,0.5,0.5\n"
        reality += f"cam{n}.png,{x},0,0,10,20,30,35,0,0,0.1,0,0,0,0,0\n"
        sensors += f'<sensor id="{n}"><resolution {size}/><calibration><f>15</f></calibration></sensor>'
        aligned += f'<camera sensor_id="{n}" label="cam{n}">'
        aligned += f"<transform>1 0 0 {x} 0 1 0 0 0 0 1 0 0 0 0 1</transform></camera>"
        marked += f'<camera serial="cam{n}"><fov_video left="0" top="0" right="{WIDTH - 1}" bottom="{HEIGHT - 1}"/>'
        marked += f'<transform {axes} x="{x}" y="0" z="0"/><intrinsic focalLengthU="960" focalLengthV="960"/></camera>'
        lens = {"projection_type": "fisheye", "focal_length": 15, "principal_point": [8, 6]}
        place = {"position": [x, 0, 0], "orientation": [0, 0, 0]}
        rows.append({"name": f"cam{n}", "width": WIDTH, "height": HEIGHT, **lens, **place})
    frames = [{"file_path": f"cam{n}/{k}", "time": k, "transform_matrix": pose(n)} for n in range(4) for k in (0, 1)]
    return {
        "camchain.yaml": chain,
        "intri.yml": "%YAML:1.0\n---\nnames: [cam0, cam1, cam2, cam3]\n" + matrices,
        "x.toml": toml,
        "calibration.csv": "name,w,h,rx,ry,rz,tx,ty,tz,fx,fy,px,py\n" + table,
        "x.csv": "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n" + reality,
        "x.xml": f"<document><chunk><sensors>{sensors}</sensors><cameras>{aligned}</cameras></chunk></document>",
        "x.qca.txt": f"<calibration><cameras>{marked}</cameras></calibration>",
        "models.json": json.dumps(rows),
        "transforms_train.json": json.dumps({"camera_angle_x": 0.9, "frames": frames}),
    }


def write_stills(folder: Path) -> None:
    """Pictures of the cameras of `calibrations`."""
    for index in range(4):
        (folder / f"cam{index}").mkdir(parents=True)
        for number in range(2):
            Image.fromarray(picture(number)).save(folder / f"cam{index}" / f"{number}.png")


def write_calibration(folder: Path, name: str, data: bytes) -> None:
    """One of `calibrations`."""
    (folder / name).write_bytes(data)
    if name == "intri.yml":
        (folder / "extri.yml").write_bytes(data)


def write_captures(folder: Path) -> list[Path]:
    """Sound captures, one of each kind."""
    top = {"w": WIDTH, "h": HEIGHT, "fl_x": 15.0, "fps": 20, "near": 1.0, "far": 9.0, "test_cameras": ["cam3"]}
    pictures, films, poses, rig = (folder / name for name in ("pictures", "films", "poses", "rig"))
    for each in (pictures, films, poses, rig):
        each.mkdir(parents=True)
    frames, cameras = [], []
    for index, (still, film) in enumerate(zip(PICTURES, VIDEOS, strict=False)):
        name = f"cam{index}"
        for number in range(2):
            file = pictures / f"{name}_{number}.{still}"
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = 3
            # The formats without Exif ignore it.
            Image.fromarray(picture(number)).save(file, exif=exif)
            frames.append(
                {"file_path": file.name, "camera": name, "transform_matrix": pose(index), "time": number / 20}
            )
        frames[-1]["mask_path"] = "mask.png"
        write_clip(films / f"{name}.{film}")
        write_clip(poses / f"{name}.mp4", 180 * (index == 3))
        write_clip(rig / f"{name}.{film}")
        cameras.append({"name": name, "video": f"{name}.{film}", "transform_matrix": pose(index), "k1": 0.01})
    for each in (pictures, films):
        Image.fromarray(picture(9)[..., 0] // 128 * 255).save(each / "mask.png")
    write_points(pictures)
    cameras[0]["mask_path"] = "mask.png"
    (pictures / "transforms.json").write_text(json.dumps({**top, "frames": frames, "cameras": [{"name": "cam0"}]}))
    (films / "transforms.json").write_text(json.dumps({**top, "cameras": cameras}))
    (rig / "mask.png").write_bytes((films / "mask.png").read_bytes())
    live = [{**row, "ffmpeg": {"threads": 1}, "offset": 0.0, "clock": "stream"} for row in cameras]
    (rig / "rig.json").write_text(json.dumps({**top, "cameras": live}))
    rows = []
    for index in range(4):
        (rx, ux, bx, x), (ry, uy, by, y), (rz, uz, bz, z), _ = pose(index)
        columns = ([-ux, rx, bx, x, HEIGHT], [-uy, ry, by, y, WIDTH], [-uz, rz, bz, z, 15.0])
        rows.append([*columns[0], *columns[1], *columns[2], 1.0, 9.0])
    np.save(poses / "poses_bounds.npy", np.array(rows))
    write_points(poses)
    others = []
    for name, text in calibrations().items():
        others.append(folder / name)
        write_stills(folder / name)
        write_calibration(folder / name, name, text.encode())
    return [pictures, films, poses, rig, *others]


class CaptureFuzzer(Fuzzer):
    """Generates captures.

    Args:
        folder: for the sound ones.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.captures = write_captures(folder)

    def write(self, number: int, target: Path) -> None:
        """Write input `number` to a folder, which must not exist."""
        rng = random.Random(number)
        shutil.copytree(rng.choice(self.captures), target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        described = [path for path in files if path.suffix in _DESCRIPTIONS]
        for _ in range(rng.choice([1, 1, 2])):
            path = rng.choice(described if rng.random() < 0.75 else files)
            path.write_bytes(self._file(path.read_bytes(), path.suffix, rng))

    def _file(self, data: bytes, suffix: str, rng: random.Random) -> bytes:
        if suffix in _TEXT and rng.random() < 0.8:
            # Names and numbers.
            words = re.split(r"([\w.-]+)", data.decode(errors="replace"))
            for _ in range(rng.choice([1, 1, 2, 3])):
                other = rng.choice(["", "x" * 300, rng.choice(words), *map(str, rng.sample([*NUMBERS, *FLOATS], 4))])
                words[rng.randrange(1, len(words), 2) if len(words) > 1 else 0] = other
            return "".join(words).encode()
        if suffix == ".json" and rng.random() < 0.8:
            with suppress(ValueError, TypeError):
                value = json.loads(data)
                for _ in range(rng.choice([1, 1, 2, 3])):
                    value = self._change(value, rng)
                return json.dumps(value, default=str).encode()
        raw = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            self._bytes(raw, rng)
        return bytes(raw)


def attack(folder: Path) -> str:
    """Read one input and return the outcome. Only `InvError` may be raised."""
    try:
        if (folder / "rig.json").exists():
            source = CameraRig(folder / "rig.json", downscale=1, holdout=None)
            with source.filming() as newest, suppress(TimeoutError):
                newest.take(_SILENCE)
            return "filmed"
        capture = open_capture(folder)
        check_numbers(capture.numbers, capture.fps)
        space = choose_space(capture.cameras, points=capture.points, transparent=capture.transparent, kind=None)
        fit(resolve("draft"), capture.cameras, space)
        with closing(capture.frames()) as frames:
            list(islice(frames, 2))
    except InvError as error:
        return type(error).__name__
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input; each number is one input")
    arguments = parser.parse_args()
    faulthandler.enable()
    # A warning would be a line on the terminal that is not the program's.
    warnings.simplefilter("error", append=True)
    av.logging.set_level(None)
    outcomes, crashes, started = Counter[str](), 0, monotonic()
    with tempfile.TemporaryDirectory() as name:
        fuzzer = CaptureFuzzer(Path(name))
        for number in range(arguments.first, arguments.first + arguments.inputs):
            target = Path(name) / f"input{number}"
            fuzzer.write(number, target)
            faulthandler.dump_traceback_later(_PATIENCE, exit=True)
            try:
                outcome = attack(target)
            except Exception as error:
                crashes += 1
                outcome = f"CRASH {type(error).__name__}"
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"input {number}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})", flush=True)
            outcomes[outcome] += 1
            faulthandler.cancel_dump_traceback_later()
            probe.cache_clear()
            shutil.rmtree(target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{arguments.inputs} inputs in {monotonic() - started:.0f} s, {crashes} crashes, {peak / 1000:.0f} MB at most"
    )
    print(", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())))
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())

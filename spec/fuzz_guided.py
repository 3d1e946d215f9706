"""Feeds hostile files to the decoder, guided by coverage: `python spec/fuzz_guided.py file --seconds 600`.

libFuzzer, through atheris (`make fuzz-guided` installs it; Linux), keeps each input that reaches new code, and mutates
those. It starts from sound files; mutations are its own and those of `fuzz.py`, with corrected checksums. Targets:

    file    what finds records, parses all fields, decodes and verifies
    json    the descriptions of captures and live rigs
    points  reconstructed points

What numba compiles counts as no coverage. An error that is not the package's own ends the run, and its input is kept.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris
import numpy as np

_COMPILED = ["coding.codec", "coding.guide", "coding.mixing", "coding.model", "coding.rangecoder", "coding.state"]
_COMPILED += ["field.kernels.grid", "field.kernels.simd", "render.kernels", "training.walk"]
# Numba cannot compile functions that count coverage.
with atheris.instrument_imports(include=["invcodec"], exclude=[f"invcodec.{name}" for name in _COMPILED]):
    from fuzz import VECTORS, Fuzzer, joined, records, with_right_digests
    from fuzz_captures import write_captures

    from invcodec.capture.layouts import transforms
    from invcodec.capture.points import read_points
    from invcodec.container.info import describe
    from invcodec.editing.verify import verify
    from invcodec.errors import InvError
    from invcodec.geometry.camera import Camera

_LONGEST = 1 << 16
_ENOUGH_MB = 2048
_TOO_LONG = 60
"""Bytes, megabytes and seconds of one input."""


_CAMERA = Camera("cam", 16, 12, 15.0, 15.0, 8.0, 6.0, np.eye(3, 4))


class Mutator:
    """Mutates files of records; libFuzzer's custom mutator."""

    def __init__(self) -> None:
        self._fuzzer = Fuzzer()

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        try:
            parts = records(data)
        except InvError:
            parts = []
        if not parts or rng.random() < 0.1:
            return atheris.Mutate(data, most)
        if rng.random() < 0.4:
            at = rng.randrange(len(parts))
            type_, frame, payload = parts[at]
            parts[at] = type_, frame, atheris.Mutate(payload, len(payload) + 64)
        else:
            self._fuzzer._record(parts, rng)
        whole = joined(parts)
        return (with_right_digests(whole) if rng.random() < 0.3 else whole)[:most]


def attack_file(data: bytes, folder: Path) -> None:
    """All but rendering, which is compiled and takes most of the time of `fuzz.attack`."""
    path = folder / "input.inv"
    path.write_bytes(data)
    for read in (lambda: verify(io.BytesIO(data), "input"), lambda: describe(path, records=True)):
        with suppress(InvError):
            read()


def attack_json(data: bytes, folder: Path) -> None:
    path = folder / "transforms.json"
    path.write_bytes(data)
    for read in (lambda: transforms.read_rig(path), lambda: transforms.read(folder, None)):
        with suppress(InvError):
            read()


def attack_points(data: bytes, folder: Path) -> None:
    """Both files, in text if they begin as such."""
    model = folder / "sparse" / "0"
    model.mkdir(parents=True, exist_ok=True)
    for ending in ("bin", "txt"):
        for name in ("images", "points3D"):
            (model / f"{name}.{ending}").write_bytes(data)
        with suppress(InvError):
            read_points(folder, [_CAMERA])
        for name in ("images", "points3D"):
            (model / f"{name}.{ending}").unlink()


def main() -> None:
    targets: dict[str, Callable[[bytes, Path], object]] = {
        "file": attack_file,
        "json": attack_json,
        "points": attack_points,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=targets)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="folder for inputs that reach new code, to go on from")
    arguments = parser.parse_args()
    use = targets[arguments.target]
    folder = Path(tempfile.mkdtemp())
    corpus = arguments.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    if arguments.target == "file":
        seeds = [path.read_bytes() for path in sorted(VECTORS.glob("*/*/input.inv"))]
    else:
        write_captures(folder / "captures")
        wanted = (".json",) if arguments.target == "json" else (".txt", ".bin")
        seeds = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in wanted]
    for index, seed in enumerate(seeds):
        (corpus / f"seed{index}").write_bytes(seed)
    limits = [f"-max_len={_LONGEST}", f"-rss_limit_mb={_ENOUGH_MB}", f"-timeout={_TOO_LONG}"]
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={arguments.seconds}", *limits, "-print_final_stats=1", str(corpus)],
        lambda data: use(data, folder),
        **({"custom_mutator": Mutator()} if arguments.target == "file" else {}),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()

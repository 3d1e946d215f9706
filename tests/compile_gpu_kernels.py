"""Compiles every kernel that the GPU engine launches, for GPUs that need not be present; run without the interpreter.

    python tests/compile_gpu_kernels.py 80 90

Takes compute capabilities, such as 90 for 9.0, and prints the size and shared memory of each kernel.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import triton
from fields import EVERYTHING, SPACES, batch, rays
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from invcodec.field.grid import GridProfile
from invcodec.geometry.fitting import choose_space
from invcodec.render.gpu import GpuEngine
from invcodec.render.networks import Network, Networks
from invcodec.synth.rig import synthetic_rig
from invcodec.training.colour import ColourCorrection
from invcodec.training.device import DeviceSteps
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Budget, Schedule


class Driver:
    """The part of a Triton driver that compiling uses."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


def main() -> None:
    compiled: dict[tuple[str, str], Any] = {}

    def compile_only(kernel: JITFunction, grid: tuple[int, ...]) -> Any:
        def start(*arguments: Any, **options: Any) -> None:
            found = kernel.warmup(*arguments, grid=grid, **options)
            compiled[kernel.__name__, found.hash] = found

        return start

    JITFunction.__getitem__ = compile_only  # type: ignore[method-assign]
    cameras = [camera for camera in synthetic_rig(4, (24, 18)) if not camera.held_out]
    for capability in map(int, sys.argv[1:]):
        compiled.clear()
        triton.runtime.driver.set_active(Driver(capability))
        for space, parts in ((SPACES["contract"], 4), (SPACES["ndc"], 0)):
            engine = GpuEngine(Networks([Network("scene", "scene", GridProfile(parts=parts), space)]), device="cpu")
            rng = np.random.default_rng(0)
            for trainable in (EVERYTHING, {("scene", "grid.0")}):
                engine.begin(trainable, 0.0)
                engine.step(batch(space, rng, 64), 0.1, 0.1)
            engine.render(rays(space, rng, 64), np.zeros(3))
            engine.density(rng.random((64, 3), np.float32))
        for channels, correction in ((3, ColourCorrection(len(cameras))), (4, None)):
            images = [np.zeros((camera.height, camera.width, channels), np.uint8) for camera in cameras]
            views = Views(cameras, choose_space(cameras))
            steps = DeviceSteps(engine, views, correction)
            frame = FramePixels.gather(images, [None] * len(cameras), views.validation)
            steps.start(frame, Schedule(Budget(steps=1), 4096, 0.1, 0.1), rng, observe=False)
            steps.step(4096, 96, 0.1, 0.1)
        for (name, _), found in sorted(compiled.items()):
            print(capability, name, len(found.asm["cubin"]), "bytes,", found.metadata.shared, "bytes of shared memory")


if __name__ == "__main__":
    main()

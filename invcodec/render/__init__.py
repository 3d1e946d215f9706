"""Rays to pixels, and back for training."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError

import numpy as np

from invcodec.errors import InvWarning, UsageError
from invcodec.render.engine import Engine, Network

# Idle OpenMP threads must sleep, not spin, or they starve the kernels' own threads. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_engine(networks: tuple[Network, ...], *, device: str = "auto", threads: int | None = None) -> Engine:
    """The fastest engine that this machine has for these networks.

    Args:
        device: "auto", "cpu", or a device as torch names it ("cuda", "cuda:1").
        threads: to use on the CPU; all cores if None.

    Raises:
        UsageError: no such device here.
    """
    threads = threads or os.cpu_count() or 1
    if device == "auto":
        device = "cuda" if _has_cuda() else "cpu"
    grid = len(networks) == 1 and networks[0].profile.name == "grid"
    if grid and device == "cpu":
        from invcodec.render.compiled import CompiledEngine

        return CompiledEngine(networks[0], threads)
    from invcodec.render.reference import TorchEngine

    try:
        engine = _gpu_engine(networks[0], device) if grid and device.startswith("cuda") else None
        return engine or TorchEngine(networks, device=device, threads=threads)
    except (RuntimeError, AssertionError) as error:
        known = device.split(":")[0] in ("cpu", "cuda")
        reason = str(error).splitlines()[0] if known else "choose auto, cpu or cuda"
        raise UsageError(f"device '{device}' cannot be used here ({reason})") from None


def _gpu_engine(network: Network, device: str) -> Engine | None:
    """The engine of fused kernels, or None where these cannot be made."""
    if not find_spec("triton"):
        return None
    from invcodec.field.grid import GridProfile
    from invcodec.render.gpu import GpuEngine

    assert isinstance(network.profile, GridProfile)
    if not GpuEngine.suits(network.profile):
        return None
    engine = GpuEngine(network, device)
    try:
        # Triton compiles what starts its kernels, too, at the first start.
        engine.cell_density(np.random.default_rng(0))
    except (RuntimeError, OSError, CalledProcessError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        message = f"{device} is used through PyTorch alone, which is slow, because Triton fails there ({reason})"
        warnings.warn(message, InvWarning, stacklevel=3)
        return None
    return engine


def _has_cuda() -> bool:
    # Importing torch takes longer than decoding a view, so it is asked only where there is a driver.
    if sys.platform == "darwin" or (sys.platform == "linux" and not Path("/dev/nvidiactl").exists()):
        return False
    import torch

    return torch.cuda.is_available()

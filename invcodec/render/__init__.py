"""Rendering of rays by network profiles, and its gradients for training; the table of engines."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError

from invcodec.errors import InvWarning, UsageError
from invcodec.render.engine import Renderer, Trainer, device_type
from invcodec.render.networks import Networks

# Idle OpenMP threads must sleep, not spin, or they starve the kernels' threads. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True)
class Engine:
    """An engine, described so that it is imported only where it can be used.

    Attributes:
        module, name: of its class, a `Renderer` or `Trainer`.
        device: type of the device on which it computes; None if on any.
        profile: name of the only profile that it computes; None if any.
        requires: optional package that it needs.
    """

    module: str
    name: str
    device: str | None = None
    profile: str | None = None
    requires: str | None = None

    def fits(self, networks: Networks, device: str) -> bool:
        """Whether it is made for this device and these profiles, and can be imported."""
        return (
            self.device in (None, device_type(device))
            and all(self.profile in (None, network.profile.name) for network in networks)
            and (self.requires is None or find_spec(self.requires) is not None)
        )

    def load(self) -> type[Renderer]:
        return getattr(import_module(self.module), self.name)


ENGINES = (
    Engine("invcodec.render.compiled", "CompiledEngine", device="cpu", profile="grid"),
    Engine("invcodec.render.gpu", "GpuEngine", device="cuda", profile="grid", requires="triton"),
    Engine("invcodec.render.reference", "TorchEngine"),
)
"""Fastest first; the last one computes every profile on every device. An engine is added by its own file and a line."""


def make_renderer(networks: Networks, *, device: str = "auto", threads: int | None = None) -> Renderer:
    """The fastest renderer that this machine has for these networks.

    Args:
        device: "auto", or a device as torch names it ("cuda", "cuda:1").
        threads: to use on the CPU; all cores if None.

    Raises:
        UsageError: the device cannot be used on this machine.
    """
    return _make(networks, device, threads, Renderer)


def make_trainer(networks: Networks, *, device: str = "auto", threads: int | None = None) -> Trainer:
    """The fastest trainer that this machine has for these networks; see `make_renderer`."""
    made = _make(networks, device, threads, Trainer)
    assert isinstance(made, Trainer)
    return made


def chosen_device(device: str) -> str:
    """The device that "auto" stands for on this machine; any other stays.

    Raises:
        UsageError: it cannot be used on this machine.
    """
    if device == "auto":
        device = "cuda" if _has_cuda() else "cpu"
    _check_device(device)
    return device


def _make(networks: Networks, device: str, threads: int | None, kind: type) -> Renderer:
    device = chosen_device(device)
    for engine in ENGINES:
        if not engine.fits(networks, device):
            continue
        found = engine.load()
        if not issubclass(found, kind):
            continue
        reason = found.obstacle(networks)
        if reason is None:
            try:
                made = found(networks, device=device, threads=threads or os.cpu_count() or 1)
            except RuntimeError as error:
                raise _unusable(device, error) from None
            try:
                made.probe()
                return made
            except (RuntimeError, OSError, CalledProcessError) as error:
                reason = f"its kernels cannot be compiled here ({_first_line(error)})"
        message = f"{device} is used through PyTorch alone, which is slow; {found.__name__}: {reason}"
        warnings.warn(message, InvWarning, stacklevel=3)
    raise UsageError(f"no engine computes these networks on device '{device}'")


def _check_device(device: str) -> None:
    # Importing torch takes longer than decoding a view.
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    # The latter if torch is built without CUDA.
    except (RuntimeError, AssertionError) as error:
        raise _unusable(device, error) from None


def _unusable(device: str, error: Exception) -> UsageError:
    reason = _first_line(error) if device_type(device) in ("cpu", "cuda") else "choose auto, cpu or cuda"
    return UsageError(f"device '{device}' cannot be used here ({reason})")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _has_cuda() -> bool:
    # Importing torch takes longer than decoding a view, so torch is asked only if there is a driver.
    if sys.platform == "darwin" or (sys.platform == "linux" and not Path("/dev/nvidiactl").exists()):
        return False
    import torch

    return torch.cuda.is_available()

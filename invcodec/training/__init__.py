"""Frames to weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invcodec.render.engine import Engine
    from invcodec.training.colour import ColourCorrection
    from invcodec.training.pixels import Views
    from invcodec.training.steps import Steps


def make_steps(
    engine: Engine, views: Views, correction: ColourCorrection | None, *, random_background: bool = True
) -> Steps:
    """The way of taking steps that suits the engine.

    Args:
        correction: is applied and, where asked for, fitted; or None.
        random_background: show rays a background of random colour, so that what is opaque must be learned as opaque.
    """
    if engine.steps_on_device:
        from invcodec.render.gpu import GpuEngine
        from invcodec.training.device import DeviceSteps

        assert isinstance(engine, GpuEngine)
        return DeviceSteps(engine, views, correction, random_background=random_background)
    from invcodec.training.steps import HostSteps

    return HostSteps(engine, views, correction, random_background=random_background)

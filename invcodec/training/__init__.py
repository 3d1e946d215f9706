"""From frames to weights: batches, optimisation steps, and one frame's training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invcodec.render.engine import Trainer
    from invcodec.training.colour import ColourCorrection
    from invcodec.training.pixels import Views
    from invcodec.training.steps import Steps


def make_steps(
    engine: Trainer, views: Views, correction: ColourCorrection | None, *, random_background: bool = True
) -> Steps:
    """The `Steps` that suit the engine: on its device where it draws batches itself, else on the host.

    Args:
        correction: applied to targets and fitted along the way; or None.
        random_background: composite rays over random colours, so that opaque surfaces are learned as opaque.
    """
    if engine.steps_on_device:
        from invcodec.render.gpu import GpuEngine
        from invcodec.training.device import DeviceSteps

        assert isinstance(engine, GpuEngine)
        return DeviceSteps(engine, views, correction, random_background=random_background)
    from invcodec.training.steps import HostSteps

    return HostSteps(engine, views, correction, random_background=random_background)

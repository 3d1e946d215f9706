"""Base of the engines that compute one `grid` network with kernels of their own."""

from __future__ import annotations

from invcodec.field.grid import GridProfile
from invcodec.field.profile import MOTION, OCCUPANCY
from invcodec.render.engine import Trainer
from invcodec.render.networks import Networks


class GridEngine(Trainer):
    """Kernels train the tables of all levels at the lead rate, and the dense layers at the other rate."""

    def __init__(self, networks: Networks) -> None:
        profile = networks.shown.profile
        assert isinstance(profile, GridProfile)
        self.networks = networks
        self._name = networks.shown.name
        self._layout = profile.layout
        self._recipe = profile.recipe
        self._samples = profile.samples
        self._contracted = networks.space.contracted
        # Lattice steps per unit, by tensor name: what prices count.
        self._steps_per_unit = {spec.name: 1 / spec.step for spec in profile.tensors}

    @classmethod
    def obstacle(cls, networks: Networks) -> str | None:
        if len(networks) > 1:
            return f"it computes one network, not {len(networks)} together"
        profile = networks.shown.profile
        assert isinstance(profile, GridProfile)
        if networks.shown.lead - {OCCUPANCY, MOTION} != {level.name for level in profile.layout.levels}:
            return "its lead tensors are the grid's levels"
        return None

"""How networks of each role take part in a picture (FORMAT.md, "Roles").

A role that fits the pattern, one network that is shown and at most one other that guides its samples, is added here
alone: networks, engines and files read this table. Others also need `invcodec.render.networks` and the engines. Role
`camera-colour` is apart, as it applies to finished pictures and not along rays: see `invcodec.render.camera_colour`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """The part of a network in a picture.

    Attributes:
        shown: whether it is composited to the picture; one network of a picture is.
        guide: for one that is shown, the role of the network whose compositing weights place its `importance` samples,
            its own or another's; None if it takes samples at equal steps alone.
    """

    shown: bool
    guide: str | None = None


ROLES = {
    "scene": Role(shown=True, guide="scene"),
    "coarse": Role(shown=False),
    "fine": Role(shown=True, guide="coarse"),
}

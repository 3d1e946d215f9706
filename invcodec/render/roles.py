"""How networks of each role take part in a picture (FORMAT.md, "Roles").

To add a role, add it here: networks, engines and files read this table. Role `camera-colour` is apart, as it applies to
finished pictures and not along rays: see `invcodec.render.camera_colour`.
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

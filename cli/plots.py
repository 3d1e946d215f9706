"""Plots, as PNG. They need matplotlib, which is an optional dependency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invcodec.extras import require
from invcodec.output import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from invcodec.decoding.analysis import Analysis
    from invcodec.geometry.camera import Camera

_POINTS = 4000
"""Of a scene's points, so many are drawn."""
_REACH = 0.15
"""Length of a camera's frustum, in radii of the rig."""


def require_plots() -> None:
    """Refuse to plot before any work is done.

    Raises:
        UsageError: matplotlib is not installed.
    """
    require("matplotlib", "plot", "plots need matplotlib")


def draw_analysis(result: Analysis, path: Path, force: bool) -> None:
    """Likeness to both frames by number of layers, and how far layers moved, by frame where that is known."""
    from matplotlib.figure import Figure

    first, second = result["frames"]
    names = [layer["name"] for layer in result["layers"]]
    counts = [each["layers"] for each in result["hybrids"]]
    structure = sum(layer["group"] == "structure" for layer in result["layers"])
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    quality, depth, moved = figure.subplots(1, 3)
    for axes, key, label, factor in (
        (quality, "psnr", "PSNR in dB", 1),
        (depth, "depth_error", "depth error in %", 100),
    ):
        for side, number in (("first", first), ("second", second)):
            values = [each[side][key] for each in result["hybrids"]]  # type: ignore[literal-required]
            known = [float("nan") if value is None else factor * value for value in values]
            axes.plot(counts, known, marker="o", markersize=3, label=f"to frame {number}")
        axes.axvline(structure, color="grey", linestyle=":", label="structure | colour")
        axes.set_xlabel(f"first layers taken from frame {first}, the rest from frame {second}")
        axes.set_ylabel(label)
        axes.legend(fontsize="small")
    # Two frames that are alike to the last bit would flatten everything else.
    quality.set_ylim(top=min(quality.get_ylim()[1], 60))
    rows = result.get("path") or [{"number": second, "moved": [layer["moved"] for layer in result["layers"]]}]
    for row in rows:
        moved.plot(names, [100 * share for share in row["moved"]], marker="o", markersize=3, label=f"{row['number']}")
    moved.set_ylabel("moved in %")
    moved.set_xlabel("since the frame before" if "path" in result else f"from frame {first} to frame {second}")
    moved.tick_params(axis="x", rotation=60)
    if len(rows) <= 8:
        moved.legend(title="frame", fontsize="small")
    with written(path, force=force) as out:
        figure.savefig(out.file, format="png", dpi=100)


VIEWS = (("rig", 20, -65), ("from above", 90, -90))
"""A rig is drawn from these sides: title, elevation and azimuth in degrees."""


def rig_lines(
    cameras: Sequence[Camera], points: np.ndarray | None, most: int = _POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """What to draw of a rig, in its mean camera's axes: right, forward, up.

    Args:
        points: `[N, 3]` of the scene, of which at most so many are drawn.

    Returns:
        Of each camera, lines `[9, 2, 3]` of its pyramid, which begin at the camera; the ninth marks its upper side. And
        the points `[N, 3]` to draw.
    """
    import numpy as np

    from invcodec.geometry.rig import average_pose

    mean = average_pose(cameras)
    axes = mean[:, :3] @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    centres = (np.stack([camera.pose[:, 3] for camera in cameras]) - mean[:, 3]) @ axes
    radius = float(np.linalg.norm(centres - centres.mean(0), axis=1).max()) or 1.0
    frusta = np.stack([(_frustum(camera, _REACH * radius) - mean[:, 3]) @ axes for camera in cameras])
    shown = np.zeros((0, 3))
    if points is not None and len(points):
        shown = (points[:: -(-len(points) // most)] - mean[:, 3]) @ axes
        # A few points at the horizon would leave no room for the rest.
        distance = np.linalg.norm(shown - np.median(shown, 0), axis=1)
        shown = shown[distance <= 3 * np.median(distance)]
    return frusta, shown


def draw_rig(cameras: Sequence[Camera], points: np.ndarray | None, path: Path, force: bool) -> None:
    """The rig from behind and above, and from straight above. Held-out cameras are orange.

    Args:
        points: `[N, 3]` of the scene.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    frusta, shown = rig_lines(cameras, points)
    everything = np.concatenate([frusta.reshape(-1, 3), shown])
    middle = (everything.min(0) + everything.max(0)) / 2
    half = float(np.ptp(everything, axis=0).max()) / 2
    figure = Figure(figsize=(12, 6), layout="constrained")
    for position, (title, elevation, azimuth) in enumerate(VIEWS, 1):
        plot = figure.add_subplot(1, 2, position, projection="3d", title=title)
        plot.view_init(elevation, azimuth)
        plot.set_proj_type("ortho")
        plot.scatter(*shown.T, s=1, c="grey", alpha=0.4, depthshade=False)
        for camera, lines in zip(cameras, frusta, strict=True):
            colour = "tab:orange" if camera.held_out else "tab:blue"
            plot.add_collection3d(Line3DCollection(lines, colors=colour, linewidths=1))
            plot.text(*lines[0, 0], camera.name, fontsize=7, parse_math=False)
        for axis, name in enumerate("xyz"):
            getattr(plot, f"set_{name}lim")(middle[axis] - half, middle[axis] + half)
        plot.set(xlabel="right", ylabel="forward", zlabel="up", box_aspect=(1, 1, 1))
    with written(path, force=force) as out:
        figure.savefig(out.file, format="png", dpi=100)


def _frustum(camera: Camera, length: float) -> np.ndarray:
    """Lines `[9, 2, 3]` of a camera's pyramid; the ninth marks its upper side."""
    import numpy as np

    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0]]) * (camera.width, camera.height)
    origins, directions = camera.rays(corners)
    ends = origins + length * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    above = ends[4] + 0.2 * length * camera.pose[:, 1]
    edges = [(origins[0], end) for end in ends[:4]] + [(ends[i], ends[(i + 1) % 4]) for i in range(4)]
    return np.array([*edges, (ends[4], above)])

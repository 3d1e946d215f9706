"""Plots of measurements, as PNG. They need matplotlib, which is an optional dependency."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from invcodec.errors import UsageError
from invcodec.output import written

if TYPE_CHECKING:
    from invcodec.decoding.analysis import Analysis


def require_plots() -> None:
    """Refuse to plot before any work is done.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib; install it with: pip install 'invcodec[plot]'")


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

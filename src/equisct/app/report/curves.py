"""Training curves: both losses and the torso's gradient norm over the updates, with the curriculum's stages marked."""

import importlib
import os
from collections.abc import Sequence
from typing import Any


def draw_curves(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes a PNG of the rows of a metrics file.

    Args:
        rows: dictionaries with `step`, `points`, `consistency`, `denoising` and `gradient_norm`.
        path: the file.
    """
    steps = [row["step"] for row in rows]
    matplotlib = importlib.import_module("matplotlib.figure")  # only now: a second that not every command needs
    figure = matplotlib.Figure(figsize=(10, 3.4), layout="constrained")
    loss, norm = figure.subplots(1, 2)
    for name, axis in (("consistency", loss), ("denoising", loss), ("gradient_norm", norm)):
        axis.plot(steps, [row[name] for row in rows], label=name.replace("_", " "), linewidth=1)
    changes = [(a["points"], b["points"], a["step"]) for a, b in zip(rows, rows[1:], strict=False)]
    for axis, label in ((loss, "loss"), (norm, "torso's gradient norm")):
        for before, after, step in changes:
            if before != after:
                axis.axvline(step, color="0.8", linewidth=0.8, zorder=0)
                axis.annotate(f"N={after}", (step, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
        axis.set(xlabel="update", ylabel=label, yscale="log")
        axis.legend(frameon=False)
    figure.savefig(path, dpi=120, format="png")

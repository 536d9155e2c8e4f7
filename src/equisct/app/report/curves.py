"""Training curves: the loss's terms and the torso's gradient norm over the updates, the curriculum's stages marked."""

import importlib
import math
import os
from collections.abc import Sequence
from typing import Any


def draw_curves(rows: Sequence[dict[str, Any]], terms: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes a PNG of the rows of a metrics file.

    Args:
        rows: dictionaries with `step`, `points`, `gradient_norm` and the terms.
        terms: names of what the left panel shows.
        path: the file.
    """
    steps = [row["step"] for row in rows]
    matplotlib = importlib.import_module("matplotlib.figure")  # only now: a second that not every command needs
    figure = matplotlib.Figure(figsize=(10, 3.4), layout="constrained")
    loss, norm = figure.subplots(1, 2)
    dot = "o" if len(rows) == 1 else ""  # a line through one point is nothing
    lines = {name: [math.nan if row.get(name) is None else row[name] for row in rows] for name in terms}
    for name, values in lines.items():
        loss.plot(steps, values, label=name.replace("_", " "), linewidth=1, marker=dot)
    norm.plot(steps, [row["gradient_norm"] for row in rows], label="gradient norm", linewidth=1, marker=dot)
    changes = [(a["points"], b["points"], a["step"]) for a, b in zip(rows, rows[1:], strict=False)]
    for axis, label in ((loss, "loss"), (norm, "torso's gradient norm")):
        for before, after, step in changes:
            if before != after:
                axis.axvline(step, color="0.8", linewidth=0.8, zorder=0)
                axis.annotate(f"N={after}", (step, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
        below = axis is loss and any(value <= 0 for values in lines.values() for value in values)
        axis.set(xlabel="update", ylabel=label, yscale="linear" if below else "log")
        axis.legend(frameon=False)
    figure.savefig(path, dpi=120, format="png")

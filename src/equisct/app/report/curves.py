"""Training curves: the loss, its terms and the torso's gradient norm over the updates, as one PNG."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from .chart import chart_png
from .figures import curves_chart


def draw_curves(rows: Sequence[dict[str, Any]], terms: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes a PNG of the rows of a metrics file.

    Args:
        rows: dictionaries with `step`, `points`, `loss`, `gradient_norm` and the terms.
        terms: names of what is shown beside loss and gradient norm.
        path: the file.
    """
    pathlib.Path(path).write_bytes(chart_png(curves_chart(rows, terms)))

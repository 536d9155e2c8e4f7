"""Metrics of a run: a window of reports becomes one row; rows go to `metrics.jsonl`."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from ..train import StepReport


def make_row(reports: list[StepReport], *, step: int, points: int, images_per_second: float) -> dict[str, Any]:
    """One row: means over a window of updates; per-bin losses are means over the window's samples (None where none)."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(reports))
    terms = stacked.terms

    def per_bin(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
        pairs = zip(sums.sum(0), counts.sum(0), strict=True)
        return [float(total / count) if count else None for total, count in pairs]

    row = {
        "step": step,
        "points": points,
        "loss": float(stacked.loss.mean()),
        "consistency": float(terms.consistency.mean()),
        "denoising": float(terms.denoising.mean()),
        "gradient_norm": float(stacked.gradient_norm.mean()),
        "gradient_norm_std": float(stacked.gradient_norm.std()),
        "consistency_per_bin": per_bin(terms.consistency_per_bin, terms.count_per_bin),
        "denoising_per_bin": per_bin(terms.denoising_per_bin, terms.head_count_per_bin),
        "skipped": int((~stacked.finite).sum()),
        "images_per_second": images_per_second,
    }
    for name in ("consistency_gradient_norm", "denoising_gradient_norm"):
        value = getattr(stacked, name)
        if value is not None:
            row[name] = float(value.mean())
    return row


def append_row(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Adds one line of JSON to a file; numbers that are not finite become null."""
    clean = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
    with path.open("a") as file:
        file.write(json.dumps(clean) + "\n")

"""Statistics of a run's updates: of the window since the last row, and of each stage of the curriculum.

All sums are float64 and taken one update after the other, so that a state stored in the middle (as JSON, whose numbers
Python writes to the last bit) and restored goes on to the same bits. Notation: `m2` is the sum of squared deviations.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._base.files import atomic_write

_PER_BIN = {"consistency_per_bin": "count_per_bin", "denoising_per_bin": "head_count_per_bin"}
_PARTS = ("consistency_gradient_norm", "denoising_gradient_norm")
_NORMS = {"total": "gradient_norm", "consistency": _PARTS[0], "denoising": _PARTS[1]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """One update in numbers of the host; None for what the objective does not have.

    The terms are those of `sct.Terms` (the arrays are sums over the samples of each bin), the norms those of
    `train.StepReport`. An update that is not `finite` was not taken: it counts, its numbers do not.
    """

    loss: float
    gradient_norm: float
    finite: bool
    consistency_gradient_norm: float | None = None
    denoising_gradient_norm: float | None = None
    consistency: float | None = None
    denoising: float | None = None
    consistency_per_bin: np.ndarray | None = None
    denoising_per_bin: np.ndarray | None = None
    count_per_bin: np.ndarray | None = None
    head_count_per_bin: np.ndarray | None = None


_TERMS = ("consistency", "denoising", *_PER_BIN.keys(), *_PER_BIN.values())


def update_from_report(report: Any) -> Update:
    """An `Update` from a `train.StepReport` that is on the host; terms of another kind are left out."""
    terms = {name: getattr(report.terms, name, None) for name in _TERMS}
    known = terms if all(value is not None for value in terms.values()) else {}
    norms = {name: getattr(report, name) for name in ("loss", *_NORMS.values())}
    plain: dict[str, Any] = {
        name: value if value is None or np.ndim(value) else float(value) for name, value in (norms | known).items()
    }
    return Update(finite=bool(report.finite), **plain)


class Moments:
    """Count, mean and variance of a stream of numbers, by Welford's updates (1962) in float64.

    Numbers that are not finite are counted apart. Sound for magnitudes below 1e150, whose squares are finite.
    """

    def __init__(self) -> None:
        self.count = 0
        self.nonfinite = 0
        self._mean = self._m2 = 0.0

    def add(self, value: float) -> None:
        """Takes one number in."""
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        self.count += 1
        deviation = float(value) - self._mean
        self._mean += deviation / self.count
        self._m2 += deviation * (float(value) - self._mean)

    @property
    def mean(self) -> float | None:
        """The mean of the finite numbers, None if there is none."""
        return self._mean if self.count else None

    @property
    def variance(self) -> float | None:
        """Their variance as a population (divided by the count), None if there is none."""
        return self._m2 / self.count if self.count else None

    @property
    def std(self) -> float | None:
        """The root of the variance."""
        return math.sqrt(self._m2 / self.count) if self.count else None

    @property
    def cv(self) -> float | None:
        """The coefficient of variation, `std / |mean|`; None if there is no mean or it is 0."""
        return math.sqrt(self._m2 / self.count) / abs(self._mean) if self.count and self._mean else None

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        return {"count": self.count, "nonfinite": self.nonfinite, "mean": self._mean, "m2": self._m2}

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "Moments":
        """The moments with a state that `to_json` gave.

        Raises:
            ValueError: if the fields are others.
        """
        _check_fields("moments", state, {"count", "nonfinite", "mean", "m2"})
        moments = Moments()
        moments.count, moments.nonfinite = state["count"], state["nonfinite"]
        moments._mean, moments._m2 = state["mean"], state["m2"]
        return moments


class Window:
    """The updates since the last row. Take a new one after each row."""

    def __init__(self) -> None:
        self._skipped = 0
        self._moments: dict[str, Moments] = {}
        self._bins: dict[str, list[float]] = {}

    def add(self, update: Update) -> None:
        """Takes one update in."""
        self._skipped += not update.finite
        for name in ("loss", "consistency", "denoising", *_NORMS.values()):
            value = getattr(update, name)
            if value is not None:
                self._moments.setdefault(name, Moments()).add(value if update.finite else math.nan)
        for name in (*_PER_BIN.keys(), *_PER_BIN.values()):
            value = getattr(update, name)
            if value is not None:
                new = np.asarray(value, np.float64) if update.finite else np.zeros(len(value))
                old = self._bins.setdefault(name, [0.0] * len(value))
                self._bins[name] = (np.array(old) + new).tolist()

    def row(self, step: int, points: int) -> dict[str, Any]:
        """The row of the window: means over the updates taken; per-bin losses are means over the samples.

        None stands for a mean over nothing. Terms that no update had are left out. `gradient_norm_std` is that of the
        population.

        Args:
            step: updates done.
            points: points of the grid of the last update.
        """
        means = {name: moments.mean for name, moments in self._moments.items()}
        norm = self._moments.get("gradient_norm", Moments())
        row: dict[str, Any] = {"step": step, "points": points, "loss": means.get("loss")}
        row |= {name: means[name] for name in ("consistency", "denoising") if name in means}
        row |= {"gradient_norm": norm.mean, "gradient_norm_std": norm.std}
        row |= {name: self._per_bin(name, count) for name, count in _PER_BIN.items() if name in self._bins}
        row |= {"skipped": self._skipped}
        return row | {name: means[name] for name in _PARTS if name in means}

    def _per_bin(self, sums: str, counts: str) -> list[float | None]:
        pairs = zip(self._bins[sums], self._bins[counts], strict=True)
        return [total / count if count else None for total, count in pairs]

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        moments = {name: moments.to_json() for name, moments in self._moments.items()}
        return {"skipped": self._skipped, "moments": moments, "bins": dict(self._bins)}

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "Window":
        """The window with a state that `to_json` gave.

        Raises:
            ValueError: if the fields are others.
        """
        _check_fields("window", state, {"skipped", "moments", "bins"})
        window = Window()
        window._skipped = state["skipped"]
        window._moments = {name: Moments.from_json(moments) for name, moments in state["moments"].items()}
        window._bins = {name: list(values) for name, values in state["bins"].items()}
        return window


class StageMoments:
    """The torso's gradient norm over each stage of the curriculum: of the loss, and of each of its terms.

    The quantity of Figure 2 in Lee et al. (2024), whose windows are the stages; a stage has one grid, so its norms
    compare, while those of two stages do not.
    """

    def __init__(self) -> None:
        self._points: dict[int, int] = {}
        self._moments: dict[int, dict[str, Moments]] = {}

    def add(self, update: Update, *, stage: int, points: int) -> None:
        """Takes one update in, at a stage whose grid has `points` points.

        Raises:
            ValueError: if the stage had another number of points.
        """
        if self._points.setdefault(stage, points) != points:
            raise ValueError(f"points: expected {self._points[stage]} at stage {stage}, found {points}")
        moments = self._moments.setdefault(stage, {})
        for term, name in _NORMS.items():
            value = getattr(update, name)
            if value is not None:
                moments.setdefault(term, Moments()).add(value if update.finite else math.nan)

    def row(self, stage: int) -> dict[str, Any]:
        """What a row says of its stage so far: `stage`, `stage_gradient_norm_mean`, `..._variance`, `..._cv`.

        The same three for `stage_consistency_gradient_norm` and `stage_denoising_gradient_norm`, if there are terms.
        """
        row: dict[str, Any] = {"stage": stage}
        for term, moments in _in_order(self._moments.get(stage, {"total": Moments()})):
            name = f"stage_{_NORMS[term]}"
            row |= {f"{name}_mean": moments.mean, f"{name}_variance": moments.variance, f"{name}_cv": moments.cv}
        return row

    def summary(self) -> list[dict[str, Any]]:
        """One row per stage, ascending: `stage`, `points`, and for each term `updates`, `skipped`, `mean`..."""

        def of(moments: Moments) -> dict[str, Any]:
            counts = {"updates": moments.count, "skipped": moments.nonfinite}
            return counts | {"mean": moments.mean, "variance": moments.variance, "cv": moments.cv}

        return [
            {"stage": stage, "points": self._points[stage]}
            | {term: of(m) for term, m in _in_order(self._moments[stage])}
            for stage in sorted(self._points)
        ]

    def write_stages(self, path: pathlib.Path) -> None:
        """Writes the summary, such as to `folder / "stages.json"`; the old file or the new one is there, whole."""
        atomic_write(path, json.dumps(self.summary(), indent=2, allow_nan=False) + "\n")

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        return {
            str(stage): {"points": points, "moments": {term: m.to_json() for term, m in self._moments[stage].items()}}
            for stage, points in self._points.items()
        }

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "StageMoments":
        """The statistics with a state that `to_json` gave.

        Raises:
            ValueError: if the fields are others.
        """
        stages = StageMoments()
        for stage, entry in state.items():
            _check_fields("stage", entry, {"points", "moments"})
            stages._points[int(stage)] = entry["points"]
            stages._moments[int(stage)] = {term: Moments.from_json(m) for term, m in entry["moments"].items()}
        return stages


def _in_order(moments: Mapping[str, Moments]) -> list[tuple[str, Moments]]:
    """The terms that there are, in the one order that rows have."""
    return [(term, moments[term]) for term in _NORMS if term in moments]


def _check_fields(name: str, state: Mapping[str, Any], expected: set[str]) -> None:
    if set(state) != expected:
        raise ValueError(f"{name}: expected the fields {sorted(expected)}, found {sorted(state)}")

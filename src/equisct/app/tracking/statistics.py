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
from .moments import Moments, check_fields

_ROW = ("step", "points", "loss", "gradient_norm", "gradient_norm_std", "skipped", "stage")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """One update in numbers of the host.

    An update that is not `finite` was not taken: it counts, its numbers do not.

    Args:
        loss: of the update.
        gradient_norm: over the torso.
        finite: whether it was taken.
        gradient_norms: of the loss's parts, by name; empty unless asked for.
        terms: the objective's scalars, by name.
        per_level: its sums per noise level, by name; each has `total`, `count` and `edges` as `sct.PerLevel` does.
    """

    loss: float
    gradient_norm: float
    finite: bool
    gradient_norms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    per_level: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def norms(self) -> dict[str, float]:
        """All gradient norms: `total`, and each part's by its name."""
        return {**self.gradient_norms, "total": self.gradient_norm}


def update_from_report(report: Any) -> Update:
    """An `Update` from a `train.StepReport`, for which it waits: `named_terms`, and the noise of the gradient."""
    import jax  # noqa: PLC0415  (this package is free of it until there is a report)

    from ...objectives.terms import named_terms  # noqa: PLC0415  (imports JAX)

    scalars, per_level = named_terms(report.terms)
    if report.noise is not None:
        scalars = {"gradient_signal": report.noise.signal, "gradient_noise": report.noise.noise} | scalars
    numbers = {"loss": report.loss, "gradient_norm": report.gradient_norm}
    found = jax.device_get((numbers, report.finite, report.gradient_norms or {}, scalars, per_level))
    numbers, finite, norms, scalars, per_level = found
    as_floats = lambda values: {name: float(value) for name, value in values.items()}
    named = {"gradient_norms": as_floats(norms), "terms": as_floats(scalars), "per_level": per_level}
    return Update(finite=bool(finite), **as_floats(numbers), **named)


def _column(term: str) -> str:
    """The column of a term in a row: its name, unless a column of every row has that."""
    return f"terms/{term}" if term in _ROW else term


def _norm_column(part: str) -> str:
    return "gradient_norm" if part == "total" else f"{part}_gradient_norm"


def term_columns(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row that are an objective's scalar terms."""
    others = ("_gradient_norm", "_per_bin", "_bin_edges")
    return [n for n in row if not (n in _ROW or n.endswith(others) or n.startswith("stage_"))]


class Window:
    """The updates since the last row. Take a new one after each row."""

    def __init__(self) -> None:
        self._skipped = 0
        self._loss = Moments()
        self._terms: dict[str, Moments] = {}
        self._norms: dict[str, Moments] = {"total": Moments()}
        self._bins: dict[str, dict[str, list[float]]] = {}

    def add(self, update: Update) -> None:
        """Takes one update in."""
        self._skipped += not update.finite
        known = lambda value: value if update.finite else math.nan
        self._loss.add(known(update.loss))
        for kept, new in ((self._terms, update.terms), (self._norms, update.norms)):
            for name, value in new.items():
                kept.setdefault(name, Moments()).add(known(value))
        for name, sums in update.per_level.items():
            edges = [float(str(edge)) for edge in np.asarray(sums.edges)]  # 0.002, not float32's nearest in all digits
            old = self._bins.get(name, {})
            if old.get("edges") != edges:
                old = {"edges": edges, "total": [0.0] * (len(edges) - 1), "count": [0.0] * (len(edges) - 1)}
            new = {"total": sums.total, "count": sums.count} if update.finite else {}
            added = {
                kind: (np.array(old[kind]) + np.asarray(values, np.float64)).tolist() for kind, values in new.items()
            }
            self._bins[name] = old | added

    def row(self, step: int, points: int) -> dict[str, Any]:
        """The row of the window: means over the updates taken; per-bin values are means over the samples.

        None stands for a mean over nothing. `gradient_norm_std` is that of the population.

        Args:
            step: updates done.
            points: points of the grid of the last update.
        """
        norm = self._norms["total"]
        row: dict[str, Any] = {"step": step, "points": points, "loss": self._loss.mean}
        row |= {_column(name): self._terms[name].mean for name in sorted(self._terms)}
        row |= {"gradient_norm": norm.mean, "gradient_norm_std": norm.std}
        for name, bins in sorted(self._bins.items()):
            pairs = zip(bins["total"], bins["count"], strict=True)
            row |= {f"{name}_per_bin": [total / count if count else None for total, count in pairs]}
            row |= {f"{name}_bin_edges": bins["edges"]}
        row |= {"skipped": self._skipped}
        return row | {_norm_column(part): moments.mean for part, moments in _parts(self._norms)}

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        state = {"skipped": self._skipped, "loss": self._loss.to_json(), "bins": dict(self._bins)}
        return state | {"terms": _to_json(self._terms), "norms": _to_json(self._norms)}

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "Window":
        """The window with a state that `to_json` gave.

        Raises:
            ValueError: if the fields are others.
        """
        check_fields("window", state, {"skipped", "loss", "terms", "norms", "bins"})
        window = Window()
        window._skipped, window._loss = state["skipped"], Moments.from_json(state["loss"])
        window._terms, window._norms = _from_json(state["terms"]), _from_json(state["norms"])
        window._bins = dict(state["bins"])
        return window


class StageMoments:
    """The torso's gradient norm over each stage of the curriculum: of the loss, and of each of its parts.

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
        for part, value in update.norms.items():
            moments.setdefault(part, Moments()).add(value if update.finite else math.nan)

    def row(self, stage: int) -> dict[str, Any]:
        """What a row says of its stage so far: `stage`, `stage_gradient_norm_mean`, `..._variance`, `..._cv`.

        The same three for the norm of each part, such as `stage_denoising_gradient_norm`, if there are any.
        """
        row: dict[str, Any] = {"stage": stage}
        found = self._moments.get(stage, {"total": Moments()})
        for part, moments in (("total", found["total"]), *_parts(found)):
            name = f"stage_{_norm_column(part)}"
            row |= {f"{name}_mean": moments.mean, f"{name}_variance": moments.variance, f"{name}_cv": moments.cv}
        return row

    def summary(self) -> list[dict[str, Any]]:
        """One row per stage, ascending: `stage`, `points`; `total` and each part: `updates`, `skipped`, `mean`..."""

        def of(moments: Moments) -> dict[str, Any]:
            counts = {"updates": moments.count, "skipped": moments.nonfinite}
            return counts | {"mean": moments.mean, "variance": moments.variance, "cv": moments.cv}

        return [
            {"stage": stage, "points": self._points[stage], "total": of(self._moments[stage]["total"])}
            | {part: of(moments) for part, moments in _parts(self._moments[stage])}
            for stage in sorted(self._points)
        ]

    def write_stages(self, path: pathlib.Path) -> None:
        """Writes the summary, such as to `folder / "stages.json"`; the old file or the new one is there, whole."""
        atomic_write(path, json.dumps(self.summary(), indent=2, allow_nan=False) + "\n")

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        return {
            str(stage): {"points": points, "moments": _to_json(self._moments[stage])}
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
            check_fields("stage", entry, {"points", "moments"})
            stages._points[int(stage)] = entry["points"]
            stages._moments[int(stage)] = _from_json(entry["moments"])
        return stages


def _parts(moments: Mapping[str, Moments]) -> list[tuple[str, Moments]]:
    """Those of the parts, in the one order that rows have."""
    return [(part, moments[part]) for part in sorted(moments) if part != "total"]


def _to_json(moments: Mapping[str, Moments]) -> dict[str, Any]:
    return {name: each.to_json() for name, each in moments.items()}


def _from_json(state: Mapping[str, Any]) -> dict[str, Moments]:
    return {name: Moments.from_json(each) for name, each in state.items()}

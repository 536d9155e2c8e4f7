"""What runs have recorded, and which of them differ by their seed alone."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunRows:
    """One run: its settings by their full names (`method.head_weight`), and the rows of its files."""

    name: str
    settings: dict[str, Any]
    metrics: Sequence[Row] = ()
    evaluations: Sequence[Row] = ()
    stages: Sequence[Row] = ()
    throughput: Sequence[Row] = ()


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of the same settings: one arm of a comparison, by its seeds.

    `settings` are those that decide what is learned.
    """

    label: str
    settings: dict[str, Any]
    runs: tuple[RunRows, ...]


def group_runs(runs: Sequence[RunRows], decides: Callable[[str], bool]) -> list[Group]:
    """Runs together that share all settings that decide what is learned; each named by what sets it apart."""
    found: dict[str, Group] = {}
    for run in runs:
        own = {name: value for name, value in run.settings.items() if decides(name)}
        group = found.setdefault(json.dumps(own, sort_keys=True), Group("", own, ()))
        found[json.dumps(own, sort_keys=True)] = dataclasses.replace(group, runs=(*group.runs, run))
    groups = list(found.values())
    apart = list(differences(groups))
    return [dataclasses.replace(group, label=_label(group, apart)) for group in groups]


def _label(group: Group, apart: Sequence[str]) -> str:
    if not apart:
        return group.runs[0].name if len(group.runs) == 1 else f"{len(group.runs)} seeds"
    shown = [f"{name.split('.')[-1]} {shown_value(group.settings.get(name))}" for name in apart]
    return ", ".join(shown) if len(shown) <= 3 else group.runs[0].name


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The settings that are not the same in all groups, with their value in each; None where a group has none."""
    names = dict.fromkeys(name for group in groups for name in group.settings)
    values = {name: [group.settings.get(name) for group in groups] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def shown_value(value: Any) -> str:
    """A setting in words; of a group that does not have it, a stroke."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class Curve:
    """A number over the updates, over the runs of a group: mean, and standard deviation (0 of a single run)."""

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def curve(group: Group, rows_of: Callable[[RunRows], Sequence[Row]], name: str) -> Curve:
    """The column `name` at the steps that all runs of the group have; a row without the number is none."""
    columns = [{row["step"]: row[name] for row in rows_of(run) if row.get(name) is not None} for run in group.runs]
    steps = sorted(set.intersection(*map(set, columns))) if columns else []
    values = np.array([[column[step] for step in steps] for column in columns], np.float64)
    std = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(steps))
    return Curve(np.array(steps), values.mean(0), std)


def last(group: Group, name: str) -> np.ndarray:
    """The last evaluation's figure `name` of each run that has it."""
    found = [run.evaluations[-1].get(name) for run in group.runs if run.evaluations]
    return np.array([value for value in found if value is not None], np.float64)


def figure_names(groups: Sequence[Group]) -> list[str]:
    """The names `SAMPLER/FIGURE` that evaluations have, in order."""
    rows = [row for group in groups for run in group.runs for row in run.evaluations]
    return list(dict.fromkeys(name for row in rows for name in row if name != "step"))

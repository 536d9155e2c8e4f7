"""What a report says of the data alone: the samples behind their posterior mean, and the noise that it takes away."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ...data import PairSet
from ...diagnostics import Support, measure_support
from ...level_sampling import LogNormal
from ...oracle import Labelled
from ..parts.posterior import training_posterior
from ..report import Chart, Group, Line, Panel
from .report_models import Loaded, tell

LEVELS, DRAWN, LEAST = 33, 64, 8
"""Noise levels, and samples whose posterior means are looked at: fewer where the data are many, but so many."""

WORK = 2**35
"""Operations after which fewer samples are looked at: seconds on a CPU."""

LARGEST = 2**29
"""Numbers in a data set beyond which it is not looked at."""


class _Law(NamedTuple):
    """The law of the levels that training draws: log-normal, cut at both ends."""

    mean: float
    std: float
    low: float
    high: float

    def below(self, levels: np.ndarray) -> np.ndarray:
        """The share of draws below each of some ascending levels, the first `low` and the last `high`."""
        return np.concatenate([[0.0], np.cumsum(LogNormal(self.mean, self.std).probabilities(levels))])


def support_charts(groups: Sequence[Group], loaded: dict[str, Loaded]) -> list[Chart]:
    """One chart of all data that are in memory; none where no data are."""
    data: dict[int, tuple[str, Support]] = {}
    laws: dict[_Law, str] = {}
    for group in groups:
        own = loaded[group.runs[0].name]
        place = id(own.dataset)  # data that runs share are loaded once, and measured once
        found = data[place][1] if place in data else _measure(own)
        if found is not None:
            data.setdefault(place, (group.label, found))
        if found is not None and (law := _law(own)):
            laws.setdefault(law, group.label)
    if not data:
        return []
    alike = "" if max(len(data), len(laws)) == 1 else "all"
    named = lambda label, several: label if several else alike
    counts, shares = [], []
    for label, found in data.values():
        x, label = np.asarray(found.levels), named(label, len(data) > 1)
        counts.append(Line(label, x, np.asarray(found.effective_samples)))
        shares.append(Line(label, x, np.asarray(found.removable)))
    drawn = [_law_line(law, named(label, len(laws) > 1)) for law, label in laws.items()]
    two = [_level_of_two(found) for _, found in data.values()]
    guides = tuple((level, "2 samples") for level in two if level and len(two) == 1)
    rest: dict[str, Any] = {"xscale": "log", "guides": guides}
    panels = [
        Panel("Samples behind the posterior mean", "noise level", "samples", tuple(counts), yscale="log", **rest),
        Panel("Noise that it takes away", "noise level", "share of the variance", tuple(shares), **rest),
        Panel("Levels that training draws", "noise level", "share below", tuple(drawn), **rest),
    ]
    numbers = _in_numbers(data, laws)
    chart = Chart(
        "support", "What the data can take of the noise",
        "How many samples of the training set stand behind the posterior mean of a noisy one (1 over the sum of the "
        "squared posterior probabilities); the share of the noise's variance that is gone where training follows this "
        "mean instead of one sample; and where the levels lie that training draws. Where one sample stands behind the "
        f"mean, the mean is that sample, and nothing is calmer. {numbers} {_velocities(groups, loaded)}".rstrip(),
        numbers, tuple(panel for panel in panels if panel.lines),
    )  # fmt: skip
    tell(f"measured support: {chart.alt}")
    return [chart]


def _measure(found: Loaded) -> Support | None:
    """Of a run's training set, mirrored images among it where it has them; None where that is not held in memory."""
    config, dataset = found.stored.config, found.dataset
    numbers = dataset.size * math.prod(dataset.shape) * (2 if getattr(config.data, "flip", False) else 1)
    if isinstance(dataset, PairSet) or numbers > LARGEST:
        return None
    try:
        law = training_posterior(config, dataset)
    except ValueError:  # read from disk, or each sample under a condition of its own
        return None
    law = law.law if isinstance(law, Labelled) else law
    levels = jnp.geomspace(config.noise.sigma_min, config.noise.sigma_max, LEVELS)
    samples = min(max(WORK // (4 * numbers * LEVELS), LEAST), DRAWN)
    return measure_support(law, levels, samples=samples, key=jr.key(0))


def _law(found: Loaded) -> _Law | None:
    """Of the methods that draw from one."""
    method, noise = found.stored.config.method, found.stored.config.noise
    mean, std = getattr(method, "law_mean", None), getattr(method, "law_std", None)
    return None if mean is None or std is None else _Law(mean, std, noise.sigma_min, noise.sigma_max)


def _law_line(law: _Law, label: str) -> Line:
    levels = np.geomspace(law.low, law.high, LEVELS)
    return Line(label, levels, law.below(levels))


def _level_of_two(found: Support) -> float | None:
    """From which noise level on two samples stand behind the mean; None where they never do."""
    levels, counts = np.asarray(found.levels, np.float64), np.asarray(found.effective_samples, np.float64)
    if counts.max() < 2:
        return None
    return float(np.exp(np.interp(math.log(2), np.maximum.accumulate(np.log(counts)), np.log(levels))))


def _in_numbers(data: dict[int, tuple[str, Support]], laws: dict[_Law, str]) -> str:
    """From which level on two samples stand behind the mean, and what share of the levels and of the noise that is."""
    said = []
    for label, found in data.values():
        of, level = f"{label}: " if len(data) > 1 else "", _level_of_two(found)
        if level is None:
            said.append(f"{of}Never do two samples stand behind it.")
            continue
        share = ""
        if len(laws) == 1:
            levels, removable = np.asarray(found.levels, np.float64), np.asarray(found.removable)
            below = next(iter(laws)).below(levels)
            taken = float(np.diff(below) @ (removable[1:] + removable[:-1]) / 2)
            above = 1 - np.interp(math.log(level), np.log(levels), below)
            share = f", where {above:.0%} of the levels lie that training draws; over all levels it takes {taken:.1%} "
            share += "of the noise's variance"
        said.append(f"{of}Two samples or more stand behind it above level {level:.2g}{share}.")
    return " ".join(said)


def _velocities(groups: Sequence[Group], loaded: dict[str, Loaded]) -> str:
    """What the chart means for each run, by the velocity that it follows."""
    who: dict[str, list[str]] = {}
    for group in groups:
        method = loaded[group.runs[0].name].stored.config.method
        velocity, references = getattr(method, "velocity", None), getattr(method, "references", None)
        if velocity == "posterior" and references is None:
            does = "follows this mean (method.velocity posterior)"
        elif velocity == "posterior":
            does = f"follows the mean over {references:,} of the samples (method.references), which takes less"
        elif velocity == "sample":
            does = "follows the noise of one sample; --method.velocity posterior would follow the mean"
        else:
            continue
        who.setdefault(does, []).append(group.label)
    alone = sum(map(len, who.values())) == 1
    return " ".join(f"{'This run' if alone else ', '.join(names)} {does}." for does, names in who.items())

"""The paper's figures 2 and 4, losses per noise level, and throughput, from what runs have recorded."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._base.defaults import CURRENT
from .chart import COLOURS, Chart, Line, Panel
from .runs import Group, Row, RunRows, curve, differences, figure_names, last, shown_value

HIGHER_IS_BETTER = ("precision", "recall", "density", "coverage", "inception_score")
LOWER_IS_BETTER = ("distance", "fid", "kid", "wasserstein")


def weights_in(name: str) -> tuple[str, str]:
    """Of a figure `[WEIGHTS/]SAMPLER/FIGURE` the weights in words ("" of the average), and `SAMPLER/FIGURE`."""
    weights, _, rest = name.partition("/")
    if "/" not in rest:
        return "", name
    return "current weights" if weights == CURRENT else f"average {weights}", rest


def words_of(name: str) -> tuple[str, str]:
    """A figure's name `[WEIGHTS/]SAMPLER/FIGURE` as two texts; an arrow says where better is."""
    weights, whose = weights_in(name)
    sampler, _, figure = whose.rpartition("/")
    sampler += f", {weights}" * bool(weights)
    words = figure.replace("_", " ").replace("frechet", "Fréchet")
    words = words.upper() if words in ("fid", "kid") else words
    if "error" in figure:
        return sampler, words
    up, down = (any(each in figure for each in names) for names in (HIGHER_IS_BETTER, LOWER_IS_BETTER))
    return sampler, words + " ↑" * up + " ↓" * (down and not up)


def _titled(words: str) -> str:
    return words[:1].upper() + words[1:]


def _lines(groups: Sequence[Group], rows_of: Callable[[RunRows], Sequence[Row]], name: str) -> tuple[Line, ...]:
    """The column `name` over the updates, a line for each group that has it, with a band over its seeds."""
    lines = []
    for number, group in enumerate(groups):
        found = curve(group, rows_of, name)
        band = (found.mean - found.std, found.mean + found.std) if len(group.runs) > 1 else ((), ())
        if len(found.steps):
            lines.append(Line(group.label, found.steps, found.mean, *band, colour=number))
    return tuple(lines)


def _chart(name: str, title: str, caption: str, panels: Sequence[Panel]) -> Chart:
    """Of the panels that have something to show; in words the last value of each line, for those who do not see it."""
    kept, said = tuple(panel for panel in panels if any(len(line.y) for line in panel.lines)), []
    for panel in kept:
        ends = [f"{line.label or 'it'} ends at {line.y[-1]:.3g}" for line in panel.lines if len(line.y)]
        said.append(f"{panel.title}: {'; '.join(ends[:8])}")
    return Chart(name, title, caption, ". ".join(said), kept)


def stage_starts(run: RunRows) -> list[tuple[int, int]]:
    """The update at which each stage begins, and its number of points."""
    starts, begin = [], 0
    for stage in run.stages:
        starts.append((begin, stage["points"]))
        begin += stage["total"]["updates"] + stage["total"]["skipped"]
    return starts


def stage_values(group: Group, term: str, name: str) -> np.ndarray:
    """A statistic of the gradient norm, `(runs, stages)`: `term` is total, consistency or denoising."""
    found = [[stage[term][name] for stage in run.stages if term in stage] for run in group.runs]
    whole = max(map(len, found), default=0)
    kept = [row for row in found if row and len(row) == whole]
    return np.array(kept, np.float64) if kept else np.zeros((0, 0))


def _variance_lines(group: Group, number: int) -> list[Line]:
    run, lines = group.runs[0], []
    starts = [begin for begin, _ in stage_starts(run)]
    end = run.metrics[-1]["step"] if run.metrics else 0
    for term, words in (("total", group.label), ("consistency", f"{group.label}: consistency loss alone")):
        values = stage_values(group, term, "variance")
        if not values.size or values.shape[1] != len(starts):
            continue
        mean, std = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        x, hold = [*starts, end], lambda row: [*row, row[-1]]
        band = (hold(np.maximum(mean - std, mean / 100)), hold(mean + std)) if len(values) > 1 else ((), ())
        lines.append(Line(words, x, hold(mean), *band, kind="steps", colour=number + (12 if term != "total" else 0)))
    return lines


def training_chart(groups: Sequence[Group]) -> Chart:
    """Figure 2: gradient norm and its variance per stage of the curriculum; figures of the samples over training."""
    norms = _lines(groups, lambda run: run.metrics, "gradient_norm")
    guides = tuple((begin, f"N={points}") for begin, points in stage_starts(groups[0].runs[0])[1:])
    variances = tuple(line for i, group in enumerate(groups) for line in _variance_lines(group, i))
    panels = [
        Panel("Gradient norm of the torso", "update", "norm", norms, yscale=_scale(norms), guides=guides),
        Panel("Its variance per stage", "update", "variance", variances, yscale=_scale(variances), guides=guides),
    ]
    panels += _figure_panels(groups)
    spread = " Bands are one standard deviation over the seeds." * any(len(group.runs) > 1 for group in groups)
    return _chart(
        "figure-2", "Training: gradient norm, its variance, and figures of the samples",
        "The norm of the gradient over the torso's parameters, averaged between rows, and its variance over the "
        "updates of each stage of the curriculum (the paper's Figure 2; N: points of its grid); figures of samples of "
        "the averaged weights, where no others are named, from one fixed noise, with an arrow to where better is."
        f"{spread}",
        panels,
    )  # fmt: skip


def _figure_panels(groups: Sequence[Group]) -> list[Panel]:
    """Of each sampler and figure; several weights of one group stand in one panel, those of several groups apart."""
    names = figure_names(groups)
    several = len({weights_in(name)[0] for name in names}) > 1
    together = several and len(groups) == 1
    panels: dict[str, list[Line]] = {}
    for name in names:
        lines = _lines(groups, lambda run: run.evaluations, name)
        weights, rest = weights_in(name)
        if together:
            lines = [dataclasses.replace(line, label=weights or "average", colour=None) for line in lines]
        panels.setdefault(rest if together else name, []).extend(lines)
    found = []
    for name, lines in panels.items():
        sampler, figure = words_of(name)
        scale = "linear" if any(each in name for each in HIGHER_IS_BETTER) else _scale(lines)
        found.append(Panel(f"{_titled(figure)}, {sampler}", "update", "", tuple(lines), yscale=scale))
    return found


def _scale(lines: Sequence[Line]) -> Any:
    values = [y for line in lines for y in line.y if not math.isnan(y)]
    return "log" if values and min(values) > 0 and max(values) > 5 * min(values) else "linear"


ABLATED = {"method.head_weight": "weight of the head's loss", "method.c": "Huber constant"}
"""What the paper's Figure 4 varies."""


def ablations(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """For each setting of `ABLATED` the most groups that differ in nothing else, by its value; fewer than two: none."""
    groups = [dataclasses.replace(group, settings=_by_weight(group.settings)) for group in groups]
    found = {}
    for name in ABLATED:
        families: dict[str, list[Group]] = {}
        apart = differences(groups)
        for group in groups:
            if isinstance(group.settings.get(name), int | float):
                others = {key: value for key, value in group.settings.items() if key in apart}
                others.pop(name, None)
                families.setdefault(repr(sorted(others.items())), []).append(group)
        family = max(families.values(), key=len, default=[])
        if len(family) > 1:
            found[name] = sorted(family, key=lambda group: group.settings[name])
    return found


def _by_weight(settings: dict[str, Any]) -> dict[str, Any]:
    """A head that does not guide the torso has weight 0 there, as the paper's Figure 4 has it."""
    rest = {name: value for name, value in settings.items() if name != "head.guide"}
    off = settings.get("head.guide") is False and "method.head_weight" in settings
    return rest | {"method.head_weight": 0.0} if off else rest


def ablation_chart(groups: Sequence[Group]) -> Chart:
    """Figure 4: the last figures of the samples over the head's weight and over the Huber constant."""
    panels = []
    for setting, family in ablations(groups).items():
        ticks = tuple((float(i), shown_value(float(g.settings[setting]))) for i, g in enumerate(family))
        for figure in dict.fromkeys(words_of(name)[1] for name in figure_names(family)):
            lines = []
            for name in figure_names(family):
                sampler, own = words_of(name)
                values = [last(group, name) for group in family]
                if own != figure or not all(len(each) for each in values):
                    continue
                mean = np.array([each.mean() for each in values])
                std = np.array([each.std(ddof=1) if len(each) > 1 else 0.0 for each in values])
                lines.append(Line(sampler, np.arange(len(family)), mean, mean - std, mean + std, kind="points"))
            words = ABLATED[setting]
            panels.append(Panel(_titled(figure), words, "", tuple(lines), ticks=ticks))
    return _chart(
        "figure-4", "Ablations",
        "The last figures of the samples over the weight of the head's loss (0: its gradient does not reach the torso) "
        "and over the Huber constant (the paper's Figure 4). Bars are one standard deviation over the seeds.",
        panels,
    )  # fmt: skip


def terms_chart(groups: Sequence[Group], names: Sequence[str]) -> Chart:
    """The columns `names` of the metrics, the loss and whatever an objective returned beside it, over the updates."""
    panels = []
    for name in names:
        lines = _lines(groups, lambda run: run.metrics, name)
        panels.append(Panel(_titled(name.replace("_", " ")), "update", "", lines, yscale=_scale(lines)))
    return _chart(
        "terms", "Loss and its terms",
        "The loss and what the objective returned beside it, averaged between rows; parts before their weight.",
        panels,
    )  # fmt: skip


def curves_chart(rows: Sequence[Row], terms: Sequence[str]) -> Chart:
    """The loss, the columns `terms` and the gradient norm of one run, the stages of its curriculum marked."""
    group = Group("", {}, (RunRows("", {}, rows),))
    chart = terms_chart([group], [*dict.fromkeys(["loss", *terms, "gradient_norm"])])
    changed = [(a["step"], b["points"]) for a, b in zip(rows, rows[1:], strict=False) if a["points"] != b["points"]]
    guides = tuple((step, f"N={points}") for step, points in changed)
    return dataclasses.replace(chart, panels=tuple(dataclasses.replace(each, guides=guides) for each in chart.panels))


def losses_chart(groups: Sequence[Group]) -> Chart:
    """Each loss per bin of noise levels, averaged over the rows of the last stage, between the edges recorded there."""
    panels = []
    columns = [column for group in groups for row in group.runs[0].metrics for column in row]
    for name in dict.fromkeys(each.removesuffix("_per_bin") for each in columns if each.endswith("_per_bin")):
        lines = []
        for number, group in enumerate(groups):
            run = group.runs[0]
            rows = [row for row in run.metrics if row.get(f"{name}_per_bin")]
            rows = [row for row in rows if row["points"] == rows[-1]["points"]]
            if not rows:
                continue
            values_of = zip(*(row[f"{name}_per_bin"] for row in rows), strict=True)
            known = [[value for value in column if value is not None] for column in values_of]
            mean = [sum(values) / len(values) if values else math.nan for values in known]
            edges = np.asarray(rows[-1][f"{name}_bin_edges"])
            lines.append(Line(group.label, np.sqrt(edges[1:] * edges[:-1]), mean, kind="points", colour=number))
        title = f"{_titled(name.replace('_', ' '))} loss"
        panels.append(Panel(title, "noise level", "loss", tuple(lines), xscale="log", yscale=_scale(lines)))
    return _chart(
        "losses", "Loss per noise level",
        "Mean losses of the samples whose level lies in each of the bins, over the last stage, each before its weight "
        "in the whole; of each group's first run.",
        panels,
    )  # fmt: skip


def throughput_chart(groups: Sequence[Group]) -> Chart:
    """Samples per second over the updates, of each group's first run; compilation is left out."""
    lines = []
    for number, group in enumerate(groups):
        rows = [row for row in group.runs[0].throughput if row.get("images_per_second")]
        speeds = [row["images_per_second"] for row in rows]
        steps = [row["step"] for row in rows]
        lines.extend([Line(group.label, steps, speeds, colour=number)] if rows else [])
    panel = Panel("Throughput", "update", "samples per second", tuple(lines))
    return _chart(
        "throughput", "Throughput",
        "Samples per second between rows; where a row is slow, the run was also measuring, drawing or saving.",
        [panel],
    )  # fmt: skip


MARGINALS, PLACES = 6, 101
"""Coordinates that are drawn, at most; and numbers over the range of each."""


def marginals_chart(data: np.ndarray, samples: dict[str, np.ndarray], name: str, of: str) -> Chart:
    """Cumulative distributions of the first coordinates of vectors `(n, d)`: the data's, and each sampler's."""
    panels = []
    for i in range(min(data.shape[1], MARGINALS)):
        low, high = data[:, i].min(), data[:, i].max()
        room = 0.15 * (high - low) or 1.0
        x = np.linspace(low - room, high + room, PLACES)
        lines = []
        for place, (words, each) in enumerate([("data", data), *samples.items()]):
            share = np.searchsorted(np.sort(each[:, i]), x, side="right") / len(each)
            lines.append(Line(words, x, share, colour=place - 1 if place else len(COLOURS) - 1))
        panels.append(Panel(f"Coordinate {i + 1}", "value", "share below", tuple(lines)))
    more = f"; the first {MARGINALS} of {data.shape[1]}" * (data.shape[1] > MARGINALS)
    return _chart(
        name, f"Each coordinate of data and samples{of}",
        f"The share of {len(data):,} data, and of the samples by each sampler, whose coordinate is below a "
        f"value{more}. Where two lines lie on each other, the distributions are the same.",
        panels,
    )  # fmt: skip

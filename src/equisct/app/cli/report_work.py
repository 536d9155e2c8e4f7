"""The work of `equisct-report`: what runs have recorded, and what their models say, put on one page."""

import dataclasses
import datetime
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._base.files import atomic_write
from ..._base.version import installed_version
from ...evaluation import check_comparable
from ..report import (
    Chart,
    Gallery,
    Group,
    Picture,
    RunRows,
    Section,
    Table,
    ablation_chart,
    group_runs,
    losses_chart,
    page,
    png,
    read_panel,
    terms_chart,
    throughput_chart,
    training_chart,
    write_chart,
)
from ..report.figures import stage_values, words_of
from ..report.runs import differences, figure_names, last, shown_value
from ..runs.evaluator import read_pipeline
from ..runs.folder import FIXED, FREE, flat_settings, read_config, read_status
from ..settings.codec import to_json
from ..tracking import read_rows, term_columns
from .report import ReportOptions
from .report_facts import facts
from .report_models import Loaded, alignment_charts, load_models, samples_of, tell
from .report_support import support_charts

PROGRESS = 6
"""Pictures of a run's way, at most."""


def report(options: ReportOptions) -> pathlib.Path:
    """Writes the page and its figures; the page's path.

    Raises:
        ValueError: if a run has recorded nothing, or its files are damaged.
    """
    out = options.out
    assert out is not None
    names = _names(options.runs)
    rows = _comparable([read_run(path, name) for path, name in zip(options.runs, names, strict=True)], options.runs)
    paths = dict(zip(names, options.runs, strict=True))
    groups = group_runs(rows, decides)
    loaded = load_models(paths) if options.models else {}
    runs = [run for group in groups for run in group.runs]
    measured, shown = _of_models(options, groups, loaded, paths)
    told = [_facts(runs, paths, loaded), _settings(groups)]
    sections = [_overview(groups, paths, told), *shown, _training(groups), *measured]
    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    tell(f"drawing {len(_charts(sections))} figures, each as SVG, PNG and CSV in {folder}")
    for chart in _charts(sections):
        write_chart(chart, folder)
    for section in sections:
        _write_pictures(section, folder)
    many = len(rows) > 1
    title = f"{len(rows)} runs of equisct-train" if many else f"The run {rows[0].name}"
    written = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    words = f"Written {written}. Every figure lies as SVG, PNG and CSV in the folder {folder.name} beside this page."
    atomic_write(out, page(title, words, sections, f"equisct {installed_version('equisct') or ''}".strip()))
    return out


def _charts(sections: Sequence[Section]) -> list[Chart]:
    return [part for section in sections for part in section.parts if isinstance(part, Chart)]


def _write_pictures(section: Section, folder: pathlib.Path) -> None:
    pictures = [picture for part in section.parts if isinstance(part, Gallery) for picture in part.pictures]
    for number, picture in enumerate(pictures, 1):
        (folder / f"{section.name}-{number}.png").write_bytes(picture.png)


# --- runs ---


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """What the runs are called: by their folders, whole where two have the same."""
    short = [path.resolve().name for path in paths]
    return [str(path) if short.count(name) > 1 else name for path, name in zip(paths, short, strict=True)]


def read_run(path: pathlib.Path, name: str) -> RunRows:
    """What a run has recorded.

    Raises:
        ValueError: if that is nothing, or damaged.
    """
    found: dict[str, Any] = {}
    for kind in ("metrics", "evaluations", "throughput"):
        file = path / f"{kind}.jsonl"
        found[kind] = read_rows(file) if file.is_file() else []
    if not found["metrics"]:
        raise ValueError(f"runs: expected runs with rows in metrics.jsonl, found none in {path}")
    stages = path / "stages.json"
    try:
        found["stages"] = json.loads(stages.read_text()) if stages.is_file() else []
    except ValueError as error:
        raise ValueError(f"runs: expected JSON in {stages}, found {error}") from error
    return RunRows(name, flat_settings(to_json(read_config(path))), **found)


def _comparable(rows: list[RunRows], paths: Sequence[pathlib.Path]) -> list[RunRows]:
    """The runs without their figures of samples if these were not taken alike, of which the person is told."""
    found = {run.name: read_pipeline(path) for run, path in zip(rows, paths, strict=True) if run.evaluations}
    try:
        check_comparable({name: {"pipeline": pipeline or {}} for name, pipeline in found.items()})
    except (ValueError, KeyError) as error:
        reason = error if isinstance(error, ValueError) else "a run does not say how they were taken"
        print(f"note: figures of samples are left out, because they were not taken alike: {reason}", file=sys.stderr)
        return [dataclasses.replace(run, evaluations=()) for run in rows]
    return rows


def decides(name: str) -> bool:
    """Whether a setting decides what is learned, the seed apart."""
    return name != "run.seed" and (name in FIXED or not name.startswith(FREE) or name == "run.steps")


# --- sections ---


def _overview(groups: Sequence[Group], paths: dict[str, pathlib.Path], told: Sequence[Table]) -> Section:
    names = figure_names(groups)
    runs = [run for group in groups for run in group.runs]
    if len(runs) == 1:
        parts = [told[0], *_figures(runs[0], names), *told[1:]]
    else:
        parts = [
            _states(runs, paths, names),
            *([_compared(groups, names), _apart(groups)] if len(groups) > 1 else []),
            *told,
        ]
    return Section("runs", "Run" if len(runs) == 1 else "Runs", _of_figures([paths[run.name] for run in runs]), parts)


def _states(runs: Sequence[RunRows], paths: dict[str, pathlib.Path], names: Sequence[str]) -> Table:
    header = ["run", "state", "updates", "seed", *[", ".join(words_of(name)) for name in names]]
    rows = []
    for run in runs:
        shown = [_figure(run.evaluations[-1].get(name) if run.evaluations else None) for name in names]
        state = read_status(paths[run.name]).get("status", "?")
        rows.append([run.name, state, f"{run.metrics[-1]['step']:,}", f"{run.settings['run.seed']}", *shown])
    return Table(header, rows, "The runs and their last figures")


def _figures(run: RunRows, names: Sequence[str]) -> list[Table]:
    """The figures of a run's last evaluation, a row for each sampler."""
    if not names:
        return []
    samplers, figures = ([*dict.fromkeys(each)] for each in zip(*map(words_of, names), strict=True))
    last = {words_of(name): value for name, value in run.evaluations[-1].items() if name != "step"}
    rows = [[sampler, *[_figure(last.get((sampler, figure))) for figure in figures]] for sampler in samplers]
    return [Table(["sampler", *figures], rows, f"Figures of the samples after {run.evaluations[-1]['step']:,} updates")]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _facts(runs: Sequence[RunRows], paths: dict[str, pathlib.Path], loaded: dict[str, Loaded]) -> Table:
    found = [facts(paths[run.name], run, loaded.get(run.name)) for run in runs]
    names = dict.fromkeys(name for each in found for name in each)
    rows = [[name, *[each.get(name, "-") for each in found]] for name in names]
    header = ["", *[run.name for run in runs]] if len(runs) > 1 else []
    return Table(header, rows, "What was run, on what, and how long", of_words=True, folded=len(runs) > 1)


def _settings(groups: Sequence[Group]) -> Table:
    """All settings of each group's first run."""
    found = [group.runs[0].settings for group in groups]
    names = dict.fromkeys(name for each in found for name in each)
    rows = [[name, *[shown_value(each.get(name)) for each in found]] for name in names]
    header = ["setting", *[group.label for group in groups]]
    return Table(header, rows, "All settings" + " of each group's first run" * (len(groups) > 1), folded=True)


def _of_figures(paths: Sequence[pathlib.Path]) -> str:
    """How the figures of samples were taken; those of runs that were measured differently are left out before."""
    found = next((pipeline for path in paths if (pipeline := read_pipeline(path))), None)
    if found is None:
        return "Samples were not measured while training (--eval.every)."
    words = "Figures of samples are those of each run's last evaluation (--eval.every)"
    return f"{words}, of {found.get('samples', 0):,} samples in features of {found.get('network', '?')}."


def _compared(groups: Sequence[Group], names: Sequence[str]) -> Table:
    header = ["group", "seeds", "gradient variance, last stage", *[", ".join(words_of(name)) for name in names]]
    rows = []
    for group in groups:
        variances = stage_values(group, "total", "variance")
        cells = [_spread(variances[:, -1] if variances.size else np.zeros(0))]
        cells += [_spread(last(group, name)) for name in names]
        rows.append([group.label, f"{len(group.runs)}", *cells])
    return Table(header, rows, "Groups of runs that differ by their seed alone: mean ± standard deviation")


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    return f"{values.mean():.4g}" + (f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else "")


def _apart(groups: Sequence[Group]) -> Table:
    rows = [[name, *map(shown_value, values)] for name, values in differences(groups).items()]
    return Table(["setting", *[group.label for group in groups]], rows, "Settings that differ between the groups")


def _training(groups: Sequence[Group]) -> Section:
    rows = [run.metrics[-1] for group in groups for run in group.runs if run.metrics]
    terms = dict.fromkeys(["loss", *(name for row in rows for name in term_columns(row))])
    charts = [
        training_chart(groups), terms_chart(groups, list(terms)), ablation_chart(groups), losses_chart(groups),
        throughput_chart(groups),
    ]  # fmt: skip
    shown = [chart for chart in charts if not chart.is_empty]
    return Section("training", "Training", "From the rows that each run has recorded.", shown)


def _of_models(
    options: ReportOptions, groups: Sequence[Group], loaded: dict[str, Loaded], paths: dict[str, pathlib.Path]
) -> tuple[list[Section], list[Section]]:
    """What was measured of the models, and what was drawn with them; nothing of a run without one."""
    kept = [(group, tuple(run for run in group.runs if run.name in loaded)) for group in groups]
    groups = [dataclasses.replace(group, runs=runs) for group, runs in kept if runs]
    measured, shown = [], []
    charts = alignment_charts(groups, loaded, n=options.n, levels=options.levels) if groups else []
    if charts:
        words = "How alike the head's and the consistency model's answers are, of averaged weights without dropout."
        measured.append(Section("alignment", "Alignment of head and consistency model", words, charts))
    charts = support_charts(groups, loaded)
    if charts:
        words = "Of the training set alone, whatever was trained on it."
        measured.append(Section("data", "Noise and data", words, charts))
    parts: list[Any] = []
    for group in groups:
        run, label = group.runs[0], group.label if len(groups) > 1 else ""
        parts += samples_of(loaded[run.name], run.name, label)
        parts += _progress(paths[run.name], label)
    if parts:
        words = "Not chosen: the first samples of one fixed noise, of averaged weights."
        words += " Of several seeds the first run's." * any(len(group.runs) > 1 for group in groups)
        shown.append(Section("samples", "Samples", words, parts))
    return measured, shown


def _progress(path: pathlib.Path, label: str) -> list[Gallery]:
    """Samples of the average while training, from the same noise each time."""
    found = sorted((path / "samples").glob("step_*_ema.png"))
    if len(found) < 2:
        return []
    chosen = [found[round(i)] for i in np.linspace(0, len(found) - 1, min(PROGRESS, len(found)))]
    pictures = []
    for file in dict.fromkeys(chosen):
        title, image = read_panel(file)
        words = f"{title}, after {int(file.name.split('_')[1]):,} updates".removeprefix(", ")
        pictures.append(Picture(png(image), f"Samples {words}{f' ({label})' * bool(label)}.", f"{words}."))
    return [
        Gallery(
            "Samples while training, always from the same noise" + f" ({label})" * bool(label), pictures, small=True
        )
    ]

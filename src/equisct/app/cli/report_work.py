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
    Group,
    Picture,
    RunRows,
    Section,
    Table,
    ablation_chart,
    group_runs,
    losses_chart,
    page,
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
from .report_models import Loaded, alignment_charts, load_models, pictures_of

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
    sections = [_overview(groups, paths), _training(groups)]
    if loaded:
        kept = [(group, tuple(run for run in group.runs if run.name in loaded)) for group in groups]
        sections += _of_models(options, [dataclasses.replace(g, runs=r) for g, r in kept if r], loaded, paths)
    charts = [part for section in sections for part in section.parts if isinstance(part, Chart)]
    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    for chart in charts:
        write_chart(chart, folder)
    for section in sections:
        _write_pictures(section, folder)
    many = len(rows) > 1
    title = f"{len(rows)} runs of equisct-train" if many else f"The run {rows[0].name}"
    written = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    words = f"Written {written}. Every figure lies as SVG, PNG and CSV in the folder {folder.name} beside this page."
    atomic_write(out, page(title, words, sections, f"equisct {installed_version('equisct') or ''}".strip()))
    return out


def _write_pictures(section: Section, folder: pathlib.Path) -> None:
    pictures = [picture for part in section.parts if not isinstance(part, Chart | Table) for picture in part]
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


def _overview(groups: Sequence[Group], paths: dict[str, pathlib.Path]) -> Section:
    names = figure_names(groups)
    header = ["run", "state", "updates", "seed", *[", ".join(words_of(name)) for name in names]]
    rows = []
    for group in groups:
        for run in group.runs:
            status = read_status(paths[run.name])
            figures = run.evaluations[-1] if run.evaluations else {}
            shown = [f"{figures[name]:.4g}" if figures.get(name) is not None else "-" for name in names]
            state, seed = status.get("status", "?"), run.settings["run.seed"]
            rows.append([run.name, state, f"{run.metrics[-1]['step']:,}", f"{seed}", *shown])
    parts: list[Any] = [Table(header, rows, "The runs and their last figures")]
    if len(groups) > 1:
        parts += [_compared(groups, names), _apart(groups)]
    return Section("runs", "Runs", _of_figures([paths[run.name] for group in groups for run in group.runs]), parts)


def _of_figures(paths: Sequence[pathlib.Path]) -> str:
    """How the figures of samples were taken; those of runs that were measured differently are left out before."""
    words = "Figures of samples are those of each run's last evaluation (--eval.every)"
    found = next((pipeline for path in paths if (pipeline := read_pipeline(path))), None)
    if found is None:
        return f"{words}."
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
) -> list[Section]:
    sections = []
    charts = [
        chart for chart in alignment_charts(groups, loaded, n=options.n, levels=options.levels) if not chart.is_empty
    ]
    if charts:
        words = "How alike the head's and the consistency model's answers are, of averaged weights without dropout."
        sections.append(Section("alignment", "Alignment of head and consistency model", words, charts))
    pictures: list[Sequence[Picture]] = []
    for group in groups:
        run = group.runs[0]
        pictures += pictures_of(loaded[run.name], group.label)
        pictures += [_progress(paths[run.name], group.label)]
    kept = [each for each in pictures if each]
    if kept:
        words = "Not chosen: the first samples of one fixed noise. Of several seeds the first run's."
        sections.append(Section("samples", "Samples", words, kept))
    return sections


def _progress(path: pathlib.Path, label: str) -> list[Picture]:
    """Samples of the average while training, from the same noise each time."""
    found = sorted((path / "samples").glob("step_*_ema.png"))
    if len(found) < 2:
        return []
    chosen = [found[round(i)] for i in np.linspace(0, len(found) - 1, min(PROGRESS, len(found)))]
    step = lambda file: f"{int(file.name.split('_')[1]):,}"
    return [
        Picture(
            file.read_bytes(),
            f"Samples after {step(file)} updates, from the same noise as the others ({label}).",
            f"After {step(file)} updates.",
        )
        for file in dict.fromkeys(chosen)
    ]

"""What runs' models say for a report: alignment of head and consistency model, samples, their nearest data."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..._base.batch import as_example
from ...data import Dataset, PairSet
from ...diagnostics import Alignment, measure_alignment
from ...discretization import karras_grid
from ...model import ScoreGuidedModel
from ...oracle import Empirical
from ...samplers import Ancestral
from ..parts.conditions import conditions_to_show
from ..parts.data import load_data, some_of
from ..parts.recipe import build_oracle
from ..parts.sampling import draw_samples
from ..report import DATA, Chart, Gallery, Group, Line, Panel, Picture, marginals_chart, panel_images, png
from ..runs.stored import Stored, load_run
from ..settings.data import Mixture
from ..tracking import redact
from .plan import parameters_in_words

EXACT = 2**22
"""Numbers in a data set up to which its exact posterior mean is computed."""

SHOWN, NEAREST, POINTS = 64, 16, 1024
"""Images of each sampler, of these beside their nearest data, and vectors of each sampler."""

LARGE, FEW = 64, 16
"""Images of a larger side, in pixels: only few of them."""


def tell(words: str) -> None:
    """What is being done, for the person who waits."""
    print(redact(words), file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run's averaged model and its data."""

    stored: Stored
    dataset: Dataset


def load_models(paths: dict[str, pathlib.Path]) -> dict[str, Loaded]:
    """The runs' newest whole checkpoints; a run that has none yet is told of and left out.

    Raises:
        ValueError: if the data are not where they were.
        CheckpointError: if checkpoints cannot be read.
    """
    found = {}
    datasets: dict[Any, Dataset] = {}  # each once, however many runs have it
    for name, path in paths.items():
        if not any((path / "checkpoints").glob("*/MANIFEST.json")):
            tell(f"note: {name} has no checkpoint yet: its model is left out")
            continue
        stored = load_run(path)
        data, seed = stored.config.data, stored.config.run.seed
        own = (data, seed if isinstance(data, Mixture) else None)  # a mixture is drawn by the run's seed
        if own not in datasets:
            datasets[own] = load_data(data, seed=seed, prefix="equisct-train's --data.")
        found[name] = Loaded(stored, datasets[own])
        tell(f"loaded {name}: {parameters_in_words(stored.ema)}, after {stored.step:,} updates")
    return found


# --- alignment (Figure 3) ---


def alignment_charts(groups: Sequence[Group], loaded: dict[str, Loaded], *, n: int, levels: int) -> list[Chart]:
    """Figure 3, if there is a group whose head guides.

    Of each such group the head against its own consistency model and against one trained without, and that model
    against the exact posterior mean where it is known.
    """
    plain = next((g for g in groups if _is_plain(loaded[g.runs[0].name])), None)
    curves: list[tuple[str, list[Alignment]]] = []
    for group in groups:
        found = [loaded[run.name] for run in group.runs]
        if not _guides(found[0]):
            continue
        others = _matching(group, plain, loaded)
        alone = len([g for g in groups if _guides(loaded[g.runs[0].name])]) == 1
        prefix = "" if alone else f"{group.label}: "
        curves.append((f"{prefix}head and its own consistency model", [align(own, own, n, levels) for own in found]))
        if others:
            pairs = zip(found, others, strict=True)
            curves.append((f"{prefix}head and one trained without", [align(a, b, n, levels) for a, b in pairs]))
        exact = [align(None, own, n, levels) for own in found if _truth(own) is not None]
        if exact:
            curves.append((f"{prefix}exact posterior mean and the model", exact))
    charts = [_alignment_chart(curves, several=any(len(each) > 1 for _, each in curves))] if curves else []
    for chart in charts:
        tell(f"measured alignment, cosine: {chart.alt}")
    return charts


def _guides(found: Loaded) -> bool:
    return isinstance(found.stored.ema, ScoreGuidedModel) and found.stored.config.head.guide


def _is_plain(found: Loaded) -> bool:
    """Whether this is a consistency model that no head guides."""
    return callable(getattr(found.stored.ema, "endpoint", None)) and not _guides(found)


def _matching(group: Group, plain: Group | None, loaded: dict[str, Loaded]) -> list[Loaded]:
    """For each run of a group one trained without guidance: of the same seed if there is one, else the first."""
    if plain is None or loaded[plain.runs[0].name].stored.shape != loaded[group.runs[0].name].stored.shape:
        return []
    by_seed = {run.settings["run.seed"]: loaded[run.name] for run in reversed(plain.runs)}
    first = loaded[plain.runs[0].name]
    return [by_seed.get(run.settings["run.seed"], first) for run in group.runs]


def _truth(found: Loaded) -> Any:
    """The exact posterior mean of the data, or None."""
    config, dataset = found.stored.config, found.dataset
    if isinstance(config.data, Mixture):
        return build_oracle(config.data).denoise
    if isinstance(dataset, PairSet) or dataset.size * int(np.prod(dataset.shape)) > EXACT:
        return None
    return Empirical(jnp.asarray(as_example(dataset.take(np.arange(dataset.size))).x)).denoise


def align(head: Loaded | None, model: Loaded, n: int, levels: int) -> Alignment:
    """Of `head`'s score head (None: the exact posterior mean) with `model`'s consistency model."""
    dataset, noise = model.dataset, model.stored.config.noise
    rows = jnp.asarray(as_example(dataset.take(np.arange(min(n, dataset.size)))).x)
    grid = karras_grid(levels, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max, rho=noise.rho)
    answer = _truth(model) if head is None else head.stored.ema.denoise
    return measure_alignment(
        answer, model.stored.ema.endpoint, rows, jnp.asarray(grid, jnp.float32), centre=rows.mean(0), key=jr.key(0)
    )


def _alignment_chart(curves: Sequence[tuple[str, list[Alignment]]], *, several: bool) -> Chart:
    panels = []
    kinds = {
        "cosine": ("Cosine", "cosine"),
        "centred": ("Cosine about the mean of the data", "cosine"),
        "gap": ("Distance (root mean square)", "data units"),
    }
    for kind, (title, unit) in kinds.items():
        lines = tuple(_line(label, found, [getattr(each, kind) for each in found]) for label, found in curves)
        panels.append(Panel(title, "noise level", unit, lines, xscale="log"))
    differences = _differences(curves)
    if differences:
        words = "difference of cosines"
        panels.append(Panel("What joint training adds", "noise level", words, differences, xscale="log"))
    at = np.asarray(curves[0][1][0].levels)
    middle = int(np.argmin(np.abs(np.log(at))))
    said = [f"{line.label}: {line.y[middle]:.3f} at level {at[middle]:.2g}" for line in panels[0].lines]
    return Chart(
        "figure-3", "Alignment",
        "Mean cosine between the two answers to the same noisy data (the paper's Figure 3). At low levels all answers "
        "are near their input, so that the plain cosine says little there."
        + (" Bands: one standard deviation over the seeds." * several),
        "; ".join(said), tuple(panels),
    )  # fmt: skip


def _line(label: str, found: Sequence[Alignment], values: Sequence[Any]) -> Line:
    """The mean over the runs, with a band where there are several."""
    mean = np.mean(values, 0)
    std = np.std(values, 0, ddof=1) if len(values) > 1 else None
    return Line(label, np.asarray(found[0].levels), mean, *(() if std is None else (mean - std, mean + std)))


def _differences(curves: Sequence[tuple[str, list[Alignment]]]) -> tuple[Line, ...]:
    """Right of Figure 3: own less other, plain and centred, of the first group that has both."""
    for (_, own), (label, other) in zip(curves, curves[1:], strict=False):
        if "trained without" in label:
            pairs = list(zip(own, other, strict=True))
            gaps = {kind: [getattr(a, kind) - getattr(b, kind) for a, b in pairs] for kind in ("cosine", "centred")}
            said = {"cosine": "its own less the other", "centred": "the same, about the mean of the data"}
            return tuple(_line(said[kind], own, values) for kind, values in gaps.items())
    return ()


# --- pictures ---


def samples_of(found: Loaded, name: str, label: str) -> list[Gallery | Chart]:
    """Data, and samples by all of the method's samplers; the data nearest to some of them, or each coordinate."""
    stored = found.stored
    config, shape = stored.config, stored.shape
    system = config.method.build(config, shape)
    samplers = [
        sampler
        for sampler in system.samplers(stored.step) + system.last_samplers
        if not isinstance(sampler, Ancestral)  # a thousand evaluations of each
    ]
    are_images = len(shape) == 3
    n = (SHOWN if max(shape) <= LARGE else FEW) if are_images else POINTS
    tell(f"drawing {n:,} samples of {name} by {', '.join(sampler.name for sampler in samplers)}")
    told = conditions_to_show(config, found.dataset, n)
    drawn = {each.name: draw_samples(each, stored.ema, shape, n, key=jr.key(1), conditions=told) for each in samplers}
    data, of = some_of(found.dataset, n), f" ({label})" if label else ""
    pictures = [
        Picture(png(image), f"{_counted(title, data, n)}{of}.", f"{_counted(title, data, n)}.")
        for title, image in panel_images(drawn, data).items()
    ]
    first, samples = next(iter(drawn.items()))
    shown: list[Gallery | Chart] = [Gallery(f"Data and samples{of}", pictures, small=bool(label))]
    if are_images:
        shown.append(_nearest(found.dataset, samples[:NEAREST], first, of))
    else:
        shown.append(marginals_chart(data, drawn, f"coordinates-{name}", of))
    return shown


def _counted(title: str, data: np.ndarray, n: int) -> str:
    return f"{len(data):,} of the data" if title == DATA else f"{n:,} samples by {title}"


def _nearest(dataset: Dataset, samples: np.ndarray, title: str, of: str) -> Gallery:
    """Samples beside their three nearest data, by pixels."""
    flat = samples.reshape(len(samples), -1)
    best, places = np.full((len(samples), 3), np.inf), np.zeros((len(samples), 3), np.int64)
    for begin in range(0, dataset.size, 4096):
        numbers = np.arange(begin, min(begin + 4096, dataset.size))
        rows = as_example(dataset.take(numbers)).x.reshape(len(numbers), -1)
        squares = np.square(flat[:, None] - rows[None]).sum(-1)
        both = np.concatenate([best, squares], 1), np.concatenate([places, np.tile(numbers, (len(flat), 1))], 1)
        order = np.argsort(both[0], axis=1, kind="stable")[:, :3]
        best, places = (np.take_along_axis(each, order, 1) for each in both)
    take = lambda k: as_example(dataset.take(places[:, k])).x
    median = float(np.median(np.sqrt(best[:, 0])))
    words = {
        f"{len(samples)} samples by {title}": samples,
        f"In the same places the nearest of the data; median distance {median:.3g}": take(0),
        "The second nearest": take(1),
        "The third nearest": take(2),
    }
    pictures = [Picture(png(image), f"{text}{of}.", f"{text}.") for text, image in panel_images(words).items()]
    return Gallery(f"Samples and the data nearest to them by pixels{of}", pictures, small=True)

"""A small reproduction of the paper's comparison, on real digits: iCT against iCT with a score head, and its ablations.

python benchmarks/reproduction.py [--updates N] [--seeds N] [--folder FOLDER] [--write]

Every arm (reproduction_runs.py) is trained once per seed, one run on each core at a time; the arms of a seed share
their first weights, batches, noise levels and noise. Differences are taken seed by seed. The command can be stopped and
given again: finished runs are kept in the folder. `--write` puts result and figures into docs/reproduction.md.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pages import write_between_marks
from pool import on_every_core
from reproduction_runs import ARMS, BY_CONSTANT, BY_WEIGHT, CENTRE, PLAIN, SAMPLES, Arm, Training

DOCS = pathlib.Path(__file__).parent.parent / "docs"
ONE, TWO = "one-step/frechet_distance", "two-step/frechet_distance"
LEVELS, POINTS = 41, 1_024


# --- numbers ---


@dataclasses.dataclass(frozen=True)
class Effect:
    """A difference seed by seed: its mean, the 95 % interval of Student's t, and the mean in standard deviations."""

    mean: float
    low: float
    high: float
    size: float

    @staticmethod
    def from_values(differences: Sequence[float] | np.ndarray) -> "Effect":
        """Of two seeds or more."""
        from scipy import stats

        values = np.asarray(differences, np.float64)
        std = float(values.std(ddof=1))
        half = float(stats.t.ppf(0.975, len(values) - 1)) * std / np.sqrt(len(values))
        return Effect(
            float(values.mean()), float(values.mean() - half), float(values.mean() + half), values.mean() / std
        )

    def __str__(self) -> str:
        return f"{self.mean:+.3g} ({self.low:+.3g} to {self.high:+.3g}), {self.size:+.1f} standard deviations"

    def verdict(self, *, wanted: int) -> str:
        """Whether a claim of this sign holds."""
        if self.low > 0 or self.high < 0:
            return "holds" if np.sign(self.mean) == wanted else "the opposite holds"
        return "not decided"


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Results:
    """What the runs have left, by arm, in the order of the seeds."""

    quality: dict[Arm, dict[str, np.ndarray]]
    """Last figures of the samples."""
    variance: dict[Arm, np.ndarray]
    """Variance of the gradient norm, `(seeds, stages)`."""
    deviation: dict[Arm, np.ndarray]
    """Coefficient of variation, likewise."""
    points: list[int]
    """Of each stage."""
    parts: np.ndarray
    """Variance of the consistency loss's own gradient norm, of `CENTRE`."""


def collect(runs: Callable[[Arm], list[pathlib.Path]]) -> Results:
    """Reads the runs of every arm."""
    from equisct.app.cli.report_work import read_run

    rows = {arm: [read_run(path, path.name) for path in runs(arm)] for arm in ARMS}
    stages = {arm: [run.stages for run in found] for arm, found in rows.items()}
    of = lambda arm, term, name: np.array([[s[term][name] for s in run] for run in stages[arm]])
    return Results(
        {arm: {n: np.array([r.evaluations[-1][n] for r in found]) for n in found[0].evaluations[-1]}
         for arm, found in rows.items()},
        {arm: of(arm, "total", "variance") for arm in ARMS},
        {arm: of(arm, "total", "cv") for arm in ARMS},
        [stage["points"] for stage in stages[PLAIN][0]],
        of(CENTRE, "consistency", "variance"),
    )  # fmt: skip


# --- the page ---


def stage_table(found: Results) -> Iterator[str]:
    """The variance per stage, and what the head changes."""
    yield (
        "| points N | variance, iCT | variance, iCT + SH | of it L_CM alone | ratio of variances | "
        "coefficient of variation, iCT | iCT + SH |"
    )
    yield "|" + "---|" * 7
    for i, points in enumerate(found.points):
        plain, guided = (found.variance[arm][:, i] for arm in (PLAIN, CENTRE))
        effect = Effect.from_values(np.log(guided / plain))
        ratio = f"{np.exp(effect.mean):.2f} ({np.exp(effect.low):.2f} to {np.exp(effect.high):.2f})"
        cells = [f"{points - 1}", spread(plain, 4), spread(guided, 4), spread(found.parts[:, i], 4), ratio]
        cells += [spread(found.deviation[arm][:, i], 3) for arm in (PLAIN, CENTRE)]
        yield f"| {' | '.join(cells)} |"


def arm_table(found: Results, arms: Sequence[Arm], name: str) -> Iterator[str]:
    """Quality of each arm, and its difference from plain iCT."""
    yield (
        f"| {name} | Fréchet distance, one step | less that of iCT | two steps | less that of iCT | "
        "precision, one step | recall | variance, last stage |"
    )
    yield "|" + "---|" * 8
    for arm in arms:
        quality, plain = found.quality[arm], found.quality[PLAIN]
        label = f"{arm.weight:g}" if arms is BY_WEIGHT else f"{arm.c:g}"
        less = ["-", "-"] if arm == PLAIN else [interval(Effect.from_values(quality[n] - plain[n])) for n in (ONE, TWO)]
        shares = [spread(quality[f"one-step/{n}"]) for n in ("precision", "recall")]
        cells = [label, spread(quality[ONE]), less[0], spread(quality[TWO]), less[1], *shares]
        yield f"| {' | '.join(cells)} | {spread(found.variance[arm][:, -1], 3)} |"


def interval(effect: Effect) -> str:
    """Mean and 95 % interval."""
    return f"{effect.mean:+.2f} ({effect.low:+.2f} to {effect.high:+.2f})"


def best(found: Results, arms: Sequence[Arm], claimed: Arm) -> tuple[str, str]:
    """Whether the claimed arm has the best one-step samples: against the best of the others, seed by seed."""
    means = {arm: found.quality[arm][ONE].mean() for arm in arms}
    rival = min((arm for arm in arms if arm != claimed), key=means.__getitem__)
    effect = Effect.from_values(found.quality[claimed][ONE] - found.quality[rival][ONE])
    against = f"against weight {rival.weight:g}, c {rival.c:g}, the best of the others: {effect}"
    return against, effect.verdict(wanted=-1)


def claims(found: Results, alignment: dict[str, np.ndarray]) -> Iterator[str]:
    """The paper's claims, one by one."""
    plain, guided = found.quality[PLAIN], found.quality[CENTRE]
    variance = Effect.from_values(np.log(found.variance[CENTRE][:, -1] / found.variance[PLAIN][:, -1]))
    deviation = Effect.from_values(found.deviation[CENTRE][:, -1] - found.deviation[PLAIN][:, -1])
    rows = [
        ("The head lowers the variance of the gradient norm in the last stage (Figure 2, left)",
         f"log of the ratio: {variance}", variance.verdict(wanted=-1)),
        ("... and its coefficient of variation", f"{deviation}", deviation.verdict(wanted=-1)),
    ]  # fmt: skip
    for name, words in ((ONE, "One-step"), (TWO, "Two-step")):
        effect = Effect.from_values(guided[name] - plain[name])
        rows.append(
            (f"{words} samples are better with the head", f"Fréchet distance: {effect}", effect.verdict(wanted=-1))
        )
    for kind, words in (("cosine", "cosine"), ("centred", "cosine about the data's mean")):
        effect = Effect.from_values(alignment[kind])
        said = f"mean {words} over the levels, own less other: {effect}"
        rows.append(
            (f"Head and model trained together are more alike ({words}; Figure 3)", said, effect.verdict(wanted=1))
        )
    rows.append(("Weight 0.3 is best of those tried (Figure 4, left)", *best(found, BY_WEIGHT, CENTRE)))
    rows.append(("Constant 0.003 is best of those tried (Figure 4, right)", *best(found, BY_CONSTANT, CENTRE)))
    yield "| the paper says | here | verdict |"
    yield "|---|---|---|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def alignment_of(runs: Callable[[Arm], list[pathlib.Path]]) -> dict[str, np.ndarray]:
    """For each seed the head's mean cosine with its own consistency model less that with plain iCT's."""
    from equisct.app.cli.report_models import align, load_models

    found: dict[str, list[float]] = {"cosine": [], "centred": []}
    for own, other in zip(runs(CENTRE), runs(PLAIN), strict=True):
        models = load_models({"own": own, "other": other})
        pair = [align(models["own"], models[name], POINTS, LEVELS) for name in ("own", "other")]
        for kind, values in found.items():
            a, b = (np.asarray(getattr(each, kind), np.float64) for each in pair)
            values.append(float((a - b).mean()))
    return {kind: np.array(values) for kind, values in found.items()}


def draw(runs: Callable[[Arm], list[pathlib.Path]], folder: pathlib.Path) -> None:
    """Figures 2, 3 and 4 as PNG."""
    from equisct.app.cli.report_models import alignment_charts, load_models
    from equisct.app.cli.report_work import decides, read_run
    from equisct.app.report import ablation_chart, group_runs, training_chart, write_chart

    def groups(arms: Sequence[Arm]) -> list:
        return group_runs([read_run(path, path.name) for arm in arms for path in runs(arm)], decides)

    both = groups([PLAIN, CENTRE])
    paths = {path.name: path for arm in (PLAIN, CENTRE) for path in runs(arm)}
    charts = [training_chart(both), *alignment_charts(both, load_models(paths), n=POINTS, levels=LEVELS)]
    charts.append(ablation_chart(groups(ARMS)))
    for chart in charts:
        shown = dataclasses.replace(chart, name=f"reproduction-{chart.name}")
        for path in write_chart(shown, folder):
            if path.suffix != ".png":
                path.unlink()


def main() -> None:
    """Trains, measures and prints; writes the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/reproduction"))
    parser.add_argument("--write", action="store_true", help="put result and figures into docs/reproduction.md")
    options = parser.parse_args()
    if options.updates < 20 or options.seeds < 2:
        parser.error(f"expected 20 updates and 2 seeds at least, found {options.updates} and {options.seeds}")
    place = options.folder / f"updates-{options.updates}"
    place.mkdir(parents=True, exist_ok=True)
    tasks = [Training(arm, seed, place, options.updates) for seed in range(options.seeds) for arm in ARMS]
    try:
        for done, (task, _) in enumerate(on_every_core(tasks), 1):
            print(f"{done} of {len(tasks)}: {task.folder.name}", flush=True)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on with the runs that are not finished")

    def runs(arm: Arm) -> list[pathlib.Path]:
        return [task.folder for task in tasks if task.arm == arm]

    text = "\n".join(page(collect(runs), alignment_of(runs), options.updates, options.seeds))
    print(text)
    if options.write:
        draw(runs, DOCS / "images")
        write_between_marks("reproduction.md", "reproduction", text)


def page(found: Results, alignment: dict[str, np.ndarray], updates: int, seeds: int) -> Iterator[str]:
    """The result in Markdown."""
    yield (
        f"{updates:,} updates of 64 digits for each of {len(ARMS)} arms and {seeds} seeds, {SAMPLES:,} samples; mean ± "
        "standard deviation over the seeds. Differences are seed by seed, with the 95 % interval of Student's t in "
        "parentheses; an effect's size is its mean over its standard deviation."
    )
    yield ""
    yield from claims(found, alignment)
    yield from ["", "### Gradient norm per stage", ""]
    yield from stage_table(found)
    for arms, name in ((BY_WEIGHT, "weight of the head (c 0.003)"), (BY_CONSTANT, "Huber constant (weight 0.3)")):
        yield from ["", f"### By {name.split(' (', 1)[0]}", ""]
        yield from arm_table(found, arms, name)


if __name__ == "__main__":
    main()

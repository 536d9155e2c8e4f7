"""What does the score head do, and when? Two trunks, with and without its gradient, and two branches of each.

python benchmarks/branching.py [--velocity sample|posterior] [--width N] [--updates N] [--seeds N] [--folder FOLDER]
                               [--write]

Stages 1 to 4 of the doubling grid (N = 10 to 80) are trained with the head's gradient in the torso or without it; each
trunk then goes on to stages 5 to 8 (N = 160 to 1280) with it and without it. All branches of a seed share batches,
levels and noise, those of a trunk their weights too. With the velocity `posterior` only the branches that never change
are trained. The design, its power and its rules stand in docs/science.md, and were written before the runs; `--write`
puts the tables there. The command can be stopped and given again: a finished branch leaves a note of its figures in the
folder. Those of the page lie in benchmarks/results/branching: with this as the folder, nothing is trained.
"""

import argparse
import pathlib
import sys
from typing import Any

import numpy as np
from scipy import stats

from branching_runs import GUIDE, SAMPLES, Design, Trunk
from pages import write_between_marks
from pool import on_every_core
from reproduction import Effect, spread

CELLS = [(early, late) for early in GUIDE for late in GUIDE]
WHOLE, NEVER = ("on", "on"), ("off", "off")

Figures = dict[tuple[str, str], list[dict[str, dict[str, float]]]]
"""Of each branch, seed by seed: figures by weights and sampler; `noise` is that of the gradient at frozen weights."""


def log_of(found: Figures, cell: tuple[str, str], name: str, figure: str) -> np.ndarray:
    """The logarithm of a figure, seed by seed."""
    return np.log([seed[name][figure] for seed in found[cell]])


def effects(found: Figures, name: str, figure: str) -> dict[str, np.ndarray]:
    """Differences of logarithms, seed by seed: head on less head off, in the whole run, late, early, and more late."""
    log = {cell: log_of(found, cell, name, figure) for cell in found}
    whole = {"throughout": log[WHOLE] - log[NEVER]}
    if len(log) < len(CELLS):
        return whole
    late = {early: log[early, "on"] - log[early, "off"] for early in GUIDE}
    early = {late: log["on", late] - log["off", late] for late in GUIDE}
    return whole | {
        "late": (late["on"] + late["off"]) / 2,
        "early": (early["on"] + early["off"]) / 2,
        "late, where it was on early, less where it was off": late["on"] - late["off"],
    }


def ratio(differences: np.ndarray) -> str:
    """As a ratio with its 95 % interval."""
    effect = Effect.from_values(differences)
    return "{:.3f} ({:.3f} to {:.3f})".format(*np.exp([effect.mean, effect.low, effect.high]))


def holm(values: list[float]) -> list[float]:
    """Holm's adjusted p-values."""
    order, adjusted, highest = np.argsort(values), np.empty(len(values)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = highest
    return adjusted.tolist()


PRIMARY = {
    "One-step samples are better with the head throughout": ("average/one-step", "frechet_distance", "throughout"),
    "One-step samples are better with the head in the late stages": ("average/one-step", "frechet_distance", "late"),
    "The head lowers the noise of the torso's consistency gradient": ("noise", "trace", "throughout"),
}
"""The paper's claims: each expects a ratio below 1."""


def verdicts(found: Figures) -> list[str]:
    """The primary claims, with p-values adjusted for there being three of them."""
    differences = [effects(found, name, figure)[which] for name, figure, which in PRIMARY.values()]
    tests: list[Any] = [stats.ttest_1samp(each, 0) for each in differences]
    adjusted = holm([float(each.pvalue) for each in tests])
    lines = ["| the paper expects | ratio, head on to off | p (Holm) | verdict |", "|---|---|---|---|"]
    for claim, each, p in zip(PRIMARY, differences, adjusted, strict=True):
        decided = "holds" if each.mean() < 0 else "the opposite holds"
        lines.append(f"| {claim} | {ratio(each)} | {p:.3f} | {decided if p < 0.05 else 'not decided'} |")
    return lines


SHOWN = {
    "average/one-step": "one step, average of 3.6 %",
    "current/one-step": "one step, current weights",
    "0.05/one-step": "one step, average of width .05",
    "0.10/one-step": "one step, average of width .10",
    "average/two-step": "two steps, average of 3.6 %",
}


def table(found: Figures) -> list[str]:
    """Every branch with its spread, and the effects on each measure."""
    lines = ["| head in stages 1 to 4, 5 to 8 | " + " | ".join(SHOWN.values()) + " | precision | recall | noise |"]
    lines.append("|---" * (len(SHOWN) + 4) + "|")
    for cell, seeds in found.items():
        of = lambda name, figure, seeds=seeds: spread(np.array([seed[name][figure] for seed in seeds]))
        cells = [of(name, "frechet_distance") for name in SHOWN]
        cells += [of("average/one-step", figure) for figure in ("precision", "recall")] + [of("noise", "trace")]
        lines.append(f"| {', '.join(cell)} | {' | '.join(cells)} |")
    named = [(name, "frechet_distance", f"distance, {about}") for name, about in SHOWN.items()]
    measures = [*named, ("noise", "trace", "trace of the gradient's covariance")]
    columns = [*effects(found, "noise", "trace")]
    lines += ["", "| ratio, head on to off | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figure, about in measures:
        cells = [ratio(each) for each in effects(found, name, figure).values()]
        lines.append(f"| {about} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--velocity", choices=("sample", "posterior"), default="sample")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--updates", type=int, default=2_400)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/branching"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    design, place = Design(asked.updates, asked.width, asked.velocity), asked.folder.resolve()
    crossed = asked.velocity == "sample"
    trunks = [
        Trunk(design, seed, early, tuple(GUIDE) if crossed else (early,), place)
        for seed in range(asked.seeds)
        for early in GUIDE
    ]
    measured = {}
    for trunk, figures in on_every_core(trunks):
        measured[trunk] = figures
        told = ", ".join(f"{late} {each['average/one-step']['frechet_distance']:.2f}" for late, each in figures.items())
        print(f"seed {trunk.seed}, head early {trunk.early}, late: {told}", file=sys.stderr, flush=True)
    cells = CELLS if crossed else [WHOLE, NEVER]
    found = {(early, late): [measured[t][late] for t in trunks if t.early == early] for early, late in cells}
    about = (
        f"{asked.updates:,} updates of 64 digits at width {asked.width}, velocity {asked.velocity}; {asked.seeds} "
        f"seeds, {SAMPLES:,} samples; mean and standard deviation over the seeds, ratios with the 95 % interval of "
        "Student's t of their logarithms."
    )
    lines = [about, "", *([*verdicts(found), ""] if crossed else []), *table(found)]
    print("\n".join(lines))
    if asked.write:
        write_between_marks("science.md", f"branching, {asked.velocity}, {asked.width}", "\n".join(lines))


if __name__ == "__main__":
    main()

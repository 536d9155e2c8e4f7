"""Is the noise of the velocity what limits one-step samples? iCT with its one-sample noise against its exact mean.

python benchmarks/posterior.py [--updates N] [--seeds N] [--arms NAME ...] [--folder FOLDER] [--write]

Every arm is trained once per seed, one run on each core at a time, with the preset `digits`; the runs of a seed share
first weights, batches, levels and noise. Each is measured by 5,000 one-step samples of its average and of its current
weights. The command can be stopped and given again: finished runs are kept in the folder. What was expected, and what
would refute it, stands in docs/science.md; `--write` puts the table there.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
from typing import Any

import numpy as np

from pool import on_every_core
from reproduction import Effect, spread
from table_runs import quietly

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "science.md"
BEGIN, END = "<!-- posterior: begin -->", "<!-- posterior: end -->"
SAMPLES = 5_000
EXACT = ("--method.velocity", "posterior")
ALONE = ("--head.no-guide",)
ARMS = {
    "iCT": ALONE,
    "iCT, posterior velocity": (*ALONE, *EXACT),
    "iCT + SH": (),
    "iCT + SH, posterior velocity and target": (*EXACT, "--method.target", "posterior"),
    "iCT, posterior velocity, Heun": (*ALONE, *EXACT, "--method.heun"),
    "iCT, posterior over 64 references": (*ALONE, *EXACT, "--method.references", "64"),
    "iCT, posterior over 512 references": (*ALONE, *EXACT, "--method.references", "512"),
}
"""The flags of each, beside the preset; the head of the first two learns beside the model and does not guide it."""
WEIGHTS = {"average": "ema", "current": "model"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run, trained and measured: the unit of work of one core."""

    arm: str
    seed: int
    updates: int
    place: pathlib.Path

    def __call__(self) -> dict[str, dict[str, float]]:
        """The figures by kind of weights; from the folder if they are there."""
        folder = self.place / f"{self.arm.replace(',', '').replace(' ', '-')}-{self.seed}"
        note = folder.with_suffix(".json")
        if note.is_file():
            return json.loads(note.read_text())
        from equisct.app.cli import evaluate, train

        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        steps = str(self.updates)
        words = ("--run.seed", str(self.seed), "--run.steps", steps, "--run.save-every", steps, "--run.no-report")
        quiet = ("--eval.every", "0", "--sample.n", "0", "--log.no-tensorboard", "--ema.decay", "0.99")
        quietly(train.main, "digits", *ARMS[self.arm], *words, *quiet, "--run.dir", str(folder))
        found = {}
        for name, weights in WEIGHTS.items():
            out = folder / f"{weights}.json"
            asked = ("--metrics", "frechet", "precision-recall", "memorised", "--ema", weights, "--features", "digits")
            quietly(evaluate.main, "model", str(folder), "--n", str(SAMPLES), *asked, "--out", str(out))
            found[name] = json.loads(out.read_text())["figures"]
        note.write_text(json.dumps(found))
        return found


def table(found: dict[str, list[dict[str, Any]]], updates: int) -> str:
    """Every arm with its spread, and what it is against iCT, seed by seed, in log distance."""
    number = len(next(iter(found.values())))
    lines = [
        f"{updates:,} updates of 64 digits, {number} seeds, {SAMPLES:,} one-step samples; mean ± standard deviation "
        "over the seeds. The last column is the mean ratio of distances to those of iCT with the same seed, with the 95 % "
        "interval of Student's t of its logarithm.",
        "",
        "| arm | weights | Fréchet distance | precision | recall | memorised | against iCT |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, seeds in found.items():
        for weights in WEIGHTS:
            of = lambda name, seeds=seeds, weights=weights: np.array([_mean(each[weights][name]) for each in seeds])
            against = "-"
            if arm != "iCT" and number > 1 and "iCT" in found:
                plain = np.array([_mean(each[weights]["frechet_distance"]) for each in found["iCT"]])
                effect = Effect.from_values(np.log(of("frechet_distance") / plain))
                against = "{:.2f} ({:.2f} to {:.2f})".format(*np.exp([effect.mean, effect.low, effect.high]))
            columns = ("frechet_distance", "precision", "recall", "memorised_share")
            cells = [spread(of(name)) if number > 1 else f"{of(name)[0]:.2f}" for name in columns]
            lines.append(f"| {arm} | {weights} | {' | '.join(cells)} | {against} |")
    return "\n".join(lines)


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=3_500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS][:2])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/posterior"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        Measured(arm, seed, asked.updates, asked.folder.resolve()) for seed in range(asked.seeds) for arm in asked.arms
    ]
    results = {}
    for task, figures in on_every_core(tasks):
        results[task] = figures
        distances = ", ".join(f"{_mean(figures[weights]['frechet_distance']):.2f}" for weights in WEIGHTS)
        print(f"{task.arm}, seed {task.seed}: {distances}", file=sys.stderr, flush=True)
    shown = table({arm: [results[task] for task in tasks if task.arm == arm] for arm in asked.arms}, asked.updates)
    print(shown)
    if asked.write:
        text = PAGE.read_text()
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        PAGE.write_text(f"{text[:begin]}\n{shown}\n{text[end:]}")


if __name__ == "__main__":
    main()

"""Is the noise of the velocity what limits one-step samples? iCT with its one-sample noise against its exact mean.

python benchmarks/posterior.py [--setting NAME] [--seeds N] [--arms NAME ...] [--folder FOLDER] [--write]

Every arm is trained once per seed, one run on each core at a time; the runs of a seed share first weights, batches,
levels and noise. Each is measured by 5,000 one-step samples of its average and of its current weights. The settings
(posterior_runs.py): `digits`, the preset; `half`, trained on one half of them and held against the other; `long`, ten
times the updates; `wide`, width 32; `fashion`, Fashion-MNIST at 14x14; `flow` and `flow-half`, the preset
`digits-posterior` and what it changes. All seeds in the folder are shown, from 0 on. The command can be stopped and
given again: finished runs are kept in the folder, their figures in notes; some lie in benchmarks/results/posterior, and
with this as the folder they are not trained again. What was expected, and what would refute it, stands in
docs/science.md; `--write` puts the setting's table there.
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pages import write_between_marks
from pool import on_every_core
from posterior_runs import ARMS, FLOW_ARMS, SAMPLES, SETTINGS, WEIGHTS, Measured
from reproduction import Effect, spread

MOST = 100
"""Seeds that are looked for."""


def table(found: Mapping[str, Sequence[Any]], about: str) -> str:
    """Every arm with its spread, and what it is against iCT, seed by seed, in log distance."""
    lines = [
        f"{about}; {SAMPLES:,} one-step samples; mean and standard deviation over the seeds. The last column is the "
        "mean ratio of distances to those of iCT with the same seed, with the 95 % interval of Student's t of its "
        "logarithm.",
        "",
        "| arm | seeds | weights | Fréchet distance | precision | recall | memorised | against iCT |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, seeds in found.items():
        number = len(seeds)
        for weights in WEIGHTS:
            of = lambda name, seeds=seeds, weights=weights: np.array([_mean(each[weights][name]) for each in seeds])
            against = "-"
            both = min(number, len(found.get("iCT", ())))
            if arm != "iCT" and both > 1:
                plain = np.array([_mean(each[weights]["frechet_distance"]) for each in found["iCT"]])
                effect = Effect.from_values(np.log(of("frechet_distance")[:both] / plain[:both]))
                against = "{:.2f} ({:.2f} to {:.2f})".format(*np.exp([effect.mean, effect.low, effect.high]))
            columns = ("frechet_distance", "precision", "recall", "memorised_share")
            cells = [spread(of(name)) if number > 1 else f"{of(name)[0]:.2f}" for name in columns]
            lines.append(f"| {arm} | {number} | {weights} | {' | '.join(cells)} | {against} |")
    return "\n".join(lines)


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=[*SETTINGS], default="digits")
    parser.add_argument("--updates", type=int, help="default: the setting's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS | FLOW_ARMS], default=[*ARMS][:2])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/posterior"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    setting, place = SETTINGS[asked.setting], asked.folder.resolve()
    updates = asked.updates or setting.updates
    tasks = [Measured(asked.setting, arm, seed, updates, place) for seed in range(asked.seeds) for arm in asked.arms]
    for task, figures in on_every_core(tasks):
        distances = ", ".join(f"{_mean(figures[weights]['frechet_distance']):.2f}" for weights in WEIGHTS)
        print(f"{task.arm}, seed {task.seed}: {distances}", file=sys.stderr, flush=True)
    about = setting.about if updates == setting.updates else f"{setting.about}, but {updates:,} updates"
    runs = {arm: [Measured(asked.setting, arm, seed, updates, place) for seed in range(MOST)] for arm in setting.arms}
    found = {arm: list(itertools.takewhile(bool, (run.found() for run in each))) for arm, each in runs.items()}
    shown = table({arm: seeds for arm, seeds in found.items() if seeds}, about)
    print(shown)
    if asked.write:
        write_between_marks("science.md", f"posterior, {asked.setting}", shown)


if __name__ == "__main__":
    main()

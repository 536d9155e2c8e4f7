"""Which distance gives the truest map in few dimensions? The preset `toy`, whose flow map is known, by six of them.

    python benchmarks/distances.py [--place runs/distances] [--updates 10000] [--seeds 3]

Each run is `equisct-train toy` with another `--method.distance` and `--method.c`, on a core of its own; what it prints
at its end (root mean square distance of the one-step endpoint from the exact one, and of the head from the exact
posterior mean) is put together as mean and standard deviation over the seeds. Runs that are finished are not repeated.
"""

import dataclasses
import pathlib
import re
import statistics

import tyro

from equisct.app.cli import train
from pool import on_every_core
from table_runs import quietly

ARMS = {
    "knee 0.00054 (iCT's)": ("pseudo-huber-rms", "0.00054"),
    "knee 0.003 (the paper's)": ("pseudo-huber", "0.003"),
    "knee 0.03": ("pseudo-huber", "0.03"),
    "knee 0.1": ("pseudo-huber", "0.1"),
    "knee 0.3": ("pseudo-huber", "0.3"),
    "squared L2": ("squared-l2", "None"),
}
LEVEL = re.compile(r"^ *([\d.]+) \| *([\d.]+) *[\d.]+ \| *([\d.]+)", re.MULTILINE)
"""A line of the run's `agreement.txt`: the level, the endpoint's distance, the head's."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare."""

    place: pathlib.Path = pathlib.Path("runs/distances")
    """Folder of the runs."""
    updates: int = 10_000
    """Updates of each run."""
    seeds: int = 3
    """Runs per distance."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One run: the unit of work of one core."""

    arm: str
    seed: int
    options: Options

    def __call__(self) -> dict[float, tuple[float, float]]:
        """Trains, if it has not been done; by level, the distances of endpoint and head."""
        distance, c = ARMS[self.arm]
        folder = self.options.place / f"{distance}-{c}-seed-{self.seed}"
        settings = {
            "--method.distance": distance,
            "--method.c": c,
            "--run.seed": self.seed,
            "--run.steps": self.options.updates,
            "--run.save-every": self.options.updates,
            "--run.dir": folder,
        }
        words = [str(word) for pair in settings.items() for word in pair]
        quietly(train.main, "toy", *words, "--log.no-tensorboard", "--sample.n", "0")
        found = LEVEL.findall((folder / "agreement.txt").read_text())
        return {float(sigma): (float(endpoint), float(head)) for sigma, endpoint, head in found}


def shown(values: list[float]) -> str:
    """Mean and, of several seeds, standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main(options: Options) -> None:
    """Trains what is missing and prints two tables."""
    tasks = [Training(arm, seed, options) for seed in range(options.seeds) for arm in ARMS]
    found = dict(on_every_core(tasks))
    for part, title in enumerate(("one-step endpoint", "score head")):
        print(f"\n| {title}, sigma | {' | '.join(ARMS)} |\n|{'---|' * (len(ARMS) + 1)}")
        for sigma in found[tasks[0]]:
            cells = [shown([found[task][sigma][part] for task in tasks if task.arm == arm]) for arm in ARMS]
            print(f"| {sigma:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""A small Table 1: every method of the paper's table, trained and sampled alike, on real digits and on a mixture.

python benchmarks/table.py [--budget MINUTES] [--folder FOLDER] [--seeds N] [--write]

Each row is one run of `equisct-train` (docs/methods.md) on scikit-learn's digits, 8x8, and one on a mixture in the
plane, for each seed; all have the same network, batch and number of updates, which the budget decides. Every core
trains one run at a time. The command can be stopped and given again: finished runs and rows are kept in the folder.
`--write` puts the table into docs/table-1.md.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from pages import write_between_marks
from pool import on_every_core
from table_runs import ROWS, SAMPLES, TEACHERS, Row, classifier, exact_points, measured

WHOLE_BUDGET = 120
"""Minutes on two cores for which the updates below are chosen; another budget scales them."""

UPDATES = {"digits": 6_000, "mixture": 6_000}


# --- the table ---


def spread(values: list[float], digits: int) -> str:
    """Mean and, of several, the standard deviation."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def line(row: Row, digits: list[dict[str, Any]], mixture: list[dict[str, Any]]) -> str:
    """One row in Markdown."""
    of = lambda found, name: [each[name] for each in found]
    cells = [
        row.name,
        f"{row.evaluations}",
        spread(of(digits, "fd"), 2),
        spread(of(digits, "precision"), 2),
        spread(of(digits, "recall"), 2),
        spread(of(mixture, "law"), 3),
        spread(of(mixture, "rms"), 3) if row.follows_the_flow else "-",
        f"{digits[0]['images'] / 1e3:,.0f}",
        f"{np.mean(of(digits, 'seconds')):,.0f}",
        row.paper,
    ]
    return f"| {' | '.join(cells)} |"


@dataclasses.dataclass(frozen=True)
class Task:
    """All rows of one run: the unit of work of one core."""

    kind: str
    data: str
    seed: int
    place: pathlib.Path
    updates: int

    def __call__(self) -> list[tuple[Row, dict[str, Any]]]:
        """Trains and measures."""
        place = self.place / self.data
        rows = [row for row in ROWS if row.trained == self.kind]
        return [(row, measured(row, self.data, place, self.updates, self.seed)) for row in rows]


def run_all(tasks: list[Task]) -> Iterator[tuple[Task, Row, dict[str, Any]]]:
    """The rows of all tasks as they are measured, teachers first."""
    teachers = set(TEACHERS.values())
    for first in (True, False):
        for task, rows in on_every_core([task for task in tasks if (task.kind in teachers) == first]):
            for row, found in rows:
                yield task, row, found


def table(place: pathlib.Path, budget: float, seeds: int) -> Iterator[str]:
    """The table's lines, once all is measured."""
    updates = {data: max(int(whole * budget / WHOLE_BUDGET), 10) for data, whole in UPDATES.items()}
    kinds = dict.fromkeys(row.trained for row in ROWS)
    tasks = [
        Task(kind, data, seed, place, updates[data]) for seed in range(seeds) for kind in kinds for data in UPDATES
    ]
    found: dict[tuple[str, Row], list[dict[str, Any]]] = {}
    for task, row, each in run_all(tasks):
        found.setdefault((task.data, row), []).append(each)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in each.items())
        print(f"seed {task.seed}, {task.data}, {row.name} ({row.evaluations}): {shown}", flush=True)
    yield caption(updates, seeds)
    yield ""
    yield (
        "| method | evaluations | Fréchet distance, digits | precision | recall | distance from the law, mixture | "
        "distance from the exact flow, mixture | images, thousands | seconds | FID, CIFAR-10, as the paper prints it |"
    )
    yield "|" + "---|" * 10
    yield from (line(row, found["digits", row], found["mixture", row]) for row in ROWS)


def caption(updates: dict[str, int], seeds: int) -> str:
    """What was run, and what the best possible figures are."""
    from equisct.evaluation import frechet_distance, precision_recall, sliced_wasserstein

    _, features, accuracy = classifier()
    half = np.arange(len(features)) % 2 > 0
    floor = frechet_distance(features[half], features[~half])
    own = precision_recall(features[half], features[~half])
    plural = "s" if seeds > 1 else ""
    return (
        f"{updates['digits']:,} updates of 64 digits and {updates['mixture']:,} of 512 points for each row (after "
        f"those of its teacher), {SAMPLES:,} samples, {seeds} seed{plural}: mean ± standard deviation. The classifier "
        f"recognises {accuracy:.1%} of digits it has not seen; one half of the digits against the other has distance "
        f"{floor:.2f}, precision {own.precision:.2f} and recall {own.recall:.2f}; {SAMPLES:,} points of the mixture "
        f"have distance {sliced_wasserstein(exact_points(), exact_points(2, SAMPLES)):.3f} from it."
    )


def main() -> None:
    """Trains, measures and prints; writes the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=WHOLE_BUDGET, help="minutes on two cores, roughly")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/table-1.md")
    options = parser.parse_args()
    if not (options.budget > 0 and options.seeds > 0):
        parser.error(f"expected a budget and a number of seeds > 0, found {options.budget} and {options.seeds}")
    place = options.folder / f"budget-{options.budget:g}"
    for data in ("digits", "mixture"):
        (place / data).mkdir(parents=True, exist_ok=True)
    try:
        text = "\n".join(table(place, options.budget, options.seeds))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on with what is finished")
    print(text)
    if options.write:
        write_between_marks("table-1.md", "table", text)


if __name__ == "__main__":
    main()

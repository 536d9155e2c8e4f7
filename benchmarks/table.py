"""A small Table 1: every method of the paper's table, trained and sampled alike, on real digits and on a mixture.

python benchmarks/table.py [--budget MINUTES] [--folder FOLDER] [--seeds N] [--write]

Each row is one run of `equisct-train` (docs/methods.md) on scikit-learn's digits, 8x8, and one on a mixture in the
plane, for each seed; all have the same network, batch and number of updates, which the budget decides. On the digits
samples are held against the data in the features of one small classifier, which is always the same: Fréchet distance,
precision and recall. On the mixture each sample is held against where the exact PF-ODE ends from the same noise. The
command can be stopped and given again: finished runs and rows are kept in the folder. `--write` puts the table into
docs/table-1.md.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from equisct.cli import codec, methods, presets, sample, train
from equisct.cli.config import Config, Ema, Log, Optim, Run, Sample
from equisct.cli.data_config import Mixture, Pairs

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "table-1.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
WHOLE_BUDGET = 120
"""Minutes on two cores for which the numbers below are chosen; another budget scales the updates."""

DIGITS_UPDATES, MIXTURE_UPDATES = 3_000, 3_000
SAMPLES, PAIRS = 1_000, 8_000
TEACHER_STEPS = 16
"""Steps of the first student of progressive distillation."""

Words = tuple[str, ...]
ONE, TWO, HEUN = ("--sampler", "one-step"), ("--sampler", "two-step"), ("--sampler", "heun")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: which run it samples, how, and at how many evaluations per sample."""

    name: str
    trained: str
    words: Words
    evaluations: int
    paper: str = "-"


ROWS = [
    Row("DDPM", "ddpm", ("--sampler", "ancestral"), 1000, "3.17"),
    Row("DDIM", "ddpm", ("--sampler", "ddim", "--steps", "50"), 50, "4.67"),
    Row("EDM", "edm", HEUN, 35, "2.01"),
    Row("KD", "kd", (), 1, "9.36"),
    Row("PD", "pd", ("--sampler", "euler", "--steps", "1"), 1, "9.12"),
    Row("PD", "pd", ("--sampler", "euler", "--steps", "2", "--step", "{two_step_student}"), 2, "4.51"),
    Row("CD", "cd", ONE, 1, "3.55"),
    Row("CD", "cd", TWO, 2, "2.93"),
    Row("CT", "ct", ONE, 1, "8.70"),
    Row("CT", "ct", TWO, 2, "5.83"),
    Row("iCT", "ict", ONE, 1, "2.83"),
    Row("iCT", "ict", TWO, 2, "2.46"),
    Row("iCT*", "ict-star", ONE, 1, "3.55"),
    Row("iCT*", "ict-star", TWO, 2, "2.84"),
    Row("iCT + SH", "ict-sh", ONE, 1, "3.37"),
    Row("iCT + SH", "ict-sh", TWO, 2, "2.79"),
    Row("iCT + SH, through the head", "ict-sh", HEUN, 35),
    Row("CD of its own head", "cd-sh", ONE, 1),
    Row("CD of its own head", "cd-sh", TWO, 2),
    Row("ECT", "ect", ONE, 1),
    Row("ECT", "ect", TWO, 2),
]


# --- training ---


def configuration(kind: str, data: str, place: pathlib.Path, updates: int, seed: int) -> Config:
    """The settings of one run: those of the preset `digits` or `toy` with another method."""
    base = presets.DIGITS if data == "digits" else presets.TOY
    c, mean = (None, -1.1) if data == "digits" else (0.03, 0.0)
    doubling: dict[str, Any] = {"last": 160, "law_mean": mean, "stratify": True}
    edm, ddpm = place / f"edm-{seed}", place / f"ddpm-{seed}"
    made: dict[str, Callable[[], methods.Method]] = {
        "ddpm": lambda: methods.DDPM(stratify=True),
        "edm": lambda: methods.EDM(stratify=True),
        "kd": lambda: methods.KD(ddpm, preconditioning="vp"),
        "pd": lambda: methods.PD(edm, first=TEACHER_STEPS, stratify=True),
        "cd": lambda: methods.CD(teacher=edm, stratify=True),
        "cd-sh": lambda: methods.CD(teacher=None, stratify=True),
        "ct": lambda: methods.CT(last=40, stratify=True),
        "ict": lambda: methods.ICT("pseudo-huber-norm", c, **doubling),
        "ict-star": lambda: methods.ICT("pseudo-huber", c, **doubling),
        "ict-sh": lambda: methods.ScoreGuidance("pseudo-huber", c, **doubling),
        "ect": lambda: methods.ECT(teacher=edm, last=160, law_mean=mean, stratify=True),
    }
    adam = kind in ("ddpm", "edm", "kd", "pd")
    return dataclasses.replace(
        base,
        preset=f"table-{data}-{kind}",
        data=Pairs(place / f"pairs-{seed}.npz") if kind == "kd" else base.data,
        method=made[kind](),
        optim=Optim(name="adam" if adam else "radam", lr=2e-3, decay=True),
        ema=Ema(0.0 if kind == "pd" else 0.999),  # a student's average would reach back to the one before
        run=Run(steps=updates, batch=base.run.batch, seed=seed, save_every=period(updates), keep_every=period(updates)),
        log=Log(every=100, tensorboard=False),
        sample=Sample(n=16),
    )


def period(updates: int) -> int:
    """Updates per period of progressive distillation: one for 16, 8 and 4 steps, two for 2 and for 1."""
    return max(updates // methods.PD(first=TEACHER_STEPS).units, 1)


def trained(kind: str, data: str, place: pathlib.Path, updates: int, seed: int) -> dict[str, Any]:
    """Trains one run, after those that it learns from; goes on with what is there. What it took, for the table."""
    before = {"kd": "ddpm", "pd": "edm", "cd": "edm", "ect": "edm"}.get(kind)
    if before is not None:
        trained(before, data, place, updates, seed)
    folder = place / f"{kind}-{seed}"
    note = folder.with_suffix(".json")
    if note.is_file():
        return json.loads(note.read_text())
    started = time.monotonic()
    if kind == "kd":
        words = ("--sampler", "ddim", "--steps", "50", "--pairs", "--seed", str(seed), "--n", str(PAIRS))
        quietly(sample.main, str(place / f"ddpm-{seed}"), *words, "--out", str(place / f"pairs-{seed}.npz"))
    config = configuration(kind, data, place, updates, seed)
    settings = place / f"{kind}-{seed}.settings.json"
    settings.write_text(json.dumps(codec.to_json(config)))
    quietly(train.main, "from-config", str(settings), "--run.dir", str(folder))
    found = {"images": updates * config.run.batch, "seconds": time.monotonic() - started}
    note.write_text(json.dumps(found))
    return found


def quietly(main: Callable[[list[str]], None], *words: str) -> None:
    """Runs a command of this library in this process; what it prints is shown only where it fails."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(list(words))
    except BaseException:
        print(out.getvalue())
        raise
    import jax  # noqa: PLC0415  (the first command sets flags before JAX is imported)

    jax.clear_caches()


# --- measuring ---


@functools.cache
def classifier() -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, float]:
    """Features of images (n, 1, 8, 8) in [-1, 1], those of all digits, and the accuracy on the fifth left out."""
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    digits: Any = load_digits()
    images = digits.data / 8 - 1
    kept = np.arange(len(images)) % 5 > 0
    net = MLPClassifier((64, 32), max_iter=300, random_state=0).fit(images[kept], digits.target[kept])

    def features(x: np.ndarray) -> np.ndarray:
        hidden = x.reshape(len(x), -1).astype(np.float64)
        for weights, bias in zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return hidden

    return features, features(images), float(net.score(images[~kept], digits.target[~kept]))


def measure_digits(samples: np.ndarray) -> dict[str, float]:
    """Fréchet distance, precision and recall in the classifier's features, against as many of the digits."""
    from equisct.evaluation import frechet_distance, precision_recall  # noqa: PLC0415

    features, data, _ = classifier()
    found = features(np.clip(samples, -1, 1))
    precision, recall = precision_recall(data[: len(found)], found)
    return {"fd": frechet_distance(data, found), "precision": precision, "recall": recall}


def measure_mixture(samples: np.ndarray, run: pathlib.Path) -> dict[str, float]:
    """Root mean square distance from where the exact PF-ODE ends, from the noise of these very samples."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415
    import jax.random as jr  # noqa: PLC0415

    from equisct.cli.build import build_oracle  # noqa: PLC0415
    from equisct.cli.folder import read_config  # noqa: PLC0415
    from equisct.cli.sampling import draw_noise  # noqa: PLC0415

    noise = read_config(run).noise
    z = draw_noise((2,), len(samples), key=jr.key(0))
    oracle = build_oracle(Mixture())
    end = jax.jit(jax.vmap(lambda z: oracle.transport(noise.sigma_max * z, noise.sigma_max, noise.sigma_min)))
    gap = np.asarray(end(jnp.asarray(z))) - samples
    return {"rms": float(np.sqrt(np.square(gap).sum(1).mean()))}


def measured(row: Row, data: str, place: pathlib.Path, updates: int, seed: int) -> dict[str, Any]:
    """One row's figures for one seed, from the folder if they are there."""
    name = f"{row.trained}-{seed}-{row.evaluations}"
    note = place / "rows" / f"{name}.json"
    if note.is_file():
        return json.loads(note.read_text())
    note.parent.mkdir(parents=True, exist_ok=True)
    found = trained(row.trained, data, place, updates, seed)
    run, out = place / f"{row.trained}-{seed}", place / "rows" / f"{name}.npz"
    words = [word.format(two_step_student=5 * period(updates)) for word in row.words]
    quietly(sample.main, str(run), *words, "--n", str(SAMPLES), "--out", str(out))
    samples = np.load(out)["samples"]
    found |= measure_digits(samples) if data == "digits" else measure_mixture(samples, run)
    note.write_text(json.dumps(found))
    return found


# --- the table ---


def spread(values: list[float], digits: int) -> str:
    """Mean and, of several, the standard deviation."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def line(row: Row, digits: list[dict[str, Any]], mixture: list[dict[str, Any]]) -> str:
    """One row in Markdown."""
    of = lambda found, name: [each[name] for each in found]  # noqa: E731
    cells = [
        row.name,
        f"{row.evaluations}",
        spread(of(digits, "fd"), 2),
        spread(of(digits, "precision"), 2),
        spread(of(digits, "recall"), 2),
        "-" if row.name == "DDPM" else spread(of(mixture, "rms"), 3),
        f"{digits[0]['images'] / 1e3:,.0f}",
        f"{np.mean(of(digits, 'seconds')):,.0f}",
        row.paper,
    ]
    return f"| {' | '.join(cells)} |"


def table(place: pathlib.Path, budget: float, seeds: int) -> Iterator[str]:
    """The table's lines, seed by seed until all is measured."""
    scale = budget / WHOLE_BUDGET
    updates = {"digits": max(int(DIGITS_UPDATES * scale), 10), "mixture": max(int(MIXTURE_UPDATES * scale), 10)}
    found: dict[tuple[str, Row], list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for data in ("digits", "mixture"):
            for row in ROWS:
                each = measured(row, data, place / data, updates[data], seed)
                found.setdefault((data, row), []).append(each)
                shown = ", ".join(f"{name} {value:.3g}" for name, value in each.items())
                print(f"seed {seed}, {data}, {row.name} ({row.evaluations}): {shown}", flush=True)
    features, data_features, accuracy = classifier()
    del features
    half = np.arange(len(data_features)) % 2 > 0
    from equisct.evaluation import frechet_distance, precision_recall  # noqa: PLC0415

    floor = frechet_distance(data_features[half], data_features[~half])
    own = precision_recall(data_features[half], data_features[~half])
    plural = "s" if seeds > 1 else ""
    yield (
        f"{updates['digits']:,} updates of 64 digits and {updates['mixture']:,} of 512 points for each row (after "
        f"those of its teacher), {SAMPLES:,} samples, {seeds} seed{plural}: mean ± standard deviation. The classifier "
        f"recognises {accuracy:.1%} of digits it has not seen; one half of the digits against the other has distance "
        f"{floor:.2f}, precision {own.precision:.2f} and recall {own.recall:.2f}."
    )
    yield ""
    yield (
        "| method | evaluations | Fréchet distance, digits | precision | recall | distance from the exact flow, "
        "mixture | images, thousands | seconds | FID, CIFAR-10, as the paper prints it |"
    )
    yield "|" + "---|" * 9
    yield from (line(row, found["digits", row], found["mixture", row]) for row in ROWS)


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
    text = "\n".join(table(place, options.budget, options.seeds))
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()

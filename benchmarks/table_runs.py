"""The runs and rows of the small Table 1 (table.py): how each is trained, sampled and measured.

On the digits samples are held against the data in the features of one small classifier, which is always the same:
Fréchet distance, precision and recall. On the mixture each sample is held against where the exact PF-ODE ends from the
same noise.
"""

import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from equisct.app import methods, presets
from equisct.app.cli import sample, train
from equisct.app.parts.data import load_data
from equisct.app.settings import codec
from equisct.app.settings.config import Config, Ema, Log, Optim, Run, Sample
from equisct.app.settings.data import Mixture, Pairs

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

    @property
    def follows_the_flow(self) -> bool:
        """Whether a sample depends on its first noise alone, so that it has one exact place to end."""
        return "ancestral" not in self.words and self.words != TWO


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

TEACHERS = {"kd": "ddpm", "pd": "edm", "cd": "edm", "ect": "edm"}
"""The run that another learns from."""


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
    if kind in TEACHERS:
        trained(TEACHERS[kind], data, place, updates, seed)
    folder = place / f"{kind}-{seed}"
    note = folder.with_suffix(".json")
    if note.is_file():
        return json.loads(note.read_text())
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    started = time.process_time()
    if kind == "kd":
        words = ("--sampler", "ddim", "--steps", "50", "--pairs", "--seed", str(seed), "--n", str(PAIRS))
        quietly(sample.main, str(place / f"ddpm-{seed}"), *words, "--out", str(place / f"pairs-{seed}.npz"))
    config = configuration(kind, data, place, updates, seed)
    settings = place / f"{kind}-{seed}.settings.json"
    settings.write_text(json.dumps(codec.to_json(config)))
    quietly(train.main, "from-config", str(settings), "--run.dir", str(folder))
    found = {"images": updates * config.run.batch, "seconds": time.process_time() - started}
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
    import jax

    jax.clear_caches()


# --- measuring ---


@functools.cache
def classifier() -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, float]:
    """Features of images (n, 1, 8, 8) in [-1, 1], those of all digits, and the accuracy on the fifth left out."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

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
    from equisct.evaluation import frechet_distance, precision_recall

    features, data, _ = classifier()
    found = features(np.clip(samples, -1, 1))
    precision, recall = precision_recall(data[: len(found)], found)
    return {"fd": frechet_distance(data, found), "precision": precision, "recall": recall}


def measure_mixture(samples: np.ndarray, run: pathlib.Path) -> dict[str, float]:
    """Distance from where the exact PF-ODE ends, from the noise of these very samples; and that of the two laws."""
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from equisct.app.parts.recipe import build_oracle
    from equisct.app.parts.sampling import draw_noise
    from equisct.app.runs.folder import read_config
    from equisct.evaluation import sliced_wasserstein

    noise = read_config(run).noise
    z = draw_noise((2,), len(samples), key=jr.key(0))
    oracle = build_oracle(Mixture())
    end = jax.jit(jax.vmap(lambda z: oracle.transport(noise.sigma_max * z, noise.sigma_max, noise.sigma_min)))
    gap = np.asarray(end(jnp.asarray(z))) - samples
    return {"rms": float(np.sqrt(np.square(gap).sum(1).mean())), "law": sliced_wasserstein(exact_points(), samples)}


@functools.cache
def exact_points(seed: int = 1, n: int = 20_000) -> np.ndarray:
    """Samples of the mixture itself."""
    return load_data(dataclasses.replace(Mixture(), samples=n), seed=10_000 + seed).take(np.arange(n))


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

"""The runs of the study of exact velocities (posterior.py): its arms, and the settings in which they are compared."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from table_runs import quietly

SAMPLES = 5_000
EXACT = ("--method.velocity", "posterior")
ALONE = ("--head.no-guide",)
ARMS = {
    "iCT": ALONE,
    "iCT, posterior velocity": (*ALONE, *EXACT),
    "iCT + SH": (),
    "iCT + SH, posterior velocity and target": (*EXACT, "--method.target", "posterior"),
    "iCT, posterior velocity, Heun": (*ALONE, *EXACT, "--method.heun-steps", "1"),
    "iCT, posterior over 64 references": (*ALONE, *EXACT, "--method.references", "64"),
    "iCT, posterior over 512 references": (*ALONE, *EXACT, "--method.references", "512"),
}
"""The flags of each, beside the preset; the head of the first two learns beside the model and does not guide it."""

_DOUBLING = ("--method.heun-steps", "0", "--method.last", "160", "--method.law-mean", "-1.1")
FLOW_ARMS = {
    "iCT": (*_DOUBLING, "--method.velocity", "sample"),
    "iCT, posterior velocity": _DOUBLING,
    "iCT, exact flow": (),
}
"""The flags beside the preset `digits-posterior`: what it changes, taken back."""
WEIGHTS = {"average": "ema", "current": "model"}

Words = tuple[str, ...]
Against = tuple[Words, Words]
"""Words of equisct-eval: what samples are held against, and the training set, of which they may be copies."""


# --- data sets made for it ---


def half_of_the_digits(seed: int, place: pathlib.Path) -> tuple[Words, Against]:
    """The digits in two random halves: what to train on, and the features of the other half to measure against."""
    from equisct.data import load_digits

    digits = load_digits()
    mixed = np.random.default_rng(seed).permutation(digits.size)
    halves = [digits.take(np.sort(rows)) for rows in np.split(mixed, [digits.size // 2])]
    return _written(halves, f"half-{seed}", "digits", place)


def small_fashion(seed: int, place: pathlib.Path) -> tuple[Words, Against]:
    """10,000 training images of Fashion-MNIST at 14x14, and its test set in pixels to measure against.

    `EQUISCT_FASHION_MNIST` says where the four IDX files are.
    """
    from equisct.data import load_idx

    folder = os.environ.get("EQUISCT_FASHION_MNIST")
    if not folder:
        raise SystemExit("set EQUISCT_FASHION_MNIST to a directory with the four IDX files of Fashion-MNIST")
    sets = [load_idx(pathlib.Path(folder) / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    chosen = np.random.default_rng(seed).choice(sets[0].size, 10_000, replace=False)
    images = [sets[0].take(np.sort(chosen)), sets[1].take(np.arange(sets[1].size))]
    smaller = [each.reshape(len(each), 1, 14, 2, 14, 2).mean((3, 5)) for each in images]
    return _written(smaller, f"fashion-{seed}", "pixels", place)


def _written(sets: list[np.ndarray], name: str, features: str, place: pathlib.Path) -> tuple[Words, Against]:
    """The first set of images in [-1, 1] as training data, the second as the reference in these features."""
    from equisct.app.cli import evaluate

    paths = [place / f"{name}-{part}.npz" for part in ("train", "held-out", "reference")]
    for path, images in zip(paths, sets, strict=False):
        levels = np.round(127.5 * np.moveaxis(images, 1, -1) + 127.5)
        np.savez(path, images=levels.astype(np.uint8))
    quietly(evaluate.main, "stats", str(paths[1]), "--features", features, "--out", str(paths[2]))
    own = ("--features", features)
    return ("npz", "--data.path", str(paths[0])), (("--ref", str(paths[2]), *own), own)


def flow_on_half(seed: int, place: pathlib.Path) -> tuple[Words, Against]:
    """`half_of_the_digits`, by the preset `digits-posterior`."""
    from equisct.app.presets import DIGITS_POSTERIOR
    from equisct.app.settings.codec import to_json
    from equisct.app.settings.data import Npz

    (_, _, path), against = half_of_the_digits(seed, place)
    settings = place / f"half-{seed}.config.json"
    settings.write_text(json.dumps(to_json(dataclasses.replace(DIGITS_POSTERIOR, data=Npz(pathlib.Path(path))))))
    return ("from-config", str(settings)), against


def flow_on_all(seed: int, place: pathlib.Path) -> tuple[Words, Against]:
    """The preset `digits-posterior`, measured against its own data."""
    return ("digits-posterior",), all_digits(seed, place)[1]


def all_digits(seed: int, place: pathlib.Path) -> tuple[Words, Against]:
    """The preset as it is, measured against its own data."""
    del seed, place
    own = ("--features", "digits")
    return ("digits",), (own, own)


# --- settings ---


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where the arms are compared.

    Args:
        about: what is trained on what, for the table.
        updates: of a run.
        data: `(seed, folder) -> words of equisct-train, words of equisct-eval`.
        words: further settings.
        arms: the flags of each arm.
    """

    about: str
    updates: int
    data: Callable[[int, pathlib.Path], tuple[Words, Against]] = all_digits
    words: Words = ()
    arms: dict[str, Words] = dataclasses.field(default_factory=lambda: ARMS)


SETTINGS = {
    "digits": Setting("3,500 updates of 64 digits", 3_500),
    "half": Setting("3,500 updates on one half of the digits, held against the other half", 3_500, half_of_the_digits),
    "long": Setting("35,000 updates of 64 digits", 35_000),
    "wide": Setting(
        "3,500 updates of 64 digits at width 32", 3_500, words=("--torso.width", "32", "--head.width", "16")
    ),
    "fashion": Setting(
        "2,500 updates of 64 images of Fashion-MNIST at 14x14 (10,000 of them), held against its test set",
        2_500,
        small_fashion,
    ),
    "flow": Setting("8,000 updates of 64 digits", 8_000, flow_on_all, arms=FLOW_ARMS),
    "flow-half": Setting(
        "8,000 updates on one half of the digits, held against the other half", 8_000, flow_on_half, arms=FLOW_ARMS
    ),
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run, trained and measured: the unit of work of one core."""

    setting: str
    arm: str
    seed: int
    updates: int
    place: pathlib.Path

    @property
    def folder(self) -> pathlib.Path:
        """Of the run; its note lies beside."""
        name = f"{self.arm.replace(',', '').replace(' ', '-')}-{self.seed}"
        return self.place / (name if self.setting == "digits" else f"{self.setting}-{name}")

    def found(self) -> dict[str, dict[str, float]] | None:
        """The figures by kind of weights, if they are there."""
        note = self.folder.with_suffix(".json")
        return json.loads(note.read_text()) if note.is_file() else None

    def __call__(self) -> dict[str, dict[str, float]]:
        """The figures by kind of weights; from the folder if they are there."""
        if before := self.found():
            return before
        folder = self.folder
        from equisct.app.cli import evaluate, train

        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        setting = SETTINGS[self.setting]
        begin, against = setting.data(self.seed, self.place)
        length = {"run.seed": self.seed, "run.steps": self.updates, "run.save-every": self.updates}
        off = {"eval.every": 0, "sample.n": 0, "sample.every": 0, "ema.decay": 0.99}
        words = [word for name, value in (length | off).items() for word in (f"--{name}", str(value))]
        quiet = ("--log.no-tensorboard", "--run.no-report", "--run.dir", str(folder))
        quietly(train.main, *begin, *setting.arms[self.arm], *setting.words, *words, *quiet)
        found: dict[str, Any] = {}
        others, own = against
        for name, weights in WEIGHTS.items():
            found[name] = {}
            for asked, metrics in ((others, ("frechet", "precision-recall")), (own, ("memorised",))):
                out = folder / f"{weights}-{metrics[0]}.json"
                words = ("--n", str(SAMPLES), "--metrics", *metrics, "--ema", weights, *asked, "--out", str(out))
                quietly(evaluate.main, "model", str(folder), *words)
                found[name] |= json.loads(out.read_text())["figures"]
        folder.with_suffix(".json").write_text(json.dumps(found))
        return found

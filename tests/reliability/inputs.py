"""For every field of the configuration what is valid and what is not; commands run in this process; images in files."""

import contextlib
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from harness import scoring
from hypothesis import strategies as st
from PIL import Image

from equisct.app import methods, presets
from equisct.app.settings import config as settings
from equisct.app.settings import data as data_settings
from strategies import untyped

Main = Callable[[Sequence[str]], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: Any
    out: str
    err: str


def call(main: Main, *words: object) -> Outcome:
    """Runs a command in this process; any exception but `SystemExit` is let through: it would be a traceback."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def counts(row: str, tried: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes every call of a test a trial of its row."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*arguments: Any, **named: Any) -> None:
            with scoring(row, tried) as score:
                test(*arguments, **named)
                score(passed=True, what=test.__name__)

        return counted

    return decorate


@contextlib.contextmanager
def no_jax_in(module: Any) -> Iterator[None]:
    """Inside, a command that comes as far as importing JAX fails; for commands that must be refused before."""

    def refuse() -> None:
        raise AssertionError("the command was not refused before JAX is imported")

    before = module.prefer_quick_compilation
    module.prefer_quick_compilation = refuse
    try:
        yield
    finally:
        module.prefer_quick_compilation = before


def files_below(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file with its content."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def write_images(folder: pathlib.Path, count: int, *, side: int = 8) -> None:
    """PNG files of random grey pixels."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(5).integers(0, 256, (count, side, side), np.uint8)
    for k, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{k:04}.png")


SMALL = ("--torso.width", "4", "--torso.multipliers", "1", "--torso.blocks", "1",
         "--head.width", "4", "--head.multipliers", "1", "--head.blocks", "1", "--method.last", "40",
         "--method.period", "4", "--optim.lr", "1e-3", "--ema.decay", "0.9",
         "--run.steps", "6", "--run.batch", "8", "--run.save-every", "6", "--log.every", "2",
         "--sample.n", "4", "--sample.heun-steps", "4")  # fmt: skip
"""Flags that make a run of any image preset as small as `tiny`, by the very same program, and half as long."""


# --- what each field may be ---


@dataclasses.dataclass(frozen=True)
class Field:
    """Values of one field that are valid, and Python values that are not, whether as a word or in JSON.

    Attributes:
        valid: in ranges small enough that fields drawn one by one fit together, but for what `repaired` mends.
        invalid: a list stands for several words.
        words: whether the invalid values are so as words of a command line too.
    """

    valid: st.SearchStrategy[Any]
    invalid: st.SearchStrategy[Any]
    words: bool = True


NO_NUMBER: list[Any] = ["many", "", "1e", "--", "nan", "inf", "-inf", "1,5", "0x", "None!", "1 2", "١x"]
NO_INTEGER: list[Any] = [*NO_NUMBER, 1.5, float("nan"), float("inf"), -0.5, True, "1e-3", "2.5e0", "2.0"]
NO_FLOAT: list[Any] = [*NO_NUMBER, float("nan"), float("inf"), float("-inf"), True]
JSON_ONLY: list[Any] = [None, {}, [], {"kind": "os.system"}, 5, 1.5, True]


def whole(least: int, most: int = 10_000, *, times: int = 1) -> Field:
    """Integers in a range, multiples of `times`."""
    valid = st.integers(-(-least // times), most // times).map(lambda k: k * times)
    wrong = [st.sampled_from(NO_INTEGER), st.integers(-(10**30), least - 1)]
    odd = [st.integers(least, most).filter(lambda k: k % times)] if times > 1 else []
    return Field(valid, st.one_of(*wrong, *odd))


def real(least: float, most: float, *wrong: st.SearchStrategy[float]) -> Field:
    """Floats in a range."""
    return Field(st.floats(least, most, allow_subnormal=False), st.one_of(st.sampled_from(NO_FLOAT), *wrong))


def positive(most: float = 1e3) -> Field:
    """Floats > 0."""
    return real(1e-6, most, st.floats(-1e300, 0))


def fraction() -> Field:
    """Floats in [0, 1)."""
    return real(0, 1 - 1e-9, st.floats(-1e300, -1e-9), st.floats(1, 1e300))


def optional(field: Field) -> Field:
    """The same, or None."""
    wrong = field.invalid.filter(lambda value: value is not None)
    return dataclasses.replace(field, valid=st.none() | field.valid, invalid=wrong)


def several(field: Field, least: int = 0) -> Field:
    """Tuples of such."""
    wrong = field.invalid.filter(lambda value: value != "--").map(lambda value: [value])
    return Field(st.lists(field.valid, min_size=least, max_size=4).map(tuple), wrong)


def switch() -> Field:
    """A truth value."""
    return Field(st.booleans(), st.sampled_from(["yes!", "1", 1, 0, 2.5, "maybe"]))


def choice(*words: str) -> Field:
    """One of several words."""
    other = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=8).filter(lambda w: w not in words)
    return Field(st.sampled_from(words), other)


def text(wrong: st.SearchStrategy[Any] | None = None) -> Field:
    """Words that say nothing of themselves; only JSON can have the wrong type."""
    valid = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=12)
    return Field(valid, st.sampled_from(JSON_ONLY) if wrong is None else wrong, words=wrong is not None)


def path() -> Field:
    """File names, of files that are there and of others."""
    names = st.sampled_from([".", "..", "~", "~/data"]) | text().valid
    return dataclasses.replace(text(), valid=names.map(pathlib.Path))


def span() -> Field:
    """Two updates A <= B."""
    pairs = st.tuples(st.integers(0, 100), st.integers(0, 100))
    wrong = pairs.filter(lambda two: two[0] != two[1]).map(lambda two: [max(two), min(two)])
    negative = pairs.map(lambda two: [-1 - two[0], two[1]])
    lengths = st.sampled_from([[1], [1, 2, 3], [], ["a", "b"], [0.5, 1]])
    return Field(pairs.map(lambda two: (min(two), max(two))), wrong | negative | lengths)


NET = {
    "width": whole(4, 256, times=4),
    "multipliers": several(whole(1, 8), 1),
    "blocks": whole(1, 8),
    "attention": several(whole(1, 64)),
    "dropout": fraction(),
}
FLIP = {"path": path(), "flip": switch()}
CLASSES = {"condition": choice("none", "classes")}
PROJECT = st.sampled_from(["", "a/b", "a\\b", "../up", "a#b", "a?b", "a%b", "a:b", "x" * 200, "a\nb"])

STRATIFY = {"stratify": switch()}
DISTANCES = ("pseudo-huber", "pseudo-huber-rms", "pseudo-huber-norm", "squared-l2", "l1")
MATCHING = STRATIFY | {
    "distance": dataclasses.replace(choice(*DISTANCES, "lpips"), valid=st.sampled_from(DISTANCES)),
    "lpips": path(),
    "c": optional(positive()),
}
LAW = {"law_mean": real(-5, 5), "law_std": positive()}
SOURCE = choice("sample", "posterior")
SHARE = real(0, 1, st.floats(-1e300, -1e-9), st.floats(1.001, 1e300))
SMALL_STEP = {"velocity": SOURCE, "velocity_share": SHARE, "references": optional(whole(1)), "heun_steps": whole(0, 8)}
GRID = {"first": whole(1, 20), "last": whole(20, 2_000), "period": optional(whole(1))}
DOUBLING = MATCHING | LAW | GRID | SMALL_STEP
OWN_HEAD = {
    "velocity": choice("sample", "posterior", "head", "teacher-head"),
    "teacher_decay": optional(fraction()),
    "denoise_first": dataclasses.replace(fraction(), valid=st.floats(0, 0.4)),
    "head_from": dataclasses.replace(fraction(), valid=st.floats(0, 0.4)),
    "head_until": dataclasses.replace(SHARE, valid=st.floats(0.5, 1)),
    "head_ratio": optional(positive()),
}
HEAD = {"head_weight": real(0, 1e3, st.floats(-1e300, -1e-9)), "head_weighting": choice("edm", "constant")}
PUPIL = {"teacher": path(), "preconditioning": choice("edm", "vp")}
POWERS = st.integers(0, 5).map(lambda power: 2**power)

METHODS: dict[type, dict[str, Field]] = {
    methods.ScoreGuidance: DOUBLING | HEAD | OWN_HEAD | {"target": SOURCE},
    methods.ICT: DOUBLING,
    methods.ECT: DOUBLING
    | {
        "teacher": path(),
        "widening": real(0, 1e3, st.floats(-1e300, -1e-9)),
        "narrowing": real(0, 1e3, st.floats(-1e300, -1e-9)),
    },
    methods.SCT: STRATIFY
    | LAW
    | {
        "velocity": SOURCE,
        "references": optional(whole(1)),
        "warmup": optional(whole(0)),
        "tangent_c": optional(positive()),
        "learned_weight": switch(),
        "preconditioning": choice("trigflow", "edm"),
    },
    methods.CT: MATCHING
    | {"first": whole(1, 20), "last": whole(20, 2_000), "initial_decay": real(0.01, 0.99, st.floats(-1e300, 0))},
    methods.CD: MATCHING | HEAD | {"teacher": optional(path()), "points": whole(2), "solver": choice("heun", "euler")},
    methods.EDM: STRATIFY | LAW | {"augment": fraction(), "target": SOURCE},
    methods.DDPM: STRATIFY,
    methods.PD: STRATIFY
    | PUPIL
    | {
        "first": Field(POWERS.map(lambda n: 32 * n), st.integers(3, 99).map(lambda n: 2 * n + 1)),
        "last": Field(POWERS, st.integers(-9, 0)),
        "period": optional(whole(1)),
    },
    methods.KD: PUPIL | {"distance": choice("l1", "squared-l2")},
}

GROUPS: dict[type, dict[str, Field]] = {
    settings.Torso: NET
    | {
        "architecture": choice("ncsnpp", "ddpmpp", "ddpm"),
        "fourier_scale": positive(),
        "tap_before_norm": switch(),
        "condition": whole(0),
        "condition_dropout": fraction(),
        "guidance": real(1, 1e3, st.floats(-1e300, 0.999)),
    },
    settings.Head: NET
    | {
        "layer_norm": switch(),
        "entry_conv": switch(),
        "embedding": choice("merge", "add", "none"),
        "preconditioning": choice("boundary", "edm"),
        "endpoint_scaling": choice("input", "none", "data"),
        "guide": switch(),
    },
    settings.Noise: {
        "sigma_min": real(1e-6, 0.01, st.floats(-1e300, 0), st.floats(81, 1e300)),
        "sigma_max": real(10, 1e4, st.floats(-1e300, 0.001)),
        "rho": positive(),
        "sigma_data": positive(),
    },
    settings.Optim: {
        "name": choice("radam", "adam"),
        "lr": positive(),
        "head_lr": optional(positive()),
        "b1": fraction(),
        "b2": fraction(),
        "warmup": whole(0),
        "decay": switch(),
        "clip": optional(positive()),
    },
    settings.Ema: {
        "decay": optional(fraction()),
        "std": real(0.001, 0.279, st.floats(-1e300, 0), st.floats(0.28, 1e300)),
        "ramp": real(0, 1e3, st.floats(-1e300, -1e-6)),
        "decays": several(fraction()),
        "stds": several(real(0.001, 0.279, st.floats(-1e300, 0), st.floats(0.28, 1e300))),
        "snapshot_every": whole(0),
    },
    settings.Run: {
        "steps": Field(st.integers(20, 10**9), whole(1).invalid),  # how many at least depends on the curriculum
        "batch": whole(1, 4_096),
        "seed": whole(0, 2**63 - 1),
        "dir": optional(path()),
        "resume": choice("auto", "must", "never"),
        "allow_change": Field(
            st.lists(st.sampled_from(["optim.lr", "head.width", "run.seed", "head.layer-norm"]), max_size=3).map(tuple),
            st.sampled_from([["optim.lrr"], ["optim"], ["lr"], ["os.system"], [""], ["run.steps", "no.thing"]]),
        ),
        "save_every": whole(1),
        "keep": whole(2),
        "keep_every": whole(0),
        "patience": whole(1),
        "skip_steps": span(),
        "report": switch(),
        "dry_run": switch(),
    },
    settings.Parallel: {
        "devices": optional(whole(1)),
        "fsdp": whole(1),
        "microbatches": whole(1, 1),
        "precision": choice("float32", "bfloat16"),
        "remat": switch(),
        "distributed": switch(),
        "coordinator": optional(text()),
        "processes": optional(whole(1)),
        "process": optional(whole(0, 0)),
    },
    settings.Log: {
        "every": whole(1),
        "gradient_parts": switch(),
        "tensorboard": switch(),
        "wandb": switch(),
        "wandb_mode": choice("offline", "online"),
        "wandb_project": text(PROJECT),
        "profile": span(),
    },
    settings.Sample: {
        "n": whole(1),
        "mid_sigma": real(0.02, 9, st.floats(-1e300, 0.002), st.floats(80, 1e300)),
        "heun_steps": whole(2),
        "every": whole(0),
    },
    settings.Eval: {
        "features": choice("digits", "pixels"),
        "weights": dataclasses.replace(optional(path()), valid=st.none()),
        "quantise": choice("round", "truncate", "none"),
        "every": whole(0),
        "n": whole(16),
        "metrics": several(choice("frechet", "wasserstein", "energy"), 1),
        "ref": optional(path()),
        "of": Field(
            st.sampled_from([("ema",), ("model",), ("model", "ema")]),
            st.sampled_from([["average"], ["ema", "ema"], ["0.123"], ["ema", "current"], [""]]),
        ),
    },
    data_settings.Digits: CLASSES,
    data_settings.CIFAR10: FLIP | CLASSES,
    data_settings.IDX: FLIP | CLASSES,
    data_settings.Npz: FLIP | {"array": text(), "condition": choice("none", "classes", "vector")},
    data_settings.ImageFiles: FLIP
    | {
        "size": optional(whole(1)),
        "bad": choice("error", "skip"),
        "bad_limit": real(0, 1, st.floats(-1e300, -1e-9), st.floats(1.001, 1e300)),
        "index": optional(path()),
        "workers": whole(0, 8),
    },
    data_settings.ArrayRecord: FLIP | {"workers": whole(0, 8)},
    data_settings.Mixture: {
        "modes": whole(1, 100),
        "std": positive(),
        "angle": real(-360, 360),
        "samples": whole(512, 10**6),
    },
    data_settings.Pairs: {"path": path()},
} | METHODS
DATA: dict[type, str] = {type(preset.data): name for name, (_, preset) in reversed(presets.PRESETS.items())}
"""A preset with each kind of data."""
BY_METHOD: dict[type, str] = {type(preset.method): name for name, (_, preset) in reversed(presets.PRESETS.items())}
"""A preset with each method."""


def fields() -> list[tuple[str, str, Field]]:
    """`(preset, group.field, values)` of every field that the command line has, those of each kind of data too."""
    found = [
        ("tiny", f"{group.name}.{name}", field)
        for group in dataclasses.fields(settings.Config)
        if group.name not in ("data", "method", "preset")
        for name, field in GROUPS[untyped(group.default_factory)].items()
    ]
    return found + [
        (preset, f"{group}.{name}", field)
        for group, presets_of in (("data", DATA), ("method", BY_METHOD))
        for kind, preset in presets_of.items()
        for name, field in GROUPS[kind].items()
    ]


def built(kind: type) -> st.SearchStrategy[Any]:
    """Valid values of one group."""
    return st.builds(kind, **{name: field.valid for name, field in GROUPS[kind].items()})


def _repaired_head(method: methods.ScoreGuidance, config: settings.Config) -> methods.ScoreGuidance:
    """With a head that learns wherever something is built on it."""
    if method.velocity != "teacher-head":
        method = dataclasses.replace(method, teacher_decay=None)
    if method.velocity in ("head", "teacher-head"):
        method = dataclasses.replace(method, head_weight=1.0, head_from=0.0, head_until=1.0)
    if method.head_weight == 0 or not config.head.guide:
        method = dataclasses.replace(method, denoise_first=0.0, head_ratio=None)
    if method.denoise_first:
        method = dataclasses.replace(method, head_from=0.0)
    enough = config.run.steps >= 100 or method.period is not None
    return method if enough else dataclasses.replace(method, denoise_first=0.0)


def _repaired_torso(config: settings.Config, method: Any) -> settings.Torso:
    """Told a condition where there is one, and a scale of guidance where something can be guided."""
    told, torso = getattr(config.data, "condition", "none") != "none", config.torso
    can = told and method.guides and method.velocity != "sample" and method.velocity_share == 1
    return dataclasses.replace(torso, condition=torso.condition if told else 0, guidance=torso.guidance if can else 1.0)


def _repaired(config: settings.Config) -> settings.Config:
    """The same, with what rules over several fields ask for."""
    method, parallel, ema = untyped(config.method), config.parallel, config.ema
    if getattr(method, "distance", None) in ("squared-l2", "l1") and hasattr(method, "c"):
        method = dataclasses.replace(method, c=None)
    if isinstance(method, methods.AbstractDoubling) and method.velocity == "sample":
        method = dataclasses.replace(method, velocity_share=1.0, heun_steps=0)
    told = getattr(config.data, "condition", "none") != "none"
    if hasattr(method, "references") and (method.velocity != "posterior" or told):
        method = dataclasses.replace(method, references=None)
    if isinstance(method, methods.CD) and method.teacher is None:
        method = dataclasses.replace(method, head_weight=1.0)
    if isinstance(method, methods.ScoreGuidance):
        method = _repaired_head(method, config)
    if getattr(method, "augment", 0) and getattr(method, "target", "sample") != "sample":
        method = dataclasses.replace(method, target="sample")
    if getattr(method, "augment", 0) and getattr(config.data, "flip", False):
        method = dataclasses.replace(method, augment=0.0)
    if None in (parallel.coordinator, parallel.processes, parallel.process) or not parallel.distributed:
        parallel = dataclasses.replace(parallel, coordinator=None, processes=None, process=None)
    ema = dataclasses.replace(ema, **({"ramp": 0.0} if ema.decay is None else {"std": settings.Ema().std}))
    if not ema.stds:
        ema = dataclasses.replace(ema, snapshot_every=0)
    run = config.run
    if isinstance(config.data, data_settings.Mixture):
        run = dataclasses.replace(run, batch=min(run.batch, config.data.samples))
    torso = _repaired_torso(config, method)
    return dataclasses.replace(config, method=method, torso=torso, parallel=parallel, ema=ema, run=run)


def configs() -> st.SearchStrategy[settings.Config]:
    """Valid configurations of every kind of data and method; pairs go with knowledge distillation."""
    groups = {
        group.name: built(untyped(group.default_factory))
        for group in dataclasses.fields(settings.Config)
        if group.name not in ("data", "method", "preset")
    }

    def of(data: list[type], kinds: list[type]) -> st.SearchStrategy[settings.Config]:
        chosen = {"data": st.one_of(*map(built, data)), "method": st.one_of(*map(built, kinds))}
        return st.builds(settings.Config, preset=st.sampled_from(list(presets.PRESETS)), **chosen, **groups)

    pairs, others = [data_settings.Pairs], [kind for kind in METHODS if kind is not methods.KD]
    alone = [kind for kind in DATA if kind not in pairs]
    return st.one_of(of(alone, others), of(pairs, [methods.KD])).map(_repaired)


def as_words(value: Any) -> list[str]:
    """A value as words of a command line."""
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]

"""Checks of a configuration: each failure names the flag, what was found and what is expected. Free of JAX."""

import dataclasses
import operator
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..._base.check import check_at_least, check_finite, check_fraction, check_positive, did_you_mean
from ..._base.defaults import EMA_STD
from ..tracking import WandB, secret_in
from .config import Config, Ema, Head, Log, Noise, Parallel, Sample, Torso
from .data import Pairs, check_data
from .features import check_eval

_LEAST = {
    "torso.width": 4, "torso.blocks": 1, "head.width": 4, "head.blocks": 1,
    "optim.warmup": 0, "ema.ramp": 0, "ema.snapshot_every": 0,
    "run.steps": 1, "run.batch": 1, "run.save_every": 1, "run.seed": 0, "run.keep": 2, "run.keep_every": 0,
    "run.patience": 1, "parallel.devices": 1, "parallel.processes": 1, "parallel.fsdp": 1, "parallel.microbatches": 1,
    "log.every": 1, "sample.n": 0, "sample.heun_steps": 2, "sample.every": 0,
}  # fmt: skip
_BITS = {"run.seed": 63, "run.steps": 31}
_POSITIVE = (
    "torso.fourier_scale", "noise.sigma_min", "noise.rho", "noise.sigma_data",
    "optim.lr", "optim.head_lr", "optim.clip",
)  # fmt: skip
_FRACTIONS = ("torso.dropout", "head.dropout", "optim.b1", "optim.b2", "ema.decay", "ema.decays")
_UPDATES = ("run.skip_steps", "log.profile")
"""Settings by their range: at least so much, below a power of 2, above 0, in [0, 1), and from one update to another.

None, where it is a setting's default, is in each.
"""


def check(config: Config) -> None:
    """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""
    _check_finite_floats(config)
    _check_ranges(config)
    _check_network("torso", config.torso)
    _check_network("head", config.head)
    _check_condition(config)
    config.method.check(config)
    _check_levels(config.noise, config.sample)
    _check_ema(config.ema)
    _check_parallel(config.parallel, config.run.batch)
    check_eval(config.eval, config.ema.kept)
    check_data(config.data, config.run.batch)
    if config.method.learns_pairs != isinstance(config.data, Pairs):
        found = f"{type(config.method).__name__} and {type(config.data).__name__}"
        raise ValueError(f"method, data: expected Pairs as data with the method KD and with no other, found {found}")
    _check_names(config)


def _check_ranges(config: Config) -> None:
    """Of single numbers."""

    def found(names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        for name in names:
            value = operator.attrgetter(name)(config)
            yield from ((name, each) for each in (value if isinstance(value, tuple) else (value,)) if each is not None)

    for name, value in found(_LEAST):
        check_at_least(name, value, _LEAST[name])
    for name, value in found(_BITS):
        if value >= 2 ** _BITS[name]:
            raise ValueError(f"{name}: expected less than 2^{_BITS[name]}, found {value}")
    for name, value in found(_POSITIVE):
        check_positive(name, value)
    for name, value in found(_FRACTIONS):
        check_fraction(name, value)
    for name in _UPDATES:
        first, end = operator.attrgetter(name)(config)
        if not 0 <= first <= end:
            raise ValueError(f"{name}: expected two updates A <= B, both >= 0, found {(first, end)}")


def _check_network(name: str, net: Torso | Head) -> None:
    if min(net.multipliers, default=0) < 1:
        raise ValueError(f"{name}.multipliers: expected whole numbers >= 1, found {net.multipliers}")
    if min(net.attention, default=1) < 1:
        raise ValueError(f"{name}.attention: expected whole numbers >= 1, found {net.attention}")
    if net.width % 4:
        raise ValueError(f"{name}.width: expected a multiple of 4, found {net.width}")


def _check_condition(config: Config) -> None:
    torso, kind = config.torso, getattr(config.data, "condition", "none")
    check_at_least("torso.condition", torso.condition, 0)
    check_fraction("torso.condition_dropout", torso.condition_dropout)
    check_at_least("torso.guidance", torso.guidance, 1)
    if kind == "none" and torso.condition:
        raise ValueError(f"torso.condition: expected 0 without a data.condition, found {torso.condition}")
    if torso.guidance > 1 and kind == "none":
        expected = "1 without a data.condition, which it would guide towards"
        raise ValueError(f"torso.guidance: expected {expected}, found {torso.guidance:g}")
    if torso.guidance > 1 and not config.method.guides:
        found = f"{torso.guidance:g} with {type(config.method).__name__}"
        raise ValueError(f"torso.guidance: expected 1 but with ScoreGuidance, ICT and ECT, found {found}")


def _check_levels(noise: Noise, sample: Sample) -> None:
    low, high = noise.sigma_min, noise.sigma_max
    if not low < high:
        raise ValueError(f"noise.sigma_min: expected less than noise.sigma_max = {high}, found {low}")
    if not low < sample.mid_sigma < high:
        raise ValueError(f"sample.mid_sigma: expected a level between {low} and {high}, found {sample.mid_sigma}")


def _check_ema(ema: Ema) -> None:
    for name, std in (("std", ema.std), *(("stds", each) for each in ema.stds)):
        if not 0 < std < 0.28:
            raise ValueError(f"ema.{name}: expected a relative width in (0, 0.28), found {std}")
    if ema.decay is not None and ema.std != EMA_STD:
        both = f"--ema.decay None --ema.std {ema.std:g}"
        raise ValueError(f"ema.std: expected ema.decay None with it ({both}), found ema.decay {ema.decay:g}")
    if ema.decay is None and ema.ramp:
        raise ValueError(f"ema.ramp: expected 0 with ema.decay None, an average short at first, found {ema.ramp:g}")
    if ema.snapshot_every and not ema.stds:
        raise ValueError("ema.stds: expected at least one with ema.snapshot_every, such as 0.05 0.1, found none")


def _check_parallel(parallel: Parallel, batch: int) -> None:
    if batch % parallel.microbatches:
        raise ValueError(
            f"parallel.microbatches: expected a divisor of run.batch = {batch}, found {parallel.microbatches}"
        )
    told = [parallel.coordinator, parallel.processes, parallel.process]
    if told != [None] * 3 and (None in told or not parallel.distributed):
        raise ValueError(
            "parallel.coordinator, processes, process: expected all three with parallel.distributed, or none, "
            f"found {', '.join(map(str, told))}"
        )
    if parallel.process is not None and not 0 <= parallel.process < (parallel.processes or 1):
        raise ValueError(f"parallel.process: expected 0 to {(parallel.processes or 1) - 1}, found {parallel.process}")


def _check_names(config: Config) -> None:
    """The words that become names of files, of settings, or of things elsewhere."""
    if not re.fullmatch(r"\w[\w.-]*", config.preset):
        raise ValueError(f"preset: expected a name of letters, digits, '.', '-' and '_', found {config.preset!r}")
    if not re.fullmatch(r"[^/\\#?%:\x00-\x1f]{1,128}", config.log.wandb_project):
        raise ValueError(
            f"log.wandb_project: expected 1 to 128 characters without / \\ # ? % :, found {config.log.wandb_project!r}"
        )
    groups = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "preset"}
    known = {f"{group}.{field.name}" for group, node in groups.items() for field in dataclasses.fields(node)}
    for name in config.run.allow_change:
        if name.replace("-", "_") not in known and name.split(".")[0] != "data":
            hint = did_you_mean(name.replace("-", "_"), sorted(known))
            raise ValueError(f"run.allow_change: expected names of settings such as optim.lr, found {name!r}{hint}")


def check_trackers(log: Log) -> None:
    """Raises `ValueError` if a tracker that is asked for is not installed; before anything is written."""
    if log.wandb:
        WandB(log.wandb_project, log.wandb_mode)


def check_secrets(config: Config) -> None:
    """Raises `ValueError`, naming the setting, if one holds a secret: they are written down as they are."""
    for flag, value in flat_values(config):
        secret = secret_in(flag, str(value)) if isinstance(value, str | pathlib.Path) else ""
        if secret:
            raise ValueError(
                f"{flag}: expected no secret, since settings are written to config.json, found {secret}; "
                "choose another value, or start the command without that variable (env -u NAME equisct-train ...)"
            )


def flat_values(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a dataclass and those in it, with its full name such as `run.steps`; of tuples each item."""
    for field in dataclasses.fields(node):
        value, flag = getattr(node, field.name), f"{name}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from flat_values(value, f"{flag}.")
        else:
            yield from ((flag, each) for each in (value if isinstance(value, tuple) else (value,)))


def _check_finite_floats(config: Config) -> None:
    for flag, number in flat_values(config):
        if isinstance(number, float):
            check_finite(flag, number)

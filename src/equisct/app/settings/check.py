"""Checks of a configuration: each failure names the flag, what was found and what is expected. Free of JAX."""

import dataclasses
import re
from typing import Any

from ..._base.check import check_at_least, check_finite, check_fraction, check_positive
from ..tracking import WandB
from .config import Config, Ema, Head, Log, Noise, Optim, Parallel, Run, Sample, Torso
from .data import Pairs, check_data
from .features import check_eval


def check(config: Config) -> None:
    """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""
    _check_finite_floats(config)
    _check_network("torso", config.torso)
    _check_network("head", config.head)
    check_positive("torso.fourier_scale", config.torso.fourier_scale)
    config.method.check(config)
    _check_noise(config.noise)
    _check_optim(config.optim)
    _check_ema(config.ema)
    _check_run(config.run)
    _check_parallel(config.parallel, config.run.batch)
    check_at_least("log.every", config.log.every, 1)
    _check_range("log.profile", config.log.profile)
    _check_sample(config.sample, config.noise)
    check_eval(config.eval)
    check_data(config.data, config.run.batch)
    if config.method.learns_pairs != isinstance(config.data, Pairs):
        found = f"{type(config.method).__name__} and {type(config.data).__name__}"
        raise ValueError(f"method, data: expected Pairs as data with the method KD and with no other, found {found}")
    _check_names(config)


def _check_network(name: str, net: Torso | Head) -> None:
    check_at_least(f"{name}.width", net.width, 4)
    check_at_least(f"{name}.blocks", net.blocks, 1)
    check_fraction(f"{name}.dropout", net.dropout)
    if not net.multipliers or min(net.multipliers) < 1:
        raise ValueError(f"{name}.multipliers: expected whole numbers >= 1, found {net.multipliers}")
    if min(net.attention, default=1) < 1:
        raise ValueError(f"{name}.attention: expected whole numbers >= 1, found {net.attention}")
    if net.width % 4:
        raise ValueError(f"{name}.width: expected a multiple of 4, found {net.width}")


def _check_noise(noise: Noise) -> None:
    check_positive("noise.sigma_min", noise.sigma_min)
    if not noise.sigma_min < noise.sigma_max:
        raise ValueError(
            f"noise.sigma_min: expected less than noise.sigma_max = {noise.sigma_max}, found {noise.sigma_min}"
        )
    check_positive("noise.rho", noise.rho)
    check_positive("noise.sigma_data", noise.sigma_data)


def _check_optim(optim: Optim) -> None:
    check_positive("optim.lr", optim.lr)
    for name, value in (("head_lr", optim.head_lr), ("clip", optim.clip)):
        if value is not None:
            check_positive(f"optim.{name}", value)
    for name, value in (("b1", optim.b1), ("b2", optim.b2)):
        check_fraction(f"optim.{name}", value)
    check_at_least("optim.warmup", optim.warmup, 0)


def _check_ema(ema: Ema) -> None:
    for name, rates in (("decay", (ema.decay,)), ("decays", ema.decays)):
        for rate in rates:
            check_fraction(f"ema.{name}", rate)
    check_at_least("ema.ramp", ema.ramp, 0)
    for std in ema.stds:
        if not 0 < std < 0.28:
            raise ValueError(f"ema.stds: expected relative widths in (0, 0.28), found {std}")
    check_at_least("ema.snapshot_every", ema.snapshot_every, 0)
    if ema.snapshot_every and not ema.stds:
        raise ValueError("ema.stds: expected at least one with ema.snapshot_every, such as 0.05 0.1, found none")


def _check_run(run: Run) -> None:
    for name, value in (("steps", run.steps), ("batch", run.batch), ("save_every", run.save_every)):
        check_at_least(f"run.{name}", value, 1)
    check_at_least("run.seed", run.seed, 0)
    for name, value, bits in (("seed", run.seed, 63), ("steps", run.steps, 31)):
        if value >= 2**bits:
            raise ValueError(f"run.{name}: expected less than 2^{bits}, found {value}")
    check_at_least("run.keep", run.keep, 2)
    check_at_least("run.keep_every", run.keep_every, 0)
    check_at_least("run.patience", run.patience, 1)
    _check_range("run.skip_steps", run.skip_steps)


def _check_parallel(parallel: Parallel, batch: int) -> None:
    for name in ("devices", "processes"):
        value = getattr(parallel, name)
        if value is not None:
            check_at_least(f"parallel.{name}", value, 1)
    check_at_least("parallel.fsdp", parallel.fsdp, 1)
    check_at_least("parallel.microbatches", parallel.microbatches, 1)
    if batch % parallel.microbatches:
        raise ValueError(
            f"parallel.microbatches: expected a divisor of run.batch = {batch}, found {parallel.microbatches}"
        )
    told = [parallel.coordinator is not None, parallel.processes is not None, parallel.process is not None]
    if any(told) and not (all(told) and parallel.distributed):
        raise ValueError(
            "parallel.coordinator, processes, process: expected all three with parallel.distributed, or none, "
            f"found {parallel.coordinator}, {parallel.processes}, {parallel.process}"
        )
    if parallel.process is not None and not 0 <= parallel.process < (parallel.processes or 1):
        raise ValueError(f"parallel.process: expected 0 to {(parallel.processes or 1) - 1}, found {parallel.process}")


def _check_sample(sample: Sample, noise: Noise) -> None:
    check_at_least("sample.n", sample.n, 0)
    check_at_least("sample.heun_steps", sample.heun_steps, 2)
    check_at_least("sample.every", sample.every, 0)
    if not noise.sigma_min < sample.mid_sigma < noise.sigma_max:
        raise ValueError(
            f"sample.mid_sigma: expected a level between {noise.sigma_min} and {noise.sigma_max}, "
            f"found {sample.mid_sigma}"
        )


def _check_range(name: str, found: tuple[int, int]) -> None:
    if not 0 <= found[0] <= found[1]:
        raise ValueError(f"{name}: expected two updates A <= B, both >= 0, found {found}")


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
        if name.replace("-", "_") not in known and not name.startswith("data."):
            raise ValueError(f"run.allow_change: expected names of settings such as optim.lr, found {name!r}")


def check_trackers(log: Log) -> None:
    """Raises `ValueError` if a tracker that is asked for is not installed; before anything is written."""
    if log.wandb:
        WandB(log.wandb_project, log.wandb_mode)


def _check_finite_floats(node: Any, name: str = "") -> None:
    for field in dataclasses.fields(node):
        value, flag = getattr(node, field.name), f"{name}{field.name}"
        if dataclasses.is_dataclass(value):
            _check_finite_floats(value, f"{flag}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                check_finite(flag, number)

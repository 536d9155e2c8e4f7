"""Everything the command line can set, as plain frozen dataclasses: free of JAX, so that `--help` is instant.

The docstring under a field is its help text. Values are checked by `check`, which names the flag at fault.
"""

import dataclasses
import math
import pathlib
from typing import Any, Literal

import tyro

from .._check import check_at_least, check_finite, check_fraction, check_levels, check_positive
from .data_config import CIFAR10 as CIFAR10
from .data_config import IDX as IDX
from .data_config import ArrayRecord as ArrayRecord
from .data_config import Data, check_data
from .data_config import Digits as Digits
from .data_config import ImageFiles as ImageFiles
from .data_config import Mixture as Mixture
from .data_config import Npz as Npz


@dataclasses.dataclass(frozen=True)
class Torso:
    """The consistency model's network: NCSN++ on images, an MLP on vectors."""

    width: int = 128
    """Base channels (a multiple of 4); the MLP's width."""
    multipliers: tuple[int, ...] = (2, 2, 2)
    """Channel multiplier of each resolution, finest first (images only)."""
    blocks: int = 4
    """Residual blocks per resolution; the MLP's depth."""
    attention: tuple[int, ...] = (16,)
    """Resolutions, in pixels, with self-attention (images only)."""
    dropout: float = 0.3
    """Dropout rate while training, in [0, 1) (images only)."""
    fourier_scale: float = 0.02
    """Standard deviation of the Fourier frequencies of the noise embedding."""
    tap_before_norm: bool = False
    """Show the head the features before the final norm and SiLU (images only)."""


@dataclasses.dataclass(frozen=True)
class Head:
    """The score head's network: DDPM++ on images, an MLP on vectors."""

    width: int = 128
    """Base channels (a multiple of 4); the MLP's width."""
    multipliers: tuple[int, ...] = (2, 2, 2)
    """Channel multiplier of each resolution, finest first (images only)."""
    blocks: int = 1
    """Residual blocks per resolution; the MLP's depth."""
    attention: tuple[int, ...] = (16,)
    """Resolutions, in pixels, with self-attention (images only)."""
    dropout: float = 0.0
    """Dropout rate while training, in [0, 1) (images only)."""
    layer_norm: bool = True
    """Layer norm on the torso's features before the group norm (images only)."""
    entry_conv: bool = True
    """A 3x3 convolution between the concatenated inputs and the U-Net (images only)."""
    embedding: Literal["merge", "add", "none"] = "merge"
    """How the torso's noise embedding enters the head (images only)."""
    preconditioning: Literal["boundary", "edm"] = "boundary"
    """Skip and output scales: the consistency model's boundary form, or EDM's."""
    endpoint_scaling: Literal["input", "none", "data"] = "input"
    """Scale of the endpoint in the head's input: c_in, 1, or 1 / sigma_data."""
    guide: bool = True
    """Let the head's gradient reach the torso; off, the torso trains as plain iCT."""


@dataclasses.dataclass(frozen=True)
class Method:
    """The objective: consistency training plus the head's denoising."""

    distance: Literal["pseudo-huber", "pseudo-huber-rms", "pseudo-huber-norm", "squared-l2", "l1"] = "pseudo-huber"
    """Distance between student and teacher; the paper's is pseudo-huber, element-wise."""
    c: float | None = None
    """Knee of the pseudo-Huber, in data units; default 0.003 element-wise, 0.00054 per root dimension otherwise."""
    head_weight: float = 0.3
    """Factor of the denoising loss, >= 0."""
    head_weighting: Literal["edm", "constant"] = "edm"
    """Weighting of the denoising loss over noise levels: EDM's (the released code), or none (the paper's text)."""
    first: int = 10
    """Grid intervals of the curriculum's first stage."""
    last: int = 1280
    """Grid intervals of its last stage."""
    law_mean: float = -1.1
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = 2.0
    """Standard deviation of ln sigma in the law of the noise level."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """Noise levels, in data units."""

    sigma_min: float = 0.002
    """Lowest noise level."""
    sigma_max: float = 80.0
    """Highest noise level."""
    rho: float = 7.0
    """Curvature of the grid of levels."""
    sigma_data: float = 0.5
    """Standard deviation of the data."""


@dataclasses.dataclass(frozen=True)
class Optim:
    """RAdam and the moving average of the weights."""

    lr: float = 1e-4
    """Learning rate of the consistency model."""
    head_lr: float | None = None
    """Learning rate of the score head; default the same."""
    b1: float = 0.9
    """Decay of the gradient's average, in [0, 1)."""
    b2: float = 0.999
    """Decay of the squared gradient's average, in [0, 1)."""
    warmup: int = 0
    """Updates over which the learning rate rises linearly from 0."""
    decay: bool = False
    """Let the learning rate fall to 0 along a cosine over the last half of the run."""
    clip: float | None = None
    """Largest global gradient norm; default none."""
    ema: float = 0.9999
    """Share of the weight average kept at each update, in [0, 1)."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Length, seed and place of the run."""

    steps: int = 400_000
    """Optimiser updates."""
    batch: int = 1024
    """Samples per update, over all devices."""
    seed: int = 0
    """Seed of weights, noise and data order."""
    dir: pathlib.Path | None = None
    """Folder to create for the run; default runs/PRESET, numbered when taken."""
    devices: int | None = None
    """Devices that share each batch; on a CPU, threads. Default: all; on a CPU, one per core."""
    save_every: int = 10_000
    """Updates between checkpoints; one is always written at the end."""
    log_every: int = 50
    """Updates between rows of metrics.jsonl."""
    gradient_parts: bool = False
    """Log the torso's gradient norm of each loss; costs a second backward pass."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The samples drawn at the end."""

    n: int = 64
    """Samples per sampler, with the same noise for each."""
    mid_sigma: float = 0.661
    """Noise level of the second of two steps."""
    heun_steps: int = 18
    """Levels of the Heun sampler through the score head (twice that minus one evaluations)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole training run."""

    data: Data
    """What to train on."""
    torso: Torso = dataclasses.field(default_factory=Torso)
    """The consistency model's network."""
    head: Head = dataclasses.field(default_factory=Head)
    """The score head's network."""
    method: Method = dataclasses.field(default_factory=Method)
    """The objective."""
    noise: Noise = dataclasses.field(default_factory=Noise)
    """Noise levels."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    """Optimiser and weight average."""
    run: Run = dataclasses.field(default_factory=Run)
    """Length, seed and place of the run."""
    sample: Sample = dataclasses.field(default_factory=Sample)
    """Samples at the end."""
    preset: tyro.conf.Suppress[str] = "custom"
    """Name of the preset this started from."""


def check(config: Config) -> None:
    """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""
    _check_finite_floats(config)
    torso, head, method, noise, optim, run, sample = (
        config.torso, config.head, config.method, config.noise, config.optim, config.run, config.sample,
    )  # fmt: skip
    for name, net in (("torso", torso), ("head", head)):
        check_at_least(f"{name}.width", net.width, 4)
        check_at_least(f"{name}.blocks", net.blocks, 1)
        check_fraction(f"{name}.dropout", net.dropout)
        if not net.multipliers or min(net.multipliers) < 1:
            raise ValueError(f"{name}.multipliers: expected whole numbers >= 1, found {net.multipliers}")
        if net.width % 4:
            raise ValueError(f"{name}.width: expected a multiple of 4, found {net.width}")
    check_positive("torso.fourier_scale", torso.fourier_scale)
    if method.c is not None:
        check_positive("method.c", method.c)
    check_at_least("method.head_weight", method.head_weight, 0)
    check_at_least("method.first", method.first, 1)
    check_at_least("method.last", method.last, method.first)
    check_positive("method.law_std", method.law_std)
    check_levels(noise.sigma_min, noise.sigma_max)
    check_positive("noise.rho", noise.rho)
    check_positive("noise.sigma_data", noise.sigma_data)
    check_positive("optim.lr", optim.lr)
    for name, value in (("head_lr", optim.head_lr), ("clip", optim.clip)):
        if value is not None:
            check_positive(f"optim.{name}", value)
    for name, value in (("b1", optim.b1), ("b2", optim.b2), ("ema", optim.ema)):
        check_fraction(f"optim.{name}", value)
    check_at_least("optim.warmup", optim.warmup, 0)
    for name, value in (("steps", run.steps), ("batch", run.batch), ("save_every", run.save_every)):
        check_at_least(f"run.{name}", value, 1)
    check_at_least("run.log_every", run.log_every, 1)
    check_at_least("run.seed", run.seed, 0)
    if run.devices is not None:
        check_at_least("run.devices", run.devices, 1)
    stages = math.log2(method.last // method.first) + 1
    if run.steps < stages:
        raise ValueError(
            f"run.steps: expected at least one update per curriculum stage ({stages:g}), found {run.steps}"
        )
    check_at_least("sample.n", sample.n, 1)
    check_at_least("sample.heun_steps", sample.heun_steps, 2)
    if not noise.sigma_min < sample.mid_sigma < noise.sigma_max:
        raise ValueError(
            f"sample.mid_sigma: expected a level between {noise.sigma_min} and {noise.sigma_max}, "
            f"found {sample.mid_sigma}"
        )
    check_data(config.data, run.batch)


def _check_finite_floats(node: Any, name: str = "") -> None:
    for field in dataclasses.fields(node):
        value, flag = getattr(node, field.name), f"{name}{field.name}"
        if dataclasses.is_dataclass(value):
            _check_finite_floats(value, f"{flag}.")
        elif isinstance(value, float):
            check_finite(flag, value)

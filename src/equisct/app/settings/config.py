"""Everything the command line can set, as plain frozen dataclasses: free of JAX, so that `--help` is instant.

The docstring under a field is its help text. Values are checked in `check.py`.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import tyro

from ..._base.defaults import EMA_DECAY, EMA_STD, KARRAS_POINTS, RHO, SIGMA_DATA, SIGMA_MAX, SIGMA_MIN
from .data import Data
from .features import Eval
from .method import Method


@dataclasses.dataclass(frozen=True)
class Torso:
    """The network of the consistency model, or of a method's denoiser: a U-Net on images, an MLP on vectors."""

    architecture: Literal["ncsnpp", "ddpmpp", "ddpm"] = "ncsnpp"
    """The U-Net (images only)."""
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
    """Standard deviation of the Fourier frequencies of the noise embedding (ncsnpp and vectors only)."""
    tap_before_norm: bool = False
    """Show the head the features before the final norm and SiLU (images only)."""
    condition: int = 0
    """Size of the condition that the network is told, with data.condition: the number of classes, or of numbers;
    0: as the data say."""
    condition_dropout: float = 0.1
    """Share of the samples that train as if they had no condition, in [0, 1), where there are any."""
    guidance: float = 1.0
    """Greatest scale of guidance that the network is told and trained for (from 1 on); 1: none."""


@dataclasses.dataclass(frozen=True)
class Head:
    """The score head's network, of the methods that have one: DDPM++ on images, an MLP on vectors."""

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
class Noise:
    """Noise levels, in data units."""

    sigma_min: float = SIGMA_MIN
    """Lowest noise level."""
    sigma_max: float = SIGMA_MAX
    """Highest noise level."""
    rho: float = RHO
    """Curvature of the grid of levels."""
    sigma_data: float = SIGMA_DATA
    """Standard deviation of the data."""

    @property
    def grid(self) -> dict[str, Any]:
        """What `karras_grid` and every objective on a grid take."""
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max, "rho": self.rho}


@dataclasses.dataclass(frozen=True)
class Optim:
    """The optimiser."""

    name: Literal["radam", "adam"] = "radam"
    """RAdam, or Adam."""
    lr: float = 1e-4
    """Learning rate of the torso."""
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


@dataclasses.dataclass(frozen=True)
class Ema:
    """Moving averages of the weights."""

    decay: float | None = EMA_DECAY
    """Share of the average kept at each update, in [0, 1); samples are drawn with this average. None: an average that
    follows the length of the run, by std."""
    std: float = EMA_STD
    """With decay None, the width of the average that samples are drawn with, in (0, 0.28): it reaches back about this
    part of the updates done, however long the run (power-function shape)."""
    ramp: float = 0.0
    """Keep it short at first: a half-life of at most this share of the updates done, >= 0 (EDM: 0.05); 0: as long at
    once."""
    decays: tuple[float, ...] = ()
    """Further averages at constant rates, in [0, 1)."""
    stds: tuple[float, ...] = ()
    """Further averages of power-function shape, by their relative width in (0, 0.28), such as 0.05 0.1."""
    snapshot_every: int = 0
    """Updates between stored snapshots of those of power-function shape, for other widths later; 0 stores none."""

    @property
    def rule(self) -> str:
        """The rule of the average that samples are drawn with, by its settings."""
        if self.decay is None:
            return f"std {self.std:g}"
        return f"decay {self.decay:g}" + (f", ramp {self.ramp:g}" if self.ramp else "")

    @property
    def kept(self) -> tuple[str, ...]:
        """What the further averages are called, `decays` and then `stds`: by their numbers."""
        return tuple(map(str, (*self.decays, *self.stds)))


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
    """Folder of the run; default runs/PRESET, numbered when taken by a finished or another run."""
    resume: Literal["auto", "must", "never"] = "auto"
    """Go on with the run in that folder if there is one; insist on it; or refuse a folder in use."""
    allow_change: tuple[str, ...] = ()
    """Settings that may differ from those of the run that is resumed, such as optim.lr."""
    save_every: int = 10_000
    """Updates between checkpoints; one is always written at the end and when the run is told to stop."""
    keep: int = 2
    """Newest checkpoints to keep, >= 2."""
    keep_every: int = 0
    """Keep the checkpoints of every multiple of so many updates too; 0 keeps no others."""
    patience: int = 5
    """Updates in a row that may be skipped because loss or gradient is not finite, before the run halts."""
    skip_steps: tuple[int, int] = (0, 0)
    """Updates A to B - 1 are left out: a way past data on which a run has halted."""
    report: bool = False
    """Write a page about the run at its end, as equisct-report does."""
    dry_run: bool = False
    """Print what would be trained, where, and the memory it needs; write nothing."""


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Devices, processes, precision and memory."""

    devices: int | None = None
    """Devices that share each batch; on a CPU, threads. Default: all; on a CPU, one per core."""
    fsdp: int = 1
    """Devices among which parameters, averages and optimiser state are divided; 1 copies them to all."""
    microbatches: int = 1
    """Parts that each batch is computed in, one after the other: less memory, the same update."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic inside the networks; parameters, noise embedding, loss and its weights stay float32."""
    remat: bool = False
    """Compute the inside of the U-Nets' blocks again in the backward pass: less memory, about a third more time."""
    distributed: bool = False
    """One of several processes; found out by itself on TPU pods, SLURM, Open MPI and Kubernetes, else say below."""
    coordinator: str | None = None
    """Address HOST:PORT of process 0, the same in every process."""
    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Rank of this process, from 0."""


@dataclasses.dataclass(frozen=True)
class Log:
    """What is recorded while training."""

    every: int = 50
    """Updates between rows of metrics.jsonl."""
    gradient_parts: bool = False
    """Record the torso's gradient norm of each loss too; costs a second backward pass."""
    tensorboard: bool = True
    """Write TensorBoard's files into the run's folder."""
    wandb: bool = False
    """Record for Weights & Biases too, into the run's folder, offline (needs equisct[wandb])."""
    wandb_mode: Literal["offline", "online"] = "offline"
    """Online sends the record to their servers while training."""
    wandb_project: str = "equisct"
    """Project there."""
    profile: tuple[int, int] = (0, 0)
    """Trace updates A to B - 1 into the run's folder, for a profiler."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Samples drawn while training and at the end."""

    n: int = 64
    """Samples per sampler, with the same noise for each; 0 draws no picture, of the curves neither."""
    mid_sigma: float = 0.661
    """Noise level of the second of two steps."""
    heun_steps: int = KARRAS_POINTS
    """Levels of the Heun sampler through the score head (twice that minus one evaluations)."""
    every: int = 0
    """Updates between one- and two-step grids while training, always from the same noise; 0 draws at the end only."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole training run."""

    data: Data
    """What to train on."""
    method: Method
    """What is trained and by which loss."""
    torso: Torso = dataclasses.field(default_factory=Torso)
    """The consistency model's network."""
    head: Head = dataclasses.field(default_factory=Head)
    """The score head's network."""
    noise: Noise = dataclasses.field(default_factory=Noise)
    """Noise levels."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    """Optimiser."""
    ema: Ema = dataclasses.field(default_factory=Ema)
    """Weight averages."""
    run: Run = dataclasses.field(default_factory=Run)
    """Length, seed and place of the run."""
    parallel: Parallel = dataclasses.field(default_factory=Parallel)
    """Devices, precision and memory."""
    log: Log = dataclasses.field(default_factory=Log)
    """What is recorded."""
    sample: Sample = dataclasses.field(default_factory=Sample)
    """Samples."""
    eval: Eval = dataclasses.field(default_factory=Eval)
    """Evaluation while training."""
    preset: tyro.conf.Suppress[str] = "custom"
    """Name of the preset this started from."""

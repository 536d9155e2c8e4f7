"""`equisct-sample RUN_DIR`: samples from a finished run, as a PNG grid or as arrays."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

import tyro

from ..._base.check import check_at_least
from ..._base.defaults import KARRAS_POINTS
from ..runs.exits import refusing_wrong_input, stopping_cleanly
from ..tracking import redact
from .next_step import check_run
from .plugins import load_plugins
from .words import read
from .xla import begin_jax

PROGRAM = "equisct-sample"

DESCRIPTION = """Draw samples from a run of equisct-train, for example

  equisct-sample runs/digits
  equisct-sample runs/digits --sampler two-step --n 100 --out two.png
  equisct-sample runs/digits --sampler multistep --levels 0.9 0.3 --out samples.npz
  equisct-sample runs/digits-classes --condition 7 --guidance 2
"""

HEUN_STEPS, DDIM_STEPS = KARRAS_POINTS, 50
"""Where none are given."""

SamplerName = Literal["one-step", "two-step", "multistep", "heun", "euler", "ddim", "ancestral"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerChoice:
    """How samples are drawn from a run; of every command that draws some."""

    sampler: SamplerName | None = None
    """Consistency sampling in one, two or more steps; or, through a denoiser or the score head, Heun's or Euler's
    method, DDIM, or DDPM's ancestral sampling. Default: the method's own, such as one-step."""
    levels: tuple[float, ...] = ()
    """Noise levels after the first, descending, for multistep; for two-step, one in place of the run's own."""
    steps: int | None = None
    """Steps of heun, which takes twice that minus one evaluations, and of euler (18), or of ddim (50)."""
    guidance: float | None = None
    """How strongly the condition guides, >= 0: of a run with torso.guidance the scale that the model is told, at most
    that; of any other by Heun's or Euler's method, away from no condition. 1 is none; default 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SamplerChoice):
    """What to draw and where to put it."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of a run, with config.json and checkpoints."""
    n: int = 64
    """Number of samples."""
    seed: int = 0
    """Seed of the noise."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged or current weights."""
    std: float | None = None
    """Draw with an average of this relative width instead, from the run's snapshots (ema.snapshot-every)."""
    step: int | None = None
    """Updates done at the checkpoint to load; default the newest that is whole."""
    out: pathlib.Path = pathlib.Path("samples.png")
    """File to write: .png for a picture, .npz for the array `samples` (float32, data units)."""
    condition: tuple[float, ...] = ()
    """What to draw under, of a run that was told conditions: classes, of each as many samples; or the numbers of one
    vector. Default: every class."""
    pairs: bool = False
    """Write the noise `z` and a hash of the weights too: what knowledge distillation learns from (.npz only)."""


def parse(arguments: Sequence[str] | None = None) -> Options:
    """What a command line asks for, checked."""
    options = read(Options, program=PROGRAM, description=DESCRIPTION, words=arguments)
    check(options)
    return options


def check(options: Options) -> None:
    """Raises `ValueError`, naming the option, at the first that is out of its range."""
    check_at_least("n", options.n, 1)
    check_at_least("seed", options.seed, 0)
    check_walk(options)
    if options.step is not None:
        check_at_least("step", options.step, 0)
    if options.std is not None and not 0 < options.std < 0.28:
        raise ValueError(f"std: expected a relative width in (0, 0.28), found {options.std}")
    if options.out.suffix not in (".png", ".npz"):
        raise ValueError(f"out: expected a file ending in .png or .npz, found {options.out}")
    if options.pairs and options.out.suffix != ".npz":
        raise ValueError(f"out: expected a file ending in .npz with --pairs, found {options.out}")
    check_run("run", options.run)


def check_walk(options: SamplerChoice) -> None:
    """Raises `ValueError` unless these steps and levels are some that the sampler takes, and the guidance is one."""
    sampler, steps, levels = options.sampler, options.steps, options.levels
    if options.guidance is not None:
        check_at_least("guidance", options.guidance, 0)
    if steps is not None:
        check_at_least("steps", steps, 2 if sampler == "heun" else 1)
        if sampler not in ("heun", "euler", "ddim"):
            found = sampler or "the method's own sampler"
            raise ValueError(f"steps: expected with --sampler heun, euler or ddim alone, found it with {found}")
        if sampler == "ddim" and steps > 1000:
            raise ValueError(f"steps: expected at most 1000, the times of DDPM's schedule, found {steps}")
    most = {"two-step": 1, "multistep": len(levels)}.get(sampler or "", 0)
    if len(levels) > most:
        own = "the method's own sampler (--sampler multistep takes some)"
        raise ValueError(f"levels: expected at most {most} with {sampler or own}, found {levels}")
    if sampler == "multistep" and not levels:
        raise ValueError("levels: expected at least one with multistep, found none")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with stopping_cleanly(PROGRAM), refusing_wrong_input(PROGRAM):
        options = parse(arguments)
        load_plugins()
        begin_jax()
        from .sample_work import draw

        draw(options)
        print(f"wrote {options.n} samples to {redact(str(options.out))}")

"""What `equisct-sample` can be asked for; free of JAX."""

import dataclasses
import pathlib
from typing import Literal

import tyro

from .._check import check_at_least


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw and where to put it."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of a run, with config.json and checkpoints."""
    sampler: Literal["one-step", "two-step", "multistep", "heun"] = "one-step"
    """Consistency sampling in one, two or more steps, or Heun's method through the score head."""
    levels: tuple[float, ...] = ()
    """Noise levels after the first, descending, for multistep; for two-step, one in place of the run's own."""
    heun_steps: int = 18
    """Levels of the Heun sampler; it takes twice that minus one evaluations."""
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


def check(options: Options) -> None:
    """Raises `ValueError`, naming the option, at the first that is out of its range."""
    check_at_least("n", options.n, 1)
    check_at_least("seed", options.seed, 0)
    check_at_least("heun-steps", options.heun_steps, 2)
    if options.heun_steps != 18 and options.sampler != "heun":
        raise ValueError(f"heun-steps: expected with --sampler heun alone, found it with {options.sampler}")
    if options.step is not None:
        check_at_least("step", options.step, 0)
    if options.std is not None and not 0 < options.std < 0.28:
        raise ValueError(f"std: expected a relative width in (0, 0.28), found {options.std}")
    if options.out.suffix not in (".png", ".npz"):
        raise ValueError(f"out: expected a file ending in .png or .npz, found {options.out}")
    allowed = {"one-step": (0,), "two-step": (0, 1), "heun": (0,)}.get(options.sampler)
    if allowed is not None and len(options.levels) not in allowed:
        raise ValueError(f"levels: expected at most {allowed[-1]} with {options.sampler}, found {options.levels}")
    if options.sampler == "multistep" and not options.levels:
        raise ValueError("levels: expected at least one with multistep, found none")
    if not (options.run / "config.json").is_file():
        raise ValueError(f"run: expected a folder of equisct-train with config.json, found {options.run}")

"""The samplers that the settings of `noise` and `sample` describe."""

from ...discretization import karras_grid
from ...samplers import Euler, Heun, Multistep
from ..settings.config import Config, Noise


def jumps(config: Config) -> tuple[Multistep, Multistep]:
    """Consistency sampling in one and in two steps."""
    return jump((), config.noise), jump((config.sample.mid_sigma,), config.noise)


def jump(levels: tuple[float, ...], noise: Noise) -> Multistep:
    """Consistency sampling from `noise.sigma_max` through `levels`; with none, one step."""
    return Multistep((noise.sigma_max, *levels), noise.sigma_min)


def heun(steps: int, noise: Noise) -> Heun:
    """Heun's method on a Karras grid of `steps` levels: `2 steps - 1` evaluations."""
    return Heun(karras_grid(steps, **noise.grid)[::-1])


def euler(steps: int, noise: Noise) -> Euler:
    """Euler's method on all but the lowest level of a Karras grid of `steps + 1`, the last step to 0: `steps` steps.

    These are the levels of a student of progressive distillation.
    """
    return Euler(karras_grid(steps + 1, **noise.grid)[:0:-1])

"""Parts of objectives from their settings: distances, weightings, curricula."""

from ...curriculum import Doubling, Halving
from ...distance import L1, AbstractDistance, PseudoHuber, PseudoHuberNorm, PseudoHuberRMS, SquaredL2
from ...evaluation import load_lpips
from ...weighting import AbstractLevelWeighting, ConstantWeighting, EDMWeighting
from ..settings import methods
from ..settings.config import Config
from .models import Shape


def build_distance(method: methods.ICT | methods.CT | methods.CD, shape: Shape) -> AbstractDistance:
    """The distance by its name on the command line, for samples of `shape`.

    Raises:
        ValueError: if it is LPIPS and these are no RGB images, or its weights are not where they are said to be.
    """
    name, c = method.distance, method.c
    if name == "lpips":
        if len(shape) != 3 or shape[0] != 3:
            raise ValueError(f"method.distance: expected RGB images (3, h, w) for lpips, found samples of {shape}")
        try:
            return load_lpips(method.lpips)
        except ValueError as error:
            raise ValueError(f"method.{error}") from error
    kinds = {
        "pseudo-huber": PseudoHuber,
        "pseudo-huber-rms": PseudoHuberRMS,
        "pseudo-huber-norm": PseudoHuberNorm,
        "squared-l2": SquaredL2,
        "l1": L1,
    }
    return kinds[name]() if c is None else kinds[name](c)


def head_weighting(name: str, config: Config) -> AbstractLevelWeighting:
    """The weighting of the head's loss by its name on the command line."""
    return EDMWeighting(sigma_data=config.noise.sigma_data) if name == "edm" else ConstantWeighting()


def build_doubling(method: methods.ICT, steps: int) -> Doubling:
    """The doubling curriculum, its period as configured or such that the run ends with its last stage."""
    if method.period is None:
        return Doubling.from_total(steps, first=method.first, last=method.last)
    return Doubling(method.first, method.last, period=method.period)


def build_halving(method: methods.PD, steps: int) -> Halving:
    """The halving stages, their period as configured or such that they fill the run."""
    period = method.period or steps // method.units
    return Halving.from_periods(method.first, method.last, period=period, last_period=2 * period)

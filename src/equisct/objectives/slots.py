"""The slots of the consistency template that are not levels, distances or weightings: velocity, step, bootstrap.

`velocity(x, z, x_t, pair) -> velocity` says where the small step's direction comes from, `step(x_t, velocity, pair) ->
x_r` takes it, and `bootstrap(cm) -> cm` gives the map that judges its end.
"""

from collections.abc import Callable
from typing import TypeAlias

from .._tree import cut
from .._types import Sample
from ..diffusion import euler_step
from ..discretization import LevelPair
from ..model import ConsistencyModel

Velocity: TypeAlias = Callable[..., Sample]
Stepper: TypeAlias = Callable[..., Sample]
Bootstrap: TypeAlias = Callable[..., ConsistencyModel]


def one_sample_velocity(x: Sample, z: Sample, x_t: Sample, pair: LevelPair) -> Sample:
    """Consistency training's unbiased estimate of the PF-ODE's velocity: the noise `z` of this very sample."""
    return z


def straight_step(x_t: Sample, velocity: Sample, pair: LevelPair) -> Sample:
    """An Euler step from `t` to `r`; with the one-sample velocity it ends at `x + r z`."""
    return euler_step(x_t, velocity, pair.t, pair.r)


def same_weights(cm: ConsistencyModel) -> ConsistencyModel:
    """The current weights, cut (improved consistency training has no moving-average teacher)."""
    return cut(cm)

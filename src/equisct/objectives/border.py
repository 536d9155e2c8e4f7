"""What is seen before training: whether the data set that an objective holds has the scale that the model is for."""

import warnings

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import PyTree

from ..oracle import Empirical
from .velocity import ReferenceVelocity

UNSCALED = 30.0
"""Times `sigma_data` that a sample's root mean square may be before somebody is warned: images in [0, 255] have 250."""
FIRST = 64
"""Points of a data set that are looked at."""


def warn_of_scale(held: PyTree, model: PyTree) -> None:
    """Warns of a data set in `held`, as a `DenoiserVelocity` holds one, that is far larger than the model's data.

    What is closer to them in scale, such as images in [0, 1] beside batches in [-1, 1], is not noticed.
    """
    expected = getattr(getattr(model, "preconditioning", None), "sigma_data", None)
    if expected is None:
        return
    for node in jax.tree.leaves(held, is_leaf=lambda node: isinstance(node, Empirical | ReferenceVelocity)):
        points = getattr(node, "points", None)
        if points is None or isinstance(points, Tracer) or not getattr(points, "is_fully_addressable", True):
            continue
        with jax.ensure_compile_time_eval():
            size = float(jnp.sqrt(jnp.mean(jnp.square(points[:FIRST]))))
        if size > UNSCALED * expected:
            warnings.warn(
                f"points: expected a data set of the batches' scale, near sigma_data = {expected:g}, found a root mean "
                f"square of {size:.4g}; images in [0, 255] become x / 127.5 - 1, as the batches",
                stacklevel=2,
            )

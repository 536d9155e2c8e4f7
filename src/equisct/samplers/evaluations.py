"""Counting: how often a sampler evaluates its model (NFE), read from the program it traces to, not from a formula."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr

from .._base.types import Denoiser, Level

_NAME = "equisct_counted_evaluation"


def count_evaluations(sampler: Callable[[Denoiser], Any]) -> int:
    """The number of evaluations per sample: `count_evaluations(lambda denoise: heun(denoise, jnp.zeros(2)))` is 35.

    Nothing is computed. Evaluations inside `scan` count once per turn.

    Args:
        sampler: what samples when it is given a model `(x_t, sigma) -> sample`.

    Raises:
        ValueError: if an evaluation lies in a loop of unknown length or in a branch.
    """

    def evaluation(x_t: Array, sigma: Level) -> Array:
        return x_t * 1.0

    evaluation.__name__ = _NAME
    counted = jax.jit(evaluation, inline=False)
    return _count(jax.make_jaxpr(lambda: sampler(counted))().jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.params.get("name") == _NAME:
            total += 1
            continue
        leaves = jax.tree.leaves(equation.params)
        inner = [leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf for leaf in leaves]
        inside = sum(_count(leaf) for leaf in inner if isinstance(leaf, Jaxpr))
        if inside and equation.primitive.name in ("while", "cond"):
            raise ValueError(f"sampler: expected evaluations outside {equation.primitive.name}, found {inside} in one")
        total += inside * equation.params.get("length", 1)
    return total

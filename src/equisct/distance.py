"""Distances between two samples: non-negative, symmetric, zero for equal samples, with a gradient of 0 there.

Notation: residual `D = a - b` with `d` elements. A pseudo-Huber distance is quadratic in small residuals and linear
in large ones; its constant says where it turns. Which pseudo-Huber: the score-guided paper (eq. 12) takes it *element
by element*, averages, and sets c = 0.003 (`PseudoHuber`). iCT takes one of the *norm* of the whole residual, with
C = 0.00054 sqrt(d), 0.03 for CIFAR-10 (`PseudoHuberNorm`). The two constants do not compare: iCT's 0.03 turns at
0.00054 per element, so the paper's 0.003 is 5.6 times larger, not 10 times smaller.
"""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ._base.check import check_positive
from ._base.defaults import HEAD_WEIGHT
from ._base.types import Sample, Scalar


class AbstractDistance(eqx.Module):
    """Two samples of one shape -> scalar."""

    @abc.abstractmethod
    def __call__(self, a: Sample, b: Sample) -> Scalar:
        """The distance between `a` and `b`."""

    def balanced_head_weight(self, size: int) -> float | None:
        """The head's weight that keeps the paper's balance of the two losses, for samples of `size` elements.

        0.3 belongs to `PseudoHuber`, whose gradient's norm is below 1 / sqrt(size); the weight grows with that ceiling.
        None: no weight follows from the ceiling (`SquaredL2`, `L1`, `Perceptual`, one of your own), tune it.
        """


def _pseudo_huber(square: Array, c: float) -> Array:
    return square / (jnp.sqrt(square + c**2) + c)  # sqrt(s + c^2) - c would cancel


class PseudoHuber(AbstractDistance):
    """`mean_i(sqrt(D_i^2 + c^2) - c)`: element by element (paper eq. 12), averaged as in the authors' code.

    Below the mean absolute residual, to which it tends for residuals far above `c`; its gradient's norm is below
    1 / sqrt(d). Not iCT's form: see the module's text.

    Args:
        c: the residual, in units of the data, at which it turns from quadratic to linear; > 0.
    """

    c: float = 0.003

    def __check_init__(self) -> None:
        check_positive("c", self.c)

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        return jnp.mean(_pseudo_huber(jnp.square(a - b), self.c))

    def balanced_head_weight(self, size: int) -> float:
        """The paper's."""
        del size
        return HEAD_WEIGHT


class PseudoHuberRMS(AbstractDistance):
    """iCT's distance divided by sqrt(d): `(sqrt(sum_i D_i^2 + C^2) - C) / sqrt(d)`, `C = c_per_root_dim sqrt(d)`.

    It has iCT's shape and `PseudoHuber`'s scale (gradient's norm below 1 / sqrt(d)), so the head's weight carries over.
    The constant is one for images, d about 3000; in a few dimensions it biases the map: enlarge it or take `SquaredL2`.

    Args:
        c_per_root_dim: the root mean square residual at which it turns from quadratic to linear; > 0.
    """

    c_per_root_dim: float = 0.00054

    def __check_init__(self) -> None:
        check_positive("c_per_root_dim", self.c_per_root_dim)

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        return _pseudo_huber(jnp.mean(jnp.square(a - b)), self.c_per_root_dim)

    def balanced_head_weight(self, size: int) -> float:
        """The paper's."""
        del size
        return HEAD_WEIGHT


class PseudoHuberNorm(AbstractDistance):
    """iCT's distance as printed: `sqrt(sum_i D_i^2 + C^2) - C`, `C = c_per_root_dim sqrt(d)` (Song & Dhariwal 2024).

    It is sqrt(d) times `PseudoHuberRMS`, its gradient's norm is below 1, and beside a score head of weight 0.3 it
    drowns the head's loss: `balanced_head_weight` gives the weight that does not.

    Args:
        c_per_root_dim: the root mean square residual at which it turns from quadratic to linear; > 0.
    """

    c_per_root_dim: float = 0.00054

    def __check_init__(self) -> None:
        check_positive("c_per_root_dim", self.c_per_root_dim)

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        return _pseudo_huber(jnp.sum(jnp.square(a - b)), self.c_per_root_dim * math.sqrt(a.size))

    def balanced_head_weight(self, size: int) -> float:
        """The paper's times sqrt(d), by which this distance is larger."""
        return HEAD_WEIGHT * math.sqrt(size)


class SquaredL2(AbstractDistance):
    """`mean_i(D_i^2)`: a mean over elements, as in the codes of consistency models, not the norm's square."""

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        return jnp.mean(jnp.square(a - b))


class L1(AbstractDistance):
    """`mean_i(|D_i|)`: a mean over elements, not a sum."""

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        residual = a - b
        return jnp.mean(residual * jnp.sign(residual))  # the gradient of jnp.abs at 0 is 1


class Perceptual(AbstractDistance):
    """A distance between features instead of samples: the mean over the arrays that `features` returns.

    Args:
        features: one sample -> any tree of floating-point arrays, such as the activations of a frozen network.
        distance: how each of them is compared.
    """

    features: Callable[[Array], Any]
    distance: AbstractDistance

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        of_a, of_b = jax.tree.leaves(self.features(a)), jax.tree.leaves(self.features(b))
        if not of_a:
            raise ValueError("features: expected at least one array, found an empty tree")
        distances = [self.distance(x, y) for x, y in zip(of_a, of_b, strict=True)]
        return jnp.mean(jnp.stack(distances))

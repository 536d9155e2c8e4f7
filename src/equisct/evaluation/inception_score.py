"""The Inception score of a classifier's probabilities (Salimans et al. 2016)."""

import numpy as np
from jax import Array
from jaxtyping import Float

from .spread import Spread, spread


def inception_score(probabilities: Float[Array | np.ndarray, "n classes"], *, splits: int = 10) -> Spread:
    """`exp(mean KL(p(y | x) || p(y)))` of each split in order, between 1 and the number of classes: mean and spread.

    The spread divides by `splits - 1`, as everywhere here; the original code divides by `splits`: for ten, 0.95 of it.

    Args:
        probabilities: rows that add up to 1; of Inception's logits with or without their bias, which are two different
            scores: say which.
        splits: equal parts in which `p(y)` is taken; a remainder is left out.

    Raises:
        ValueError: for rows that are no probabilities, or fewer rows than splits.
    """
    probabilities = np.asarray(probabilities)
    sums = probabilities.sum(1)
    if probabilities.size == 0 or probabilities.min() < 0 or not np.allclose(sums, 1, atol=1e-4):
        raise ValueError(f"probabilities: expected rows >= 0 that add up to 1, found {probabilities.shape}")
    if not 1 <= splits <= len(probabilities):
        raise ValueError(f"splits: expected 1 to the {len(probabilities)} rows, found {splits}")
    size = len(probabilities) // splits
    rows = probabilities[: splits * size].astype(np.float64).reshape(splits, size, -1)
    rows = rows / rows.sum(2, keepdims=True)
    marginal = rows.mean(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(rows > 0, rows * (np.log(rows) - np.log(marginal)), 0.0)
    return spread(np.exp(terms.sum(2).mean(1)))

"""The Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017; FID: Inception's)."""

import numpy as np
from jaxtyping import Float


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """`|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2))`, in float64, >= 0.

    The root is taken of symmetric matrices alone, by their eigenvalues. The distance of two samples of one law is above
    0 by about the trace of its covariance times `1 / n + 1 / m`, so compare only sets of equal sizes.

    Args:
        a: features of the first set, at least two rows.
        b: features of the second.

    Raises:
        ValueError: for fewer than two rows, another number of columns, or numbers that are not finite.
    """
    for name, features in (("a", a), ("b", b)):
        if len(features) < 2 or features.shape[1] != a.shape[1] or not np.isfinite(features).all():
            raise ValueError(
                f"{name}: expected two or more rows of {a.shape[1]} finite features, found {features.shape}"
            )
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b)]
    root = _root(covariances[0])
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return max(float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross), 0.0)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

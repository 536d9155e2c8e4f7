"""The Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017; FID: Inception's)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.concrete import in_line


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMoments:
    """What a Fréchet distance needs of a set of features.

    Two are added where each is of a part of the set, on other devices or processes say (Chan, Golub & LeVeque 1979).

    Attributes:
        count: rows seen, >= 1.
        mean: their mean, float64 (d,).
        scatter: the sum over rows of the outer product of the deviation from the mean, float64 (d, d).
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def from_features(cls, features: Float[Array | np.ndarray, "n d"]) -> "FeatureMoments":
        """The moments of one batch.

        Raises:
            ValueError: for no rows, or numbers that are not finite.
        """
        features = np.asarray(features)
        if not len(features) or not np.isfinite(features).all():
            bad = int(np.sum(~np.isfinite(features).all(1)))
            found = f"{features.shape}, {bad} not finite"
            raise ValueError(f"features: expected one or more rows of finite numbers, found {found}")
        rows = features.astype(np.float64)
        mean = rows.mean(0)
        return cls(len(rows), mean, (rows - mean).T @ (rows - mean))

    def __add__(self, other: "FeatureMoments") -> "FeatureMoments":
        """The moments of both sets together.

        Raises:
            ValueError: if they are of another number of features.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"moments: expected {len(self.mean)} features, found {len(other.mean)}")
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return FeatureMoments(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased: divided by `count - 1`.

        Raises:
            ValueError: for a single row.
        """
        if self.count < 2:
            raise ValueError(f"moments: expected two or more rows, found {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(
    a: Float[Array | np.ndarray, "n d"] | FeatureMoments, b: Float[Array | np.ndarray, "m e"] | FeatureMoments
) -> float:
    """`|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2))`, in float64, >= 0.

    The root is taken of symmetric matrices alone, by their eigenvalues, so it is real and covariances without full rank
    do no harm. The distance of two samples of one law is above 0 by about the trace of its covariance times
    `1 / n + 1 / m`, so compare only sets of equal sizes, or see `frechet_at_infinity`.

    Args:
        a: the first set, at least two rows, or its moments.
        b: the second.

    Raises:
        ValueError: for fewer than two rows, another number of columns, or numbers that are not finite.
    """
    first, second = (_moments(name, side) for name, side in (("a", a), ("b", b)))
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"b: expected {len(first.mean)} features, found {len(second.mean)}")
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second.covariance @ root), 0)).sum()
    apart = np.square(first.mean - second.mean).sum()
    return max(float(apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross), 0.0)


def frechet_at_infinity(
    data: Float[Array | np.ndarray, "n d"] | FeatureMoments,
    samples: Float[Array | np.ndarray, "m e"],
    *,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
) -> float:
    """What the Fréchet distance tends to with the number of samples, by a line in `1 / n` (Chong & Forsyth 2020).

    Distances of subsets fall in `1 / n` to leading order; the line's value at 0 is the answer, and may be below 0.

    Args:
        data: the set held against, or its moments; its own size is not extrapolated.
        samples: features of all samples.
        sizes: of the subsets, two or more different ones; default 15 from a tenth of the samples to all of them.
        seed: of the choice of subsets.

    Raises:
        ValueError: for sizes below 2 or beyond the samples, or all equal; as `frechet_distance`.
    """
    samples, n = np.asarray(samples), len(samples)
    chosen = np.linspace(max(n // 10, 2), n, 15).astype(int) if sizes is None else np.array(sizes)
    if len(np.unique(chosen)) < 2 or chosen.min() < 2 or chosen.max() > n:
        raise ValueError(f"sizes: expected different numbers from 2 to the {n} samples, found {in_line(chosen)}")
    reference, draw = _moments("data", data), np.random.default_rng(seed)
    found = [frechet_distance(reference, samples[draw.permutation(n)[:size]]) for size in chosen]
    return float(np.polyfit(1 / chosen, found, 1)[1])


def _moments(name: str, side: Array | np.ndarray | FeatureMoments) -> FeatureMoments:
    try:
        found = side if isinstance(side, FeatureMoments) else FeatureMoments.from_features(side)
        found.covariance  # noqa: B018  (of a single row there is none)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return found

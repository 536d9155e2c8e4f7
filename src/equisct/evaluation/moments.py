"""Mean and covariance of features in float64, taken batch by batch and merged in any order."""

import dataclasses

import numpy as np
from jaxtyping import Float


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
    def from_features(cls, features: Float[np.ndarray, "n d"]) -> "FeatureMoments":
        """The moments of one batch.

        Raises:
            ValueError: for no rows, or numbers that are not finite.
        """
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

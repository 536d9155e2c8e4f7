"""Count, mean and variance of a stream of numbers, stored and restored to the last bit."""

import math
from collections.abc import Mapping
from typing import Any


class Moments:
    """Count, mean and variance of a stream of numbers, by Welford's updates (1962) in float64.

    Numbers that are not finite are counted apart. Sound for magnitudes below 1e150, whose squares are finite.
    """

    def __init__(self) -> None:
        self.count = 0
        self.nonfinite = 0
        self._mean = self._m2 = 0.0

    def add(self, value: float) -> None:
        """Takes one number in."""
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        self.count += 1
        deviation = float(value) - self._mean
        self._mean += deviation / self.count
        self._m2 += deviation * (float(value) - self._mean)

    @property
    def mean(self) -> float | None:
        """The mean of the finite numbers, None if there is none."""
        return self._mean if self.count else None

    @property
    def variance(self) -> float | None:
        """Their variance as a population (divided by the count), None if there is none."""
        return self._m2 / self.count if self.count else None

    @property
    def std(self) -> float | None:
        """The root of the variance."""
        return math.sqrt(self._m2 / self.count) if self.count else None

    @property
    def cv(self) -> float | None:
        """The coefficient of variation, `std / |mean|`; None if there is no mean or it is 0."""
        return math.sqrt(self._m2 / self.count) / abs(self._mean) if self.count and self._mean else None

    def to_json(self) -> dict[str, Any]:
        """The state, exactly."""
        return {"count": self.count, "nonfinite": self.nonfinite, "mean": self._mean, "m2": self._m2}

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "Moments":
        """The moments with a state that `to_json` gave.

        Raises:
            ValueError: if the fields are others.
        """
        check_fields("moments", state, {"count", "nonfinite", "mean", "m2"})
        moments = Moments()
        moments.count, moments.nonfinite = state["count"], state["nonfinite"]
        moments._mean, moments._m2 = state["mean"], state["m2"]
        return moments


def check_fields(name: str, state: Mapping[str, Any], expected: set[str]) -> None:
    """Raises `ValueError` unless a stored state has these fields."""
    if set(state) != expected:
        raise ValueError(f"{name}: expected the fields {sorted(expected)}, found {sorted(state)}")

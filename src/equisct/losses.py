"""The two losses of one sample: predictions in, scalar out, nothing random."""

from ._base.types import Sample, Scalar
from .distance import AbstractDistance, SquaredL2


def consistency_loss(student: Sample, teacher: Sample, weight: Scalar, distance: AbstractDistance) -> Scalar:
    """`weight * distance(student, teacher)` (paper eq. 4); the caller cuts the teacher."""
    return weight * distance(student, teacher)


def denoising_loss(denoised: Sample, x: Sample, weight: Scalar) -> Scalar:
    """`weight * mean((denoised - x)^2)` (paper eq. 11, mean over elements as in the authors' code)."""
    return weight * SquaredL2()(denoised, x)

"""The variance-exploding diffusion `x_t = x + sigma z` and its probability-flow ODE, on one sample.

Notation: `x` clean sample, `z` unit Gaussian noise, `sigma` noise level and only clock, `denoised` = E[x | x_t],
`score` = grad log p_sigma(x_t) = (denoised - x_t) / sigma^2.
"""

from ._base.types import Denoiser, Level, Sample


def perturb(x: Sample, z: Sample, sigma: Level) -> Sample:
    """`x_t = x + sigma z` (Song et al. 2023, eq. 5)."""
    return x + sigma * z


def score_from_denoised(denoised: Sample, x_t: Sample, sigma: Level) -> Sample:
    """Tweedie's formula (paper eq. 3): `(denoised - x_t) / sigma^2`."""
    return (denoised - x_t) / sigma**2


def denoised_from_score(score: Sample, x_t: Sample, sigma: Level) -> Sample:
    """Tweedie's formula, the other way: `x_t + sigma^2 score`."""
    return x_t + sigma**2 * score


def pf_drift(denoised: Sample, x_t: Sample, sigma: Level) -> Sample:
    """The PF-ODE's right-hand side (paper eq. 1): `dx_t / dsigma = -sigma score = (x_t - denoised) / sigma`."""
    return (x_t - denoised) / sigma


def euler_step(x_t: Sample, velocity: Sample, t: Level, r: Level) -> Sample:
    """One explicit Euler step of the PF-ODE from level `t` to level `r`: `x_r = x_t + (r - t) velocity`."""
    return x_t + (r - t) * velocity


def heun_step(denoise: Denoiser, x_t: Sample, t: Level, r: Level) -> Sample:
    """One Heun (second-order) step of the PF-ODE from level `t` to level `r > 0` (Karras et al. 2022, Algorithm 1)."""
    velocity_t = pf_drift(denoise(x_t, t), x_t, t)
    x_r = euler_step(x_t, velocity_t, t, r)
    velocity_r = pf_drift(denoise(x_r, r), x_r, r)
    return euler_step(x_t, (velocity_t + velocity_r) / 2, t, r)

"""Conditions at sampling time: a model under one, and guidance, which exaggerates what a condition changes.

Every function takes a posterior mean `(x_t, sigma) -> denoised` of one sample and gives another, which any sampler and
`solve_pf_ode` take. `Conditioned` and `Guided` are the same for samplers that take a model.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from ._base.concrete import check_answer, check_array, concrete, one_number
from ._base.types import Denoiser, Level, Sample
from .diffusion import score_from_denoised

Interval = tuple[float, float]
"""Lowest and highest level, both included."""


def guided(denoise: Denoiser, other: Denoiser, scale: Level, *, interval: Interval | None = None) -> Denoiser:
    """`other + scale (denoise - other)`: a scale of 1 is `denoise` itself, more leads away from `other`.

    With `other` the same model under no condition this is classifier-free guidance (Ho & Salimans 2022), with a smaller
    or earlier model autoguidance (Karras et al. 2024). The guided mean is that of no law: samples get more alike.

    Args:
        denoise: posterior mean under the condition.
        other: what to lead away from.
        scale: >= 0; 0 is `other`.
        interval: levels at which to guide (Kynkäänniemi et al. 2024); elsewhere `denoise` itself. Default: all.

    Raises:
        ValueError: if the scale, known before tracing, is negative or not finite, or the interval is empty.
    """
    _check_scale(scale)
    _check_interval(interval)

    def guided_denoise(x_t: Sample, sigma: Level) -> Array:
        denoised = check_answer("denoise", denoise(x_t, sigma), x_t)
        away = denoised - check_answer("other", other(x_t, sigma), x_t)
        strength = jnp.asarray(scale, denoised.dtype) - 1
        if interval is not None:
            low, high = interval
            strength = jnp.where((low <= jnp.asarray(sigma)) & (jnp.asarray(sigma) <= high), strength, 0)
        return denoised + strength * away

    return guided_denoise


def classifier_guided(denoise: Denoiser, log_prob: Callable[[Array, Level], Array], scale: Level = 1.0) -> Denoiser:
    """`denoise + scale sigma^2 grad log p(c | x_t)`: a condition by a classifier of noisy samples.

    With the exact `log p(c | x_t)` and scale 1 this is the posterior mean under the condition (Dhariwal & Nichol 2021).

    Args:
        denoise: posterior mean without the condition.
        log_prob: `(x_t, sigma) -> log p(c | x_t)`, one number, up to a constant; differentiated with respect to `x_t`.
        scale: >= 0.

    Raises:
        ValueError: if the scale, known before tracing, is negative or not finite.
    """
    _check_scale(scale)

    def guided_denoise(x_t: Sample, sigma: Level) -> Array:
        x_t = jnp.asarray(x_t)
        toward = jax.grad(lambda x_t: one_number("log_prob", log_prob(x_t, sigma)))(x_t)
        return check_answer("denoise", denoise(x_t, sigma), x_t) + jnp.asarray(scale * sigma**2, x_t.dtype) * toward

    return guided_denoise


class Conditioned(eqx.Module):
    """A model under one condition: its methods are the model's, as samplers want them, `(x_t, sigma) -> sample`.

    Args:
        model: with methods `endpoint` or `denoise` that take `condition`, such as a `ScoreGuidedModel`.
        condition: any pytree that the model's network takes; None for no condition.
    """

    model: PyTree
    condition: PyTree

    def endpoint(self, x_t: Sample, sigma: Level) -> Array:
        """Where the PF-ODE's path through `x_t` ends, under the condition."""
        return self.model.endpoint(x_t, sigma, condition=self.condition)

    def denoise(self, x_t: Sample, sigma: Level) -> Array:
        """The posterior mean under the condition."""
        return self.model.denoise(x_t, sigma, condition=self.condition)

    def score(self, x_t: Sample, sigma: Level) -> Array:
        """The score of the noised law under the condition."""
        return score_from_denoised(self.denoise(x_t, sigma), x_t, sigma)


class Guided(eqx.Module):
    """A diffusion model by `guided`, for samplers that take a model: `Guided(Conditioned(model, 7), model, 2.0)`.

    Args:
        model: with a method `denoise`.
        other: with a method `denoise`: what to lead away from.
        scale: >= 0.
        interval: levels at which to guide; default all.
    """

    model: PyTree
    other: PyTree
    scale: Level
    interval: Interval | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _check_scale(self.scale)
        _check_interval(self.interval)

    def denoise(self, x_t: Sample, sigma: Level) -> Array:
        """The guided posterior mean."""
        return guided(self.model.denoise, self.other.denoise, self.scale, interval=self.interval)(x_t, sigma)


def _check_scale(scale: Level) -> None:
    check_array("scale", scale)
    found = concrete(scale)
    if found is not None and found < 0:
        raise ValueError(f"scale: expected a number >= 0, found {found}")


def _check_interval(interval: Interval | None) -> None:
    if interval is not None and not (0 <= interval[0] < interval[1] and not math.isnan(interval[1])):
        raise ValueError(f"interval: expected a level and a higher one, found {interval}")

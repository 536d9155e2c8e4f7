"""Small models and stubs that several test files share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from equisct import (
    BoundaryPreconditioning,
    ConsistencyModel,
    Scalings,
    ScoreGuidedModel,
    ScoreHead,
)
from equisct.nn import HeadMLP, HeadUNet, TorsoMLP, TorsoOutput, ncsnpp
from equisct.preconditioning import AbstractPreconditioning

BOUNDARY = BoundaryPreconditioning(sigma_data=0.5, sigma_min=0.002)
UNET = {"channels": 1, "resolution": 4, "width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}


def in_float64(model: Any) -> Any:
    """The model with every float array in float64, for laws that only rounding hides; inside `x64`."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, model)


def mlp_pair(seed: int = 0, **head_options) -> ScoreGuidedModel:
    """A pair for vectors of two numbers."""
    cm_key, head_key = jr.split(jr.key(seed))
    cm = ConsistencyModel(TorsoMLP(2, 8, depth=1, key=cm_key), BOUNDARY)
    return ScoreGuidedModel(cm, ScoreHead(HeadMLP(2, 8, depth=1, key=head_key), BOUNDARY, **head_options))


def unet_pair(seed: int = 0, *, dropout: float = 0.5, **head_options) -> ScoreGuidedModel:
    """A pair for 1x4x4 images whose output layers are not near zero, so that every gradient is visible."""
    cm_key, head_key = jr.split(jr.key(seed))
    head = HeadUNet(**UNET, torso_channels=4, torso_embedding=16, key=head_key)
    model = ScoreGuidedModel(
        ConsistencyModel(ncsnpp(**UNET, dropout=dropout, key=cm_key), BOUNDARY),
        ScoreHead(head, BOUNDARY, **head_options),
    )
    enlarged = lambda m: (m.cm.torso.body.out.weight, m.head.network.body.out.weight)
    return eqx.tree_at(enlarged, model, replace_fn=lambda w: 1e5 * w)


class Raw(AbstractPreconditioning):
    """No preconditioning: the network sees `x_t` and sigma, and its output is the answer."""

    def scalings(self, sigma):
        one = jnp.ones_like(jnp.asarray(sigma, float))
        return Scalings(skip=0 * one, out=one, input=one, noise=one * sigma)


class Function(eqx.Module):
    """A torso that is a plain function `(x_t, sigma, key) -> raw`, scaled by one trainable number."""

    function: Any = eqx.field(static=True)
    scale: jax.Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def __call__(self, x, c_noise, *, key=None):
        raw = self.scale * self.function(x, c_noise, key)
        return TorsoOutput(raw=raw, features=raw.reshape(1, -1), embedding=raw.reshape(-1)[:1])


class Answer(eqx.Module):
    """A head network that is a plain function `(x_t, sigma) -> raw`."""

    function: Any = eqx.field(static=True)

    def __call__(self, x, endpoint, features, embedding, c_noise, *, key=None):
        return self.function(x, c_noise)


def function_cm(function) -> ConsistencyModel:
    """A consistency model whose endpoint is `function(x_t, sigma, key)`."""
    return ConsistencyModel(Function(function), Raw())


def function_pair(endpoint, denoise) -> ScoreGuidedModel:
    """A pair made of two plain functions."""
    return ScoreGuidedModel(function_cm(endpoint), ScoreHead(Answer(denoise), Raw()))

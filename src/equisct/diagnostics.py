"""How far a trained model is from the truth, where the truth is known: against a closed-form law and its PF-ODE."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float

from ._types import Key
from .diffusion import perturb
from .oracle import AbstractOracle
from .pf_ode import solve_pf_ode


class Agreement(eqx.Module):
    """Distances (Euclidean, in data units) of a model from the truth at each level: root mean square and median.

    `endpoint_*` compare the model's endpoint with where the diffrax solution of the PF-ODE under the exact denoiser
    ends; `denoised_*` compare its denoiser with the exact posterior mean.
    """

    levels: Float[Array, " levels"]
    endpoint_rms: Float[Array, " levels"]
    endpoint_median: Float[Array, " levels"]
    denoised_rms: Float[Array, " levels"]
    denoised_median: Float[Array, " levels"]


def _distances(a: Float[Array, "n *shape"], b: Float[Array, "n *shape"]) -> tuple[Array, Array]:
    squares = jax.numpy.square(a - b).reshape(len(a), -1).sum(1)
    return jax.numpy.sqrt(squares.mean()), jax.numpy.sqrt(jax.numpy.median(squares))


@eqx.filter_jit
def measure_agreement(
    model: Any, oracle: AbstractOracle, levels: Float[Array, " levels"], *, samples: int, sigma_min: float, key: Key
) -> Agreement:
    """Agreement of a `ScoreGuidedModel` with an oracle on `samples` points `x + sigma z` per level.

    The endpoint of a consistency model is the path's state at `sigma_min`, so that is where the reference stops.

    Args:
        model: has `endpoint` and `denoise`, `(x_t, sigma) -> sample`.
        oracle: the law that the model was trained on.
        levels: noise levels to compare at, > `sigma_min`.
        samples: points per level, shared noise over the levels.
        sigma_min: the model's lowest level.
        key: for the points.
    """
    x_key, z_key = jr.split(key)
    x = jax.vmap(lambda k: oracle.sample(key=k))(jr.split(x_key, samples))
    z = jr.normal(z_key, x.shape)

    def at(sigma: Array) -> tuple[Array, Array, Array, Array]:
        x_t = perturb(x, z, sigma)
        reference = jax.vmap(lambda x_t: solve_pf_ode(oracle.denoise, x_t, sigma, sigma_min))(x_t)
        endpoint = jax.vmap(lambda x_t: model.endpoint(x_t, sigma))(x_t)
        mean = jax.vmap(lambda x_t: oracle.denoise(x_t, sigma))(x_t)
        denoised = jax.vmap(lambda x_t: model.denoise(x_t, sigma))(x_t)
        return *_distances(endpoint, reference), *_distances(denoised, mean)

    return Agreement(levels, *jax.lax.map(at, levels))


def format_agreement(agreement: Agreement) -> str:
    """The agreement as a table for people, one line per level."""
    head = f"{'sigma':>9} | {'endpoint rms':>12} {'median':>9} | {'denoised rms':>12} {'median':>9}"
    rows = zip(*(getattr(agreement, field).tolist() for field in agreement.__dataclass_fields__), strict=True)
    lines = [f"{s:9.3f} | {a:12.4f} {b:9.4f} | {c:12.4f} {d:9.4f}" for s, a, b, c, d in rows]
    return "\n".join([head, "-" * len(head), *lines])

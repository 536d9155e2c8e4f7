"""How far a trained model is from the truth, where the truth is known: against a closed-form law and its PF-ODE."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.types import Key
from ..diffusion import perturb
from ..oracle import AbstractOracle
from ..pf_ode import solve_pf_ode


class Agreement(eqx.Module):
    """Distances (Euclidean, in data units) of a model from the truth at each level: root mean square and median.

    `endpoint_*` compare the model's endpoint with where the diffrax solution of the PF-ODE under the exact denoiser
    ends; `denoised_*` compare its denoiser with the exact posterior mean. None where the model has none of the two.
    """

    levels: Float[Array, " levels"]
    endpoint_rms: Float[Array, " levels"] | None
    endpoint_median: Float[Array, " levels"] | None
    denoised_rms: Float[Array, " levels"] | None
    denoised_median: Float[Array, " levels"] | None


def _distances(a: Float[Array, "n *shape"], b: Float[Array, "n *shape"]) -> tuple[Array, Array]:
    squares = jax.numpy.square(a - b).reshape(len(a), -1).sum(1)
    return jax.numpy.sqrt(squares.mean()), jax.numpy.sqrt(jax.numpy.median(squares))


@eqx.filter_jit
def measure_agreement(
    model: PyTree, oracle: AbstractOracle, levels: Float[Array, " levels"], *, samples: int, sigma_min: float, key: Key
) -> Agreement:
    """Agreement of a model with an oracle on `samples` points `x + sigma z` per level.

    The endpoint of a consistency model is the path's state at `sigma_min`, so that is where the reference stops.

    Args:
        model: has `endpoint`, `denoise`, or both, `(x_t, sigma) -> sample`.
        oracle: the law that the model was trained on.
        levels: noise levels to compare at, > `sigma_min`.
        samples: points per level, shared noise over the levels.
        sigma_min: the model's lowest level.
        key: for the points.
    """
    x_key, z_key = jr.split(key)
    x = jax.vmap(lambda k: oracle.sample(key=k))(jr.split(x_key, samples))
    z = jr.normal(z_key, x.shape, x.dtype)

    def compare(name: str, truth: Callable[[Array], Array], x_t: Array, sigma: Array) -> tuple[Array | None, ...]:
        answer = getattr(model, name, None)
        if answer is None:
            return None, None
        found = jax.vmap(lambda x_t: answer(x_t, sigma))(x_t)
        return _distances(found, jax.vmap(truth)(x_t))

    def at(sigma: Array) -> tuple[Array | None, ...]:
        x_t = perturb(x, z, sigma)
        end = lambda x_t: solve_pf_ode(oracle.denoise, x_t, sigma, sigma_min)
        mean = lambda x_t: oracle.denoise(x_t, sigma)
        return *compare("endpoint", end, x_t, sigma), *compare("denoise", mean, x_t, sigma)

    return Agreement(levels, *jax.lax.map(at, levels))


def format_agreement(agreement: Agreement) -> str:
    """The agreement as a table for people, one line per level."""
    head = f"{'sigma':>9} | {'endpoint rms':>12} {'median':>9} | {'denoised rms':>12} {'median':>9}"
    columns = [getattr(agreement, field) for field in agreement.__dataclass_fields__]
    shown = [
        ["-"] * len(agreement.levels) if column is None else [f"{n:.4f}" for n in column] for column in columns[1:]
    ]
    rows = zip(agreement.levels.tolist(), *shown, strict=True)
    lines = [f"{s:9.3f} | {a:>12} {b:>9} | {c:>12} {d:>9}" for s, a, b, c, d in rows]
    return "\n".join([head, "-" * len(head), *lines])

"""How far a trained model is from the truth, where the truth is known: against a closed-form law and its PF-ODE."""

from collections.abc import Callable

import equinox as eqx
import jax
from jax import Array
from jaxtyping import Float, PyTree

from .._base.types import Key
from ..diffusion import perturb
from ..oracle import AbstractOracle
from ._points import exact_end, lengths, over_levels, rms_and_median


class Agreement(eqx.Module):
    """Distances (Euclidean, in data units) of a model from the truth at each level: root mean square and median.

    `endpoint_*` compare the model's endpoint with where the exact path of the PF-ODE ends; `denoised_*` compare its
    denoiser with the exact posterior mean. None where the model has none of the two.
    """

    levels: Float[Array, " levels"]
    endpoint_rms: Float[Array, " levels"] | None
    endpoint_median: Float[Array, " levels"] | None
    denoised_rms: Float[Array, " levels"] | None
    denoised_median: Float[Array, " levels"] | None


def measure_agreement(
    model: PyTree, oracle: AbstractOracle, levels: Float[Array, " levels"], *, samples: int, sigma_min: float, key: Key
) -> Agreement:
    """Agreement of a model with an oracle on `samples` points `x + sigma z` per level.

    The endpoint of a consistency model is the path's state at `sigma_min`, so that is where the reference stops: the
    oracle's `transport` where it has one, else `solve_pf_ode`. `measure_flow_map` and `measure_denoiser` tell more.

    Args:
        model: has `endpoint`, `denoise`, or both, `(x_t, sigma) -> sample`.
        oracle: the law that the model was trained on.
        levels: noise levels to compare at, > `sigma_min`.
        samples: points per level, shared noise over the levels.
        sigma_min: the model's lowest level.
        key: for the points.

    Raises:
        ValueError: for levels that are not > 0, or no samples.
    """
    at = eqx.Partial(_agreement_at, model, oracle, sigma_min)
    return Agreement(levels, *over_levels(at, oracle, levels, samples=samples, key=key))


def _agreement_at(
    model: PyTree, oracle: AbstractOracle, sigma_min: float, x: Array, z: Array, sigma: Array
) -> tuple[Array | None, ...]:
    x_t = perturb(x, z, sigma)

    def compare(name: str, truth: Callable[[Array], Array]) -> tuple[Array | None, ...]:
        answer = getattr(model, name, None)
        if answer is None:
            return None, None
        return rms_and_median(lengths(jax.vmap(lambda x_t: answer(x_t, sigma) - truth(x_t))(x_t)))

    end = lambda x_t: exact_end(oracle, x_t, sigma, sigma_min)
    mean = lambda x_t: oracle.denoise(x_t, sigma)
    return *compare("endpoint", end), *compare("denoise", mean)


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

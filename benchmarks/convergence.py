"""Do the samplers reach the exact flow at their textbook order, and what does the loss of an exact model measure?

    python benchmarks/convergence.py [PICTURE.png]

Float64. Left: 256 paths of a rotated 5 x 5 mixture (std 0.2) from the top level to 0, root mean square error against
the exact flow map, by the number of steps. Right: the loss (L1, weight 1) of the exact flow map of a Gaussian under
consistency distillation from the exact denoiser and under consistency training, by the intervals of the grid. Printed
too: the orders, from the last three points.
"""

import sys
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.figure import Figure

import equisct as sct

jax.config.update("jax_enable_x64", True)  # noqa: FBT003  (as JAX has it)

KEY = jr.key(0)
STEPS = (32, 64, 128, 256, 512, 1024)
POINTS = (11, 21, 41, 81, 161)
LAW = sct.oracle.ProductMixture.grid(std=0.2, key=KEY)
GAUSSIAN = sct.oracle.Gaussian(0.0, 0.5)


def sampler_errors() -> dict[str, list[float]]:
    """Root mean square error of each sampler at each number of steps."""
    z = jr.normal(KEY, (256, 2))

    def rms(walk: Callable, end: Callable) -> float:
        found, exact = jax.jit(jax.vmap(walk))(z), jax.jit(jax.vmap(end))(z)
        return float(jnp.sqrt(jnp.mean(jnp.square(found - exact))))

    def last(z: jax.Array) -> jax.Array:
        """The exact path to 0.002, then the last step to 0 that every walk on such a grid makes."""
        return LAW.denoise(LAW.transport(80.0 * z, 80.0, 0.002), 0.002)

    found: dict[str, list[float]] = {"Euler": [], "Heun": [], "DDIM": []}
    for steps in STEPS:
        levels = sct.karras_grid(steps)[::-1].copy()
        found["Euler"].append(rms(lambda z, levels=levels: sct.euler(LAW.denoise, z, levels=levels), last))
        found["Heun"].append(rms(lambda z, levels=levels: sct.heun(LAW.denoise, z, levels=levels), last))
        schedule = sct.VPSchedule(times=steps, first=0.1 / steps, last=20 / steps)
        top = float(schedule.sigmas[-1])
        found["DDIM"].append(
            rms(
                lambda z, schedule=schedule, steps=steps: sct.ddim(
                    LAW.denoise, z, times=np.arange(steps), schedule=schedule
                ),
                lambda z, top=top: LAW.transport(z * np.sqrt(1 + top**2), top, 0.0),
            )
        )
    return found


class Exact(eqx.Module):
    """The exact flow map in the place of a consistency model."""

    def __call__(self, x_t: jax.Array, sigma: jax.Array, *, key: jax.Array | None = None) -> sct.Readout:
        del key
        return sct.Readout(GAUSSIAN.transport(x_t, sigma, 0.002), jnp.zeros((1, 1)), jnp.zeros(1))


def losses() -> dict[str, list[float]]:
    """The exact map's loss under each objective at each grid."""
    batch = 0.5 * jr.normal(KEY, (8192, 2))
    plain = {"distance": sct.L1(), "law": sct.Uniform(), "weighting": sct.ConstantWeighting()}
    made = {
        "training (data and noise)": lambda c: sct.ConsistencyTraining(curriculum=c, **plain),
        "distillation, Euler": lambda c: sct.ConsistencyDistillation(
            denoise=GAUSSIAN.denoise, curriculum=c, step=sct.straight_step, **plain
        ),
        "distillation, Heun": lambda c: sct.ConsistencyDistillation(denoise=GAUSSIAN.denoise, curriculum=c, **plain),
    }
    return {
        name: [float(eqx.filter_jit(make(sct.Constant(n)))(Exact(), batch, 0, key=KEY)[0]) for n in POINTS]
        for name, make in made.items()
    }


def main(path: str) -> None:
    """Measures, prints and draws."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, found, counts, labels in (
        (left, sampler_errors(), np.array(STEPS), ("steps", "RMS error of the endpoint")),
        (right, losses(), np.array(POINTS) - 1, ("intervals of the grid", "loss of the exact map")),
    ):
        print(f"| {labels[1]} | {' | '.join(map(str, counts))} | order |\n|---|{'---|' * (len(counts) + 1)}")
        for name, values in found.items():
            order = -np.polyfit(np.log(counts[-3:]), np.log(values[-3:]), 1)[0]
            print(f"| {name} | {' | '.join(f'{value:.2e}' for value in values)} | {order:.2f} |")
            axis.loglog(counts, values, marker="o", markersize=3, label=f"{name}: order {order:.2f}")
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        axis.legend()
        axis.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "convergence.png")

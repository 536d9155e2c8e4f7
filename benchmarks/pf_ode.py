"""Which clock, solver and tolerance solve the PF-ODE best? Each against the exact flow map of a product mixture.

    python benchmarks/pf_ode.py            # float64
    python benchmarks/pf_ode.py float32

Law: 5 x 5 modes with std 0.05 on [-1, 1]^2, rotated; 500 paths from sigma = 80 to 0.002 and 500 back. Printed per row:
mean evaluations of the denoiser, then the error (largest coordinate; back: over 80) as median, 99 % and worst.
"""

import sys

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from equisct.oracle import ProductMixture

# name -> (clock of sigma, sigma of clock, d sigma / d clock as a function of sigma)
CLOCKS = {
    "log sigma": (jnp.log, jnp.exp, lambda sigma: sigma),
    "sigma^(1/7)": (lambda sigma: sigma ** (1 / 7), lambda s: s**7, lambda sigma: 7 * sigma ** (6 / 7)),
    "sigma": (lambda sigma: sigma, lambda s: s, jnp.ones_like),
}
SOLVERS = {"Dopri8": (diffrax.Dopri8(), 13), "Tsit5": (diffrax.Tsit5(), 6)}
ROWS = [
    ("log sigma", False, "Dopri8"),
    ("log sigma", True, "Dopri8"),
    ("sigma^(1/7)", False, "Dopri8"),
    ("sigma", False, "Dopri8"),
    ("log sigma", False, "Tsit5"),
    ("log sigma", True, "Tsit5"),
]
TOLERANCES = {"float64": (1e-7, 1e-9, 1e-10), "float32": (1e-5, 1e-6, 1e-7)}
POINTS = 500


def solve(denoise, x_t, ends, tolerance, *, clock, is_scaled, solver):
    """The state at `ends[1]` and the steps; with `is_scaled` the solver sees `x_t / sqrt(sigma^2 + 1)`."""
    clock_of, sigma_of, rate = CLOCKS[clock]

    def scale(sigma):
        return jnp.sqrt(sigma**2 + 1) if is_scaled else jnp.ones_like(sigma)

    def velocity(s, y, _):
        sigma = sigma_of(s)
        x_t = scale(sigma) * y
        drift = (x_t - denoise(x_t, sigma)) / sigma / scale(sigma)
        return rate(sigma) * (drift - (y * sigma / (sigma**2 + 1) if is_scaled else 0))

    start, end = ends
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        clock_of(start),
        clock_of(end),
        None,
        x_t / scale(start),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        throw=False,
    )
    states = solution.ys
    assert states is not None
    return scale(end) * states[-1], solution.stats["num_steps"]


def main(precision="float64"):
    exact_law = ProductMixture.grid(2, 5, 0.05, key=jr.key(1))
    law = jax.tree.map(lambda leaf: jnp.asarray(leaf, precision), exact_law)
    noise = 80 * jr.normal(jr.key(3), (POINTS, 2)).astype(precision)
    data = jax.vmap(lambda key: exact_law.sample(key=key))(jr.split(jr.key(0), POINTS)).astype(precision)
    transport = jax.jit(jax.vmap(exact_law.transport, (0, None, None)))
    tasks = []
    for x_t, t, r in ((noise, 80.0, 0.002), (data, 0.002, 80.0)):
        tasks.append((x_t, jnp.array([t, r], precision), transport(x_t.astype(float), t, r), max(1, r)))
    for clock, is_scaled, name in ROWS:
        solver, stages = SOLVERS[name]

        def solve_all(x_t, ends, tolerance, clock=clock, is_scaled=is_scaled, solver=solver):
            arguments = {"clock": clock, "is_scaled": is_scaled, "solver": solver}
            return jax.vmap(lambda x_t: solve(law.denoise, x_t, ends, tolerance, **arguments))(x_t)

        run = jax.jit(solve_all)
        for tolerance in TOLERANCES[precision]:
            cells = [f"{clock:12s} {'scaled' if is_scaled else 'plain':6s} {name:6s} {tolerance:.0e}"]
            for x_t, ends, expected, unit in tasks:
                found, steps = run(x_t, ends, tolerance)
                error = np.abs(found.astype(float) - expected).max(axis=1) / unit
                quantiles = " ".join(f"{np.quantile(error, q):.1e}" for q in (0.5, 0.99, 1))
                cells.append(f"{stages * float(steps.mean()):4.0f} {quantiles}")
            print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    with jax.enable_x64(True):  # noqa: FBT003  (its only argument)
        main(*sys.argv[1:])

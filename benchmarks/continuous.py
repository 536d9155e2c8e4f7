"""What lets sCT train: its aids one by one, where the flow map is known.

python benchmarks/continuous.py [--on plane|line] [--updates N] [--seeds N] [--write]

On the `plane`, the mixture of the preset `toy-sct` with its network and law, every aid; on the `line`, two modes and a
small network, long runs under the exact velocity and under one-sample noise. Each run is one compiled loop on one core.
Shown is the root-mean-square error of the endpoint at four levels, by the average of decay 0.98 at the end; `--write`
puts the table into docs/methods.md.
"""

import argparse
import dataclasses
import functools
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import equisct as sct
from equisct import nn
from reproduction import spread

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "methods.md"
RATE, DECAY = 2e-3, 0.98
LEVELS = (0.2, 1.0, 5.0, 80.0)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of training: sCT's aids, and the scale of the Fourier features of the level."""

    tangent_c: float | None = 0.1
    learned_weight: bool = False
    fourier_scale: float = 0.2
    exact: bool = True


@dataclasses.dataclass(frozen=True)
class Place:
    """Data whose flow map is known, the network and the runs on it, and the ways of training that are compared."""

    modes: tuple[float, ...]
    std: float
    size: int
    sigma_data: float
    width: int
    depth: int
    law_std: float
    batch: int
    updates: int
    arms: dict[str, Arm]

    @functools.cached_property
    def truth(self) -> sct.oracle.ProductMixture:
        """The data's law; that of the plane is turned by 30 degrees."""
        sine, cosine = np.sin(np.deg2rad(30)), np.cos(np.deg2rad(30))
        turned = jnp.eye(1) if self.size == 1 else jnp.array([[cosine, -sine], [sine, cosine]])
        return sct.oracle.ProductMixture(jnp.array(self.modes), self.std, turned)


PLACES = {
    "plane": Place((-1.0, 0.0, 1.0), 0.15, 2, 0.8, 64, 3, 2.0, 256, 3_000, {
        "exact velocity, no learned weight, Fourier scale 0.2": Arm(),
        "the same, `tangent_c` 1": Arm(tangent_c=1.0),
        "the same, tangent not normalised": Arm(tangent_c=None),
        "the same, Fourier scale 1": Arm(fourier_scale=1.0),
        "the same, learned weight": Arm(learned_weight=True),
        "one-sample noise": Arm(exact=False),
        "one-sample noise, `tangent_c` 5": Arm(exact=False, tangent_c=5.0),
        "one-sample noise, learned weight": Arm(exact=False, learned_weight=True),
    }),
    "line": Place((-1.0, 1.0), 0.3, 1, 1.0, 32, 2, 1.4, 128, 16_000, {
        "exact velocity": Arm(),
        "one-sample noise": Arm(exact=False),
        "one-sample noise, `tangent_c` 5": Arm(exact=False, tangent_c=5.0),
    }),
}  # fmt: skip


def train(place: Place, arm: Arm, seed: int, updates: int) -> sct.ConsistencyModel:
    """The averaged model after a run."""
    key, truth = jr.key(seed), place.truth
    torso = nn.TorsoMLP(place.size, place.width, depth=place.depth, fourier_scale=arm.fourier_scale, key=key)
    weight = nn.LogWeight(key=key) if arm.learned_weight else None
    model = sct.ConsistencyModel(torso, sct.TrigFlowPreconditioning(place.sigma_data), weight)
    objective = sct.ContinuousConsistency(
        law=sct.LogNormal(0.0, place.law_std), warmup=updates // 10, tangent_c=arm.tangent_c,
        sigma_data=place.sigma_data, stratify=True,
        velocity=sct.DenoiserVelocity(truth.denoise) if arm.exact else sct.one_sample_velocity,
    )  # fmt: skip
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, updates))
    weights, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(weights, step):
        data, draws = jr.split(jr.fold_in(key, step))
        batch = jax.vmap(lambda key: truth.sample(key=key))(jr.split(data, place.batch))
        return objective(eqx.combine(weights, rest), batch, step, key=draws)[0]

    def update(carry, step):
        weights, average, moments = carry
        change, moments = optimizer.update(jax.grad(loss)(weights, step), moments, weights)
        weights = optax.apply_updates(weights, change)
        return (weights, optax.incremental_update(weights, average, 1 - DECAY), moments), None

    run = jax.jit(lambda carry: jax.lax.scan(update, carry, jnp.arange(updates))[0])
    return eqx.combine(run((weights, weights, optimizer.init(weights)))[1], rest)


def paths(place: Place, sigma: float) -> tuple[jax.Array, jax.Array]:
    """1,000 noised samples, and the ends of their paths."""
    draw = lambda key: place.truth.sample(key=key) + sigma * jr.normal(jr.fold_in(key, 1), (place.size,))
    x_t = jax.vmap(draw)(jr.split(jr.key(0), 1_000))
    return x_t, jax.jit(jax.vmap(lambda x: place.truth.transport(x, sigma, 0.0)))(x_t)


@eqx.filter_jit
def error(model: sct.ConsistencyModel, x_t: jax.Array, sigma: jax.Array, ends: jax.Array) -> jax.Array:
    """Root mean square of the endpoint's error."""
    found = jax.vmap(lambda x: model.endpoint(x, sigma))(x_t)
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(found - ends), axis=-1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=[*PLACES], default="plane")
    parser.add_argument("--updates", type=int, help="default: 3,000 on the plane, 16,000 on the line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    place = PLACES[asked.on]
    updates, known = asked.updates or place.updates, [paths(place, sigma) for sigma in LEVELS]
    about = f"{updates:,} updates of {place.batch}, {asked.seeds} seeds"
    lines = [f"| {about} | " + " | ".join(f"{s:g}" for s in LEVELS) + " |", "|---" * (len(LEVELS) + 1) + "|"]
    for name, arm in place.arms.items():
        models = [train(place, arm, seed, updates) for seed in range(asked.seeds)]
        of = lambda sigma, x_t, ends, models=models: [float(error(m, x_t, jnp.float32(sigma), ends)) for m in models]
        cells = [spread(np.array(of(sigma, *each)), 3) for sigma, each in zip(LEVELS, known, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if asked.write:
        text = PAGE.read_text()
        marks = [f"<!-- continuous, {asked.on}: {end} -->" for end in ("begin", "end")]
        begin, end = text.index(marks[0]) + len(marks[0]), text.index(marks[1])
        PAGE.write_text(f"{text[:begin]}\n" + "\n".join(lines) + f"\n{text[end:]}")


if __name__ == "__main__":
    main()

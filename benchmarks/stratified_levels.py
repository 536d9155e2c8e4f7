"""How much variance do stratified noise levels take out of the torso's gradient?

The gradient of the whole objective with respect to the consistency model, at the first and at the last stage of the
curriculum, after a few hundred updates of the presets `digits` (a U-Net) and `toy` (an MLP in two dimensions). Its
total variance (trace of the covariance) over new levels and noise for the same samples, and over new samples too.

Each seed draws a few batches and, for each, two independent sets of levels and noise: half the squared difference of
the two gradients is an unbiased variance for the same samples, the sample variance over batches one for new samples.
"""

import argparse
import collections
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array

import equisct as sct
from equisct import train
from equisct.app.parts.data import load_data
from equisct.app.parts.recipe import build_recipe
from equisct.app.presets import DIGITS, TOY
from equisct.app.settings.config import Config
from equisct.data import Dataset, Loader
from equisct.objectives.score_guided import ScoreGuided
from equisct.objectives.slots import Draw

MICRO_BATCH = 16
"""Samples in one call of the gradient, whatever the batch: one compilation for all."""

SIZES = (16, 64, 256)


def trained(config: Config, dataset: Dataset, updates: int) -> sct.ScoreGuidedModel:
    """The preset's model after some updates."""
    system = config.method.build(config, dataset.shape)
    recipe = build_recipe(config, system, None)
    start = train.init_state(recipe, system.model(jr.key(0)))
    loader = Loader(dataset, config.run.batch, seed=0)
    ((state, _),) = collections.deque(train.fit(recipe, start, loader, key=jr.key(1), steps=updates), maxlen=1)
    return state.model


@eqx.filter_jit
def micro_gradient(objective: ScoreGuided, model: sct.ScoreGuidedModel, draws: Draw) -> Array:
    """The objective's gradient with respect to the consistency model, as one vector, for given draws."""
    parameters, rest = eqx.partition(model.cm, sct.trainable(model.cm))

    def loss(parameters: Any) -> Array:
        cm = eqx.combine(parameters, rest)

        def sample_loss(draw: Draw) -> Array:
            losses, seen = objective.base.sample_loss(cm, draw)
            weight = objective.head_weight * objective.head_weighting.at(seen.sigma)
            denoised = model.head(seen.x_t, seen.sigma, seen.readout)
            return losses["consistency"].value + weight * sct.SquaredL2()(denoised, seen.x)

        return jnp.mean(jax.vmap(sample_loss)(draws))

    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.grad(loss)(parameters))])


@eqx.filter_jit
def make_draws(consistency: sct.Consistency, batch: Array, step: Array, key: Array) -> list[Draw]:
    """Levels and noise of a batch, in micro-batches."""
    draws = consistency.draw(batch, step, key=key)
    starts = range(0, len(batch), MICRO_BATCH)
    return [jax.tree.map(lambda leaf, i=i: leaf[i : i + MICRO_BATCH], draws) for i in starts]


def variances(
    gradient: Callable[[Array, Array], np.ndarray], dataset: Dataset, size: int, *, seed: int, batches: int
) -> tuple[float, float]:
    """Estimates of the variance of `gradient(batch, key)` for the same samples, and for new ones."""
    generator = np.random.default_rng(seed)
    first, second = [], []
    for key in jr.split(jr.key(seed), batches):
        batch = jnp.asarray(dataset.take(generator.choice(dataset.size, size, replace=False)))
        for gradients, one_key in zip((first, second), jr.split(key), strict=True):
            gradients.append(gradient(batch, one_key))
    same = np.square(np.subtract(first, second)).sum() / (2 * batches)
    fresh = (np.var(first, axis=0, ddof=1).sum() + np.var(second, axis=0, ddof=1).sum()) / 2
    return float(same), float(fresh)


def ratio_of_means(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """`mean(a) / mean(b)` over seeds, with the jackknife's standard error."""
    left_out = (a.sum() - a) / (b.sum() - b)
    n = len(a)
    return a.mean() / b.mean(), float(np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum()))


def rows(config: Config, *, updates: int, seeds: int, batches: int) -> Iterator[list[str]]:
    """The table's rows for one preset."""
    dataset = load_data(config.data, seed=0)
    model = trained(config, dataset, updates)
    objective: Any = config.method.build(config, dataset.shape).objective(None, None)
    for stage, step in (("first", 0), ("last", config.run.steps)):

        def gradient(batch: Array, key: Array, *, stratify: bool, step: int = step) -> np.ndarray:
            consistency = dataclasses.replace(objective.base, stratify=stratify)
            draws = make_draws(consistency, batch, jnp.int32(step), key)
            return np.mean([micro_gradient(objective, model, part) for part in draws], 0)

        for size in SIZES:
            with_, without = (
                np.transpose([variances(partial(gradient, stratify=on), dataset, size, seed=seed, batches=batches)
                              for seed in range(seeds)])
                for on in (True, False)
            )  # fmt: skip
            ratios = [f"{ratio:.2f} ± {error:.2f}" for ratio, error in map(ratio_of_means, with_, without)]
            yield [config.preset, stage, str(size), *ratios, f"{without[0].mean() / without[1].mean():.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=300, help="of training before measuring")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4, help="drawn by each seed")
    parser.add_argument("--only", choices=["digits", "toy"])
    args = parser.parse_args()
    print("variance with stratified levels / without, ± standard error over seeds\n")
    print("| preset | stage | batch | same samples | new samples | share of levels and noise in the latter |")
    print("|---|---|---|---|---|---|")
    for config in (DIGITS, TOY):
        if args.only not in (None, config.preset):
            continue
        for row in rows(config, updates=args.updates, seeds=args.seeds, batches=args.batches):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

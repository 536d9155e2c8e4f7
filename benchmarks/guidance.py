"""One step at any scale of guidance? Guidance inside consistency training against the guided PF-ODE itself.

python benchmarks/guidance.py [--updates N] [--seeds N] [--write]

Six modes on a ring in the plane, three classes of two modes each with weights .7 and .3. A model whose conditions come
with a scale, 0 or 1 to 3, is trained by the velocity of its own score head, and by the law's exact one; for comparison
a model of the classes alone by one sample's noise, which cannot be guided. Its one-step samples are held against
diffrax's solution of the guided PF-ODE from the same noise: the root mean square of the difference, how the two share
their samples out among the modes (half the sum of differences), and the ratio of their spreads within a mode.
`--write` puts the table into docs/conditions.md.
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import equisct as sct
from equisct import nn
from known_maps import trained
from pages import write_between_marks
from reproduction import spread

BATCH, POINTS, CLASSES, HIGH = 512, 1_000, 3, 3.0
SCALES = (1.0, 1.5, 3.0)
RING = sct.oracle.GaussianMixture.ring(modes=2 * CLASSES, std=0.12)
SHARES = jnp.array([0.7, 0.3])
LAW = sct.oracle.GaussianMixture(RING.means, 0.12, jnp.tile(SHARES, CLASSES) / CLASSES)
MODES = RING.means.reshape(CLASSES, 2, 2)
"""Of each class, two."""
ARMS = ("one sample's noise, no scale", "the law's own", "the score head's")
MEASURES = ("difference", "shares of modes", "spread")


def denoise(x_t: Any, sigma: Any, *, condition: Any = None) -> Any:
    """The posterior mean under a class, or under none."""
    if condition is None:
        return LAW.denoise(x_t, sigma)
    return sct.oracle.GaussianMixture(MODES[condition], 0.12, SHARES).denoise(x_t, sigma)


def draw(key: Any) -> sct.Example:
    """A batch of samples with their classes."""
    class_key, mode_key, noise_key = jr.split(key, 3)
    c = jr.randint(class_key, (BATCH,), 0, CLASSES)
    mode = 2 * c + (jr.uniform(mode_key, (BATCH,)) > SHARES[0])
    return sct.Example(RING.means[mode] + 0.12 * jr.normal(noise_key, (BATCH, 2)), c)


def train(arm: str, seed: int, updates: int) -> sct.ScoreGuidedModel:
    """The averaged model of an arm."""
    cm_key, head_key, key = jr.split(jr.key(seed), 3)
    classes = nn.ClassEmbedding(CLASSES)
    guided = arm != ARMS[0]
    embedder = nn.GuidanceEmbedding(classes, 1.0, HIGH) if guided else classes
    boundary = sct.BoundaryPreconditioning(0.7)
    torso = nn.TorsoMLP(2, 96, condition=embedder, condition_dropout=0.0 if guided else 0.1, key=cm_key)
    model = sct.ScoreGuidedModel(
        sct.ConsistencyModel(torso, boundary), sct.ScoreHead(nn.HeadMLP(2, 96, key=head_key), boundary)
    )
    source = sct.head_velocity if arm == ARMS[2] else sct.DenoiserVelocity(denoise)
    objective: Any = sct.ScoreGuidedTraining(
        curriculum=sct.Doubling.from_total(updates, 10, 160), law=sct.LogNormal(0.0, 2.0), distance=sct.SquaredL2(),
        velocity=sct.GuidedVelocity(source) if guided else sct.one_sample_velocity, head_weight=1.0, stratify=True,
    )  # fmt: skip
    return trained(
        sct.RandomScales(objective, 1.0, HIGH) if guided else objective, model, draw, updates=updates, key=key
    )


@eqx.filter_jit
def ends(scale: Any) -> tuple[Any, Any, Any]:
    """Classes, unit noise, and where the guided PF-ODE takes it."""
    c, z = jnp.arange(POINTS) % CLASSES, jr.normal(jr.key(1), (POINTS, 2))

    def end(c: Any, z: Any) -> Any:
        field = sct.guided(lambda x_t, sigma: denoise(x_t, sigma, condition=c), LAW.denoise, scale)
        return sct.solve_pf_ode(field, 80 * z, 80.0, 0.002)

    return c, z, jax.vmap(end)(c, z)


def compare(model: sct.ScoreGuidedModel, arm: str, scale: float) -> list[float]:
    """The three measures of one-step samples."""
    c, z, truth = ends(jnp.float32(scale))

    def one(c: Any, z: Any) -> Any:
        condition = c if arm == ARMS[0] else sct.GuidedCondition(c, jnp.float32(scale))
        return sct.one_step(sct.Conditioned(model, condition).endpoint, z)

    found = np.asarray(jax.vmap(one)(c, z))
    nearest = [np.argmin(np.square(x[:, None] - np.asarray(RING.means)).sum(-1), 1) for x in (found, np.asarray(truth))]
    shares = [np.bincount(each, minlength=2 * CLASSES) / POINTS for each in nearest]
    spreads = [
        np.mean([x[near == k].std(0).mean() for k in range(2 * CLASSES) if (near == k).sum() > 20])
        for x, near in zip((found, np.asarray(truth)), nearest, strict=True)
    ]
    difference = np.sqrt(np.mean(np.square(found - truth).sum(-1)))
    return [float(difference), float(np.abs(shares[0] - shares[1]).sum() / 2), float(spreads[0] / spreads[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=6_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    about = f"{asked.updates:,} updates of {BATCH}, {asked.seeds} seeds"
    lines = [f"| velocity ({about}) | scale | {' | '.join(MEASURES)} |", "|---" * (len(MEASURES) + 2) + "|"]
    for arm in ARMS:
        models = [train(arm, seed, asked.updates) for seed in range(asked.seeds)]
        for scale in SCALES if arm != ARMS[0] else SCALES[:1]:
            found = np.array([compare(model, arm, scale) for model in models])
            lines.append(f"| {arm} | {scale:g} | {' | '.join(spread(each, 3) for each in found.T)} |")
            print(lines[-1], flush=True)
    if asked.write:
        write_between_marks("conditions.md", "guidance", "\n".join(lines))


if __name__ == "__main__":
    main()

"""What lets sCT train: its aids one by one, where the flow map is known.

python benchmarks/continuous.py [--on plane|line] [--updates N] [--seeds N] [--write]

On the `plane`, the mixture and the network of the preset `toy-sct` (half its batch, a wider law), every aid; on the
`line`, two modes and a small network, long runs under the exact velocity and under one-sample noise. Each run is one
compiled loop on one core. Shown is the root-mean-square error of the endpoint at four levels, by the average of decay
0.98 at the end; `--write` puts the table into docs/methods.md.
"""

import argparse
import dataclasses

import jax.random as jr
import numpy as np

import equisct as sct
from equisct import nn
from known_maps import LEVELS, LINE, PLANE, errors, points, trained
from pages import write_between_marks
from reproduction import spread


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

    truth: sct.oracle.ProductMixture
    size: int
    sigma_data: float
    width: int
    depth: int
    law_std: float
    batch: int
    updates: int
    arms: dict[str, Arm]


PLACES = {
    "plane": Place(PLANE, 2, 0.8, 64, 3, 2.0, 256, 3_000, {
        "exact velocity, no learned weight, Fourier scale 0.2": Arm(),
        "the same, `tangent_c` 1": Arm(tangent_c=1.0),
        "the same, tangent not normalised": Arm(tangent_c=None),
        "the same, Fourier scale 1": Arm(fourier_scale=1.0),
        "the same, learned weight": Arm(learned_weight=True),
        "one-sample noise": Arm(exact=False),
        "one-sample noise, `tangent_c` 5": Arm(exact=False, tangent_c=5.0),
        "one-sample noise, learned weight": Arm(exact=False, learned_weight=True),
    }),
    "line": Place(LINE, 1, 1.0, 32, 2, 1.4, 128, 16_000, {
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
    return trained(objective, model, lambda key: points(truth, place.batch, key=key), updates=updates, key=key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=[*PLACES], default="plane")
    parser.add_argument("--updates", type=int, help="default: 3,000 on the plane, 16,000 on the line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    place = PLACES[asked.on]
    updates = asked.updates or place.updates
    about = f"{updates:,} updates of {place.batch}, {asked.seeds} seeds"
    lines = [f"| {about} | " + " | ".join(f"{s:g}" for s in LEVELS) + " |", "|---" * (len(LEVELS) + 1) + "|"]
    for name, arm in place.arms.items():
        found = [errors(place.truth, train(place, arm, seed, updates)) for seed in range(asked.seeds)]
        cells = [spread(each, 3) for each in np.array(found).T]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if asked.write:
        write_between_marks("methods.md", f"continuous, {asked.on}", "\n".join(lines))


if __name__ == "__main__":
    main()

"""How many points does the training set's own mean need? iCT on the mixture in the plane, where the flow map is known.

python benchmarks/posterior_plane.py [--updates N] [--seeds N] [--write]

Trained on 1,000 points, on 10,000, and on fresh ones, with one sample's noise, with the set's mean and with the law's;
shown is how far the endpoint is from the end of the law's own path. The design, and what was expected, stands in
docs/science.md, and was written before the runs; `--write` puts the table there.
"""

import argparse

import jax.random as jr
import numpy as np

import equisct as sct
from equisct import nn
from known_maps import LEVELS, PLANE, errors, points, trained
from pages import write_between_marks
from reproduction import spread

SIGMA_DATA, BATCH = 0.8, 256
SETS = {"1,000 points": 1_000, "10,000 points": 10_000, "fresh points": None}
VELOCITIES = ("one sample's noise", "mean of the set", "mean of the law")


def train(n: int | None, velocity: str, seed: int, updates: int) -> sct.ConsistencyModel:
    """The averaged model after a run on `n` points, or on fresh ones."""
    key = jr.key(seed)
    kept = None if n is None else points(PLANE, n, key=jr.fold_in(key, 1))
    means = {"one sample's noise": None, "mean of the law": PLANE.denoise}
    if kept is not None:
        means["mean of the set"] = sct.oracle.Empirical(kept).denoise
    denoise = means[velocity]
    objective = sct.ConsistencyTraining(
        curriculum=sct.Doubling.from_total(updates, 10, 160), law=sct.LogNormal(0.0, 2.0), distance=sct.SquaredL2(),
        velocity=sct.one_sample_velocity if denoise is None else sct.DenoiserVelocity(denoise), stratify=True,
    )  # fmt: skip
    model = sct.ConsistencyModel(nn.TorsoMLP(2, 64, key=key), sct.BoundaryPreconditioning(SIGMA_DATA))

    def draw(key):
        if kept is None:
            return points(PLANE, BATCH, key=key)
        return kept[jr.randint(key, (BATCH,), 0, len(kept))]

    return trained(objective, model, draw, updates=updates, key=key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    about = f"{asked.updates:,} updates of {BATCH}, {asked.seeds} seeds"
    lines = [f"| {about} | velocity | " + " | ".join(f"{s:g}" for s in LEVELS) + " |", "|---" * (len(LEVELS) + 2) + "|"]
    for name, n in SETS.items():
        for velocity in VELOCITIES:
            if n is None and velocity == "mean of the set":
                continue
            found = [errors(PLANE, train(n, velocity, seed, asked.updates)) for seed in range(asked.seeds)]
            cells = [spread(each, 3) for each in np.array(found).T]
            lines.append(f"| {name} | {velocity} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if asked.write:
        write_between_marks("science.md", "posterior, plane", "\n".join(lines))


if __name__ == "__main__":
    main()

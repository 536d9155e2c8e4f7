"""What the exact posterior mean over a whole training set costs: memory, arithmetic beside an update's, seconds here.

python benchmarks/posterior_cost.py [--set NAME]... [--write]

Arithmetic is what XLA counts: of the mean in the program of a batch with the set in a single block (it counts the body
of a loop once), of an update in the program of `costs.py`. Seconds are measured on random numbers of the set's size, a
batch at once: the values do not matter to the time. `--write` puts the table into docs/science.md.
"""

import argparse
import dataclasses
import functools
import math
import os
import time

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array

from costs import flops
from equisct.oracle import Empirical
from pages import write_between_marks

BATCH, TRIED, FITS = 64, 3, 4 * 2**30
"""Samples at once, times that the mean is taken of them, and bytes of a set that is measured here."""
SAMPLES = 8
"""In the batch whose update is traced."""


@dataclasses.dataclass(frozen=True)
class Set:
    """A data set's size, and the preset whose update it is held against; `mirrored`: its presets flip images."""

    samples: int
    shape: tuple[int, ...]
    preset: str
    mirrored: bool = False

    @property
    def size(self) -> int:
        """Numbers in a sample."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of the set in float32."""
        return 4 * self.samples * self.size


SETS = {
    "digits": Set(1_797, (1, 8, 8), "digits"),
    "Fashion-MNIST": Set(60_000, (1, 28, 28), "fashion-mnist"),
    "CIFAR-10": Set(50_000, (3, 32, 32), "cifar10-ict-star", mirrored=True),
    "ImageNet-64": Set(1_281_167, (3, 64, 64), "cifar10-ict-star", mirrored=True),
}


def mean_flops(own: Set) -> float:
    """Operations of the posterior mean for one sample of a batch, counted."""

    def means(points: Array, x_t: Array) -> Array:
        law = Empirical(points, block=own.samples)
        return jax.vmap(lambda x_t: law.denoise(x_t, 1.0))(x_t)

    points, x_t = (jax.ShapeDtypeStruct((n, *own.shape), jnp.float32) for n in (own.samples, BATCH))
    return float(jax.jit(means).lower(points, x_t).cost_analysis()["flops"]) / BATCH  # type: ignore[index]


@functools.cache
def update_flops(preset: str, shape: tuple[int, ...]) -> float:
    """Operations of an update of a preset for one sample more in its batch."""
    low, high = (flops(preset, samples, shape) for samples in (SAMPLES, 2 * SAMPLES))
    return (high - low) / SAMPLES


def seconds(own: Set) -> float:
    """Measured for one sample of a batch: the least of a few."""
    points = jr.normal(jr.key(0), (own.samples, *own.shape))
    x_t = 2 * jr.normal(jr.key(1), (BATCH, *own.shape))
    law = Empirical(points)
    mean = jax.jit(jax.vmap(lambda x_t: law.denoise(x_t, 1.0)))
    jax.block_until_ready(mean(x_t))
    taken = []
    for _ in range(TRIED):
        begin = time.monotonic()
        jax.block_until_ready(mean(x_t))
        taken.append(time.monotonic() - begin)
    return min(taken) / BATCH


def _mebibytes(size: int) -> str:
    found = size / 2**20
    return f"{found:,.0f}" if found >= 10 else f"{found:.1f}"


def row(name: str) -> str:
    """One set's line of the table."""
    own = SETS[name]
    mean, update = mean_flops(own), update_flops(own.preset, own.shape)
    memory = [_mebibytes(own.bytes), _mebibytes(2 * own.bytes) if own.mirrored else "-"]
    work = [f"{mean / 1e9:.2g}", f"{update / 1e9:,.3g}", f"{mean / update:.1%}"]
    took = f"{1e3 * seconds(own):.2g}" if own.bytes <= FITS else "-"
    cells = [name, f"{own.samples:,} x {own.size:,}", *memory, *work, took]
    return f"| {' | '.join(cells)} |"


def table(names: list[str]) -> str:
    """The table in Markdown."""
    head = [
        "| set | samples x numbers | MiB, float32 | with mirrored images | GFLOP of a mean | of an update | share | "
        f"ms of a mean on {os.cpu_count()} cores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(row, names)])


def main() -> None:
    """Prints the table, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=SETS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    options = parser.parse_args()
    text = table(options.set or list(SETS))
    print(text)
    if options.write:
        write_between_marks("science.md", "posterior cost", text)


if __name__ == "__main__":
    main()

"""What each CIFAR-10 preset costs: images, arithmetic per update from the traced program, hours on one accelerator.

python benchmarks/costs.py [--preset NAME]... [--write]

The program of one update at full size is lowered, not compiled or run; XLA counts its floating-point operations. An
estimate of hours divides by a rate of arithmetic that is assumed, and stated in the table's head. `--write` puts the
table into docs/methods.md.
"""

import argparse
import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from safetensors.numpy import save_file

from equisct import count
from equisct.app.parts.models import denoising_model
from equisct.app.parts.recipe import build_recipe
from equisct.app.presets import PRESETS
from equisct.app.settings.config import Config
from equisct.evaluation.lpips import FILES, lpips_shapes
from equisct.train import init_state, train_step
from pages import write_between_marks

SHAPE = (3, 32, 32)
PEAK, SHARE = 989e12, 0.3
"""An H100's dense bfloat16 arithmetic per second (its maker's figure), and the share of it assumed to be reached."""

SAMPLES = 8
"""Samples in the batch that is traced; arithmetic grows in proportion but for the optimiser's part."""


@functools.cache
def some_lpips() -> pathlib.Path:
    """A folder with weights of LPIPS at full size: only their shapes matter."""
    folder = pathlib.Path(tempfile.mkdtemp())
    shapes, channels = lpips_shapes((64, 128, 256, 512, 512))
    for name, arrays in zip(FILES, (shapes, channels), strict=True):
        save_file({key: np.zeros(shape, np.float32) for key, shape in arrays.items()}, folder / f"{name}.safetensors")
    return folder


def preset(name: str) -> Config:
    """A preset, with such weights if it measures by LPIPS."""
    config = PRESETS[name][1]
    if getattr(config.method, "distance", None) != "lpips":
        return config
    return dataclasses.replace(config, method=dataclasses.replace(config.method, lpips=some_lpips()))  # type: ignore[call-arg]


def flops(name: str, samples: int, shape: tuple[int, ...] = SHAPE) -> float:
    """Floating-point operations of one update of a preset with a batch of so many samples of this shape."""
    config = preset(name)
    system = config.method.build(config, shape)
    kind = getattr(config.method, "preconditioning", "edm")

    def update(key: Any, batch: Any) -> Any:
        teacher = denoising_model(config, shape, kind, key=key) if hasattr(config.method, "teacher") else None
        recipe = build_recipe(config, system, teacher)
        state = init_state(recipe, system.start(system.model(key), teacher))
        return eqx.filter(train_step(recipe, state, batch, key), eqx.is_array)

    def start(key: Any) -> Any:
        teacher = denoising_model(config, shape, kind, key=key) if hasattr(config.method, "teacher") else None
        state = init_state(build_recipe(config, system, teacher), system.start(system.model(key), teacher))
        return eqx.filter(state, eqx.is_array)

    pairs = (2,) if type(config.method).__name__ == "KD" else ()
    batch = jax.ShapeDtypeStruct((samples, *pairs, *shape), jnp.float32)
    whole = jax.jit(update).lower(jr.key(0), batch).cost_analysis()
    begin = jax.jit(start).lower(jr.key(0)).cost_analysis()
    return float(whole["flops"]) - float(begin["flops"])  # type: ignore[index]


def row(name: str) -> str:
    """One preset's line of the table."""
    config = preset(name)
    system = config.method.build(config, SHAPE)
    size = count(eqx.filter_eval_shape(system.model, jr.key(0)))
    low, high = flops(name, SAMPLES), flops(name, 2 * SAMPLES)
    per_sample = (high - low) / SAMPLES
    update = low + per_sample * (config.run.batch - SAMPLES)
    hours = update * config.run.steps / (PEAK * SHARE) / 3600
    images = config.run.steps * config.run.batch / 1e6
    cells = [f"`{name}`", f"{size / 1e6:.1f}", f"{images:,.0f}", f"{per_sample / 1e9:.0f}", f"{update / 1e12:,.1f}"]
    return f"| {' | '.join([*cells, f'{hours:,.0f}'])} |"


def table(names: list[str]) -> str:
    """The table in Markdown."""
    head = [
        "| preset | parameters, M | images, M | GFLOP per image | TFLOP per update | "
        f"hours on one H100 at {SHARE:.0%} |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(row, names)])


def main() -> None:
    """Prints the table, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in PRESETS if name.startswith("cifar10") and name != "cifar10-literal"]
    parser.add_argument("--preset", action="append", choices=names)
    parser.add_argument("--write", action="store_true", help="put the table into docs/methods.md")
    options = parser.parse_args()
    text = table(options.preset or names)
    print(text)
    if options.write:
        write_between_marks("methods.md", "costs", text)


if __name__ == "__main__":
    main()

"""Run as a program with 8 simulated devices: trains small pairs in many layouts, prints what happened as JSON.

`python sharding_check.py` is what `test_placement.py` runs, because the suite itself has two devices; `--full` tries
every layout on both pairs.
"""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import conftest  # noqa: F401  (the suite's settings, before JAX)

# isort: split
import json
import re
import sys
import warnings
from collections import Counter

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from catalogue import BOUNDARY
from equisct import ConsistencyModel, Doubling, ScoreGuidedModel, ScoreGuidedTraining, ScoreHead
from equisct.nn import HeadMLP, HeadUNet, TorsoMLP, ncsnpp
from equisct.train import Recipe, compile_step, data_mesh, init_state, train_step

KEY = jr.key(7)
STEPS, BATCH = 20, 32
WIDE = {"channels": 1, "resolution": 4, "width": 16, "multipliers": (1,), "blocks": 1, "attention": ()}
MLP = {
    "data 8": (8, 1, 1),
    "data 4 x fsdp 2": (8, 2, 1),
    "fsdp 8": (8, 8, 1),
    "data 8, 4 microbatches": (8, 1, 4),
    "fsdp 8, 2 microbatches": (8, 8, 2),
}
"""Devices, fsdp, microbatches."""

UNET = {"data 4 x fsdp 2, 2 microbatches": (8, 2, 2)}
MORE = {
    "fsdp 8, 4 microbatches": (8, 8, 4),
    "2 microbatches": (1, 1, 2),
    "4 microbatches": (1, 1, 4),
}


def mlp(width: int = 64) -> ScoreGuidedModel:
    cm = ConsistencyModel(TorsoMLP(2, width, depth=1, key=KEY), BOUNDARY)
    return ScoreGuidedModel(cm, ScoreHead(HeadMLP(2, width, depth=1, torso_width=width, key=KEY), BOUNDARY))


def unet() -> ScoreGuidedModel:
    head = HeadUNet(**WIDE, torso_channels=16, torso_embedding=64, key=KEY)
    return ScoreGuidedModel(ConsistencyModel(ncsnpp(**WIDE, dropout=0.1, key=KEY), BOUNDARY), ScoreHead(head, BOUNDARY))


def recipe(microbatches: int = 1) -> Recipe:
    objective = ScoreGuidedTraining(curriculum=Doubling(first=10, last=40, period=5))
    return Recipe(objective, optax.radam(1e-3), ema_decay=0.9, microbatches=microbatches)


def losses(model: ScoreGuidedModel, shape: tuple[int, ...], devices: int, fsdp: int, microbatches: int) -> list[float]:
    """The loss of each update."""
    rule = recipe(microbatches)
    state, found = init_state(rule, model, mesh=data_mesh(devices, fsdp=fsdp)), []
    for step in range(STEPS):
        batch = np.asarray(jr.normal(jr.fold_in(KEY, 100 + step), (BATCH, *shape)))
        state, report = train_step(rule, state, batch, jr.fold_in(KEY, step))
        found.append(float(report.loss))
    return found


def communication(text: str) -> dict[str, dict[str, int]]:
    """How many collectives of each kind the entry and the other computations of a compiled program hold."""
    found: dict[str, Counter[str]] = {"entry": Counter(), "inside": Counter()}
    place = found["inside"]
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            place = found["entry" if line.startswith("ENTRY") else "inside"]
        name = re.search(
            r"= .*? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(", line
        )
        if name:
            place[name[1]] += 1
    return {name: dict(counts) for name, counts in found.items()}


def program(model: ScoreGuidedModel, shape: tuple[int, ...], fsdp: int, microbatches: int) -> dict[str, object]:
    """What the compiled update communicates and holds."""
    rule = recipe(microbatches)
    state = init_state(rule, model, mesh=data_mesh(8, fsdp=fsdp))
    compiled = compile_step(rule, state, np.zeros((BATCH, *shape), np.float32), KEY)
    memory = compiled.memory_analysis()
    arrays = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    one_device = jax.devices()[0]
    held = [shard.data.nbytes for leaf in arrays for shard in leaf.addressable_shards if shard.device == one_device]
    divided = [leaf for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_array)) if _is_divided(leaf)]
    return {
        "communication": communication(compiled.as_text()),
        "aliases": "input_output_alias={ {0}" in compiled.as_text(),
        "alias": memory.alias_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "state": sum(leaf.nbytes for leaf in arrays),
        "state_per_device": sum(held),
        "parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array))),
        "divided": len(divided),
    }


def _is_divided(leaf: jax.Array) -> bool:
    return not leaf.sharding.is_fully_replicated


def main() -> None:
    warnings.simplefilter("ignore")  # the head's weight does not matter here
    found: dict[str, object] = {"devices": jax.device_count()}
    full = "--full" in sys.argv
    everything = MLP | UNET | MORE
    for name, model, shape, layouts in (
        ("mlp", mlp(), (2,), everything if full else MLP),
        ("unet", unet(), (1, 4, 4), everything if full else UNET),
    ):
        runs = {layout: losses(model, shape, *numbers) for layout, numbers in layouts.items()}
        found[name] = {"one": losses(model, shape, 1, 1, 1), "runs": runs}
    found["programs"] = {
        "data": program(unet(), (1, 4, 4), 1, 1) if full else program(mlp(), (2,), 1, 1),
        "data, microbatches": program(mlp(), (2,), 1, 4),
        "fsdp 2": program(unet(), (1, 4, 4), 2, 1) if full else program(mlp(), (2,), 2, 1),
        "fsdp 2, microbatches": program(mlp(), (2,), 2, 2),
    }
    wide = mlp(512)
    found["memory"] = {fsdp: program(wide, (2,), fsdp, 1) for fsdp in ((1, 2, 4, 8) if full else (1, 4))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Run as a program with 8 simulated devices: trains small models in many layouts, prints what happened as JSON.

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
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from catalogue import BOUNDARY
from equisct import ConsistencyModel, ConsistencyTraining, Doubling, ScoreGuidedModel, ScoreGuidedTraining, ScoreHead
from equisct.nn import HeadMLP, HeadUNet, TorsoMLP, ncsnpp
from equisct.train import ConstantDecay, Recipe, TrainState, data_mesh, init_state
from equisct.train.step import _arguments, _update  # what `train_step` is made of, to see the very program that ran
from strategies import untyped

KEY = jr.key(7)
STEPS, BATCH = 20, 32
WIDE = {"channels": 1, "resolution": 4, "width": 16, "multipliers": (1,), "blocks": 1, "attention": ()}
MLP = {
    "data 8": (8, 1, 1),
    "data 4 x fsdp 2": (8, 2, 1),
    "data 8, 4 microbatches": (8, 1, 4),
    "data 4 x fsdp 2, 2 microbatches": (8, 2, 2),
}
"""Devices, fsdp, microbatches."""

UNET = {"data 4 x fsdp 2, 2 microbatches": (8, 2, 2)}
MORE = {
    "fsdp 8": (8, 8, 1),
    "fsdp 8, 4 microbatches": (8, 8, 4),
    "2 microbatches": (1, 1, 2),
    "4 microbatches": (1, 1, 4),
}


def mlp(width: int = 64) -> ScoreGuidedModel:
    cm = ConsistencyModel(TorsoMLP(2, width, depth=1, key=KEY), BOUNDARY)
    return ScoreGuidedModel(cm, ScoreHead(HeadMLP(2, width, depth=1, torso_width=width, key=KEY), BOUNDARY))


def unet_alone() -> ConsistencyModel:
    return ConsistencyModel(ncsnpp(**WIDE, dropout=0.1, key=KEY), BOUNDARY)


def unet() -> ScoreGuidedModel:
    head = HeadUNet(**WIDE, torso_channels=16, torso_embedding=64, key=KEY)
    return ScoreGuidedModel(unet_alone(), ScoreHead(head, BOUNDARY))


def recipe(model: object, microbatches: int = 1) -> Recipe:
    made = ScoreGuidedTraining if isinstance(model, ScoreGuidedModel) else ConsistencyTraining
    objective = made(curriculum=Doubling(first=10, last=40, period=5))
    return Recipe(objective, optax.radam(1e-3), ConstantDecay(0.9), microbatches=microbatches)


def losses_and_program(
    model: object, shape: tuple[int, ...], devices: int, fsdp: int, microbatches: int, *, steps: int = STEPS
) -> tuple[list[float], dict[str, object]]:
    """The loss of each update, and what the program that computed them communicates and holds."""
    rule, found = recipe(model, microbatches), []
    state = init_state(rule, model, mesh=data_mesh(devices, fsdp=fsdp))
    described = sizes(state)
    inputs = [
        _arguments(
            rule, state, np.asarray(jr.normal(jr.fold_in(KEY, 100 + step), (BATCH, *shape))), jr.fold_in(KEY, step)
        )
        for step in range(max(steps, 1))
    ]
    update = untyped(_update).lower(inputs[0], state).compile()
    for constants in inputs[:steps]:
        state, report = update(constants, state)
        found.append(float(report.loss))
    return found, described | contents(update.compiled)


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


def contents(compiled: jax.stages.Compiled) -> dict[str, object]:
    """What a compiled update communicates and needs on each device."""
    memory, text = untyped(compiled.memory_analysis()), str(compiled.as_text())
    return {
        "communication": communication(text),
        "aliases": "input_output_alias={ {0}" in text,
        "alias": memory.alias_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
    }


def sizes(state: TrainState) -> dict[str, int]:
    """The bytes of a state, whole and on the first device, and how many of its parameters are divided."""
    arrays = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    one_device = jax.devices()[0]
    held = [shard.data.nbytes for leaf in arrays for shard in leaf.addressable_shards if shard.device == one_device]
    divided = [leaf for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_array)) if _is_divided(leaf)]
    return {
        "state": sum(leaf.nbytes for leaf in arrays),
        "state_per_device": sum(held),
        "parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array))),
        "divided": len(divided),
    }


def _is_divided(leaf: jax.Array) -> bool:
    return not leaf.sharding.is_fully_replicated


def main() -> None:
    warnings.simplefilter("ignore")  # the head's weight does not matter here
    full = "--full" in sys.argv
    everything = MLP | UNET | MORE
    found: dict[str, Any] = {"devices": jax.device_count(), "programs": {}}
    for name, model, shape, layouts in (
        ("mlp", mlp(), (2,), everything if full else MLP),
        ("unet", unet() if full else unet_alone(), (1, 4, 4), everything if full else UNET),
    ):
        ran = {layout: losses_and_program(model, shape, *numbers) for layout, numbers in layouts.items()}
        one, _ = losses_and_program(model, shape, 1, 1, 1)
        found[name] = {"one": one, "runs": {layout: losses for layout, (losses, _) in ran.items()}}
        found["programs"][name] = {layout: program for layout, (_, program) in ran.items()}
    wide = mlp(512)
    divided = {fsdp: losses_and_program(wide, (2,), 8, fsdp, 1, steps=0) for fsdp in ((1, 2, 4, 8) if full else (1, 4))}
    found["memory"] = {fsdp: program for fsdp, (_, program) in divided.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

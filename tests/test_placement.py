"""Where arrays live: laws of the layout, wrong calls, and eight simulated devices against one."""

import json
import os
import pathlib
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from equisct.train import data_mesh
from equisct.train.placement import (
    MIN_DIVIDED,
    batch_sharding,
    keep_divided,
    keep_placed,
    keep_whole,
    place,
    shard_batch,
    state_sharding,
)
from tolerances import FLOAT32_NETWORK

TESTS = pathlib.Path(__file__).parent
SHAPES = st.lists(st.integers(1, 300), max_size=4).map(tuple)


def divided_axes(sharding) -> list[int]:
    return [axis for axis, name in enumerate(sharding.spec) if name is not None]


# --- laws ---


@given(SHAPES, st.sampled_from([1, 2]))
def test_state_is_divided_where_it_can_and_pays(shape, fsdp):
    sharding = state_sharding(shape, data_mesh(2, fsdp=fsdp))
    axes, size = divided_axes(sharding), int(np.prod(shape))
    assert len(axes) <= 1
    even = [length for length in shape if length % 2 == 0]
    assert bool(axes) == (fsdp == 2 and size >= MIN_DIVIDED and bool(even))
    if axes:
        assert shape[axes[0]] == max(even)
        assert np.prod(sharding.shard_shape(shape)) == size // 2
        assert sharding.spec[axes[0]] == "fsdp"
    else:
        assert sharding.is_fully_replicated


@given(st.integers(0, 3), st.sampled_from([1, 2]))
def test_a_batch_is_divided_over_every_device_along_its_axis(axis, fsdp):
    shape = (2,) * 4
    sharding = batch_sharding(data_mesh(2, fsdp=fsdp), axis)
    assert divided_axes(sharding) == [axis]
    assert sharding.shard_shape(shape)[axis] == 1


@given(st.sampled_from([(64, 32), (33, 34), (8,), (), (1024,)]), st.sampled_from([1, 2]))
def test_placing_changes_no_number_and_no_other_leaf(shape, fsdp):
    mesh = data_mesh(2, fsdp=fsdp)
    tree = {"array": jnp.arange(float(np.prod(shape))).reshape(shape), "number": 0.5, "nothing": None}
    placed = place(tree, mesh)
    np.testing.assert_array_equal(placed["array"], tree["array"])
    assert placed["array"].sharding.is_equivalent_to(state_sharding(shape, mesh), len(shape))
    assert placed["number"] == 0.5
    assert placed["nothing"] is None


def test_inside_a_program_layouts_are_pinned_and_without_a_mesh_nothing_happens():
    mesh = data_mesh(2, fsdp=2)
    array = place(jnp.ones((32, 64)), mesh)
    layouts = {
        keep_placed: state_sharding((32, 64), mesh),
        keep_whole: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()),
        keep_divided: batch_sharding(mesh),
    }
    for keep, layout in layouts.items():
        found = eqx.filter_jit(lambda tree, keep=keep: keep({"x": 2 * tree, "n": 3.0}, mesh))(array)
        assert found["x"].sharding.is_equivalent_to(layout, 2)
        assert keep({"x": array}, None)["x"] is array


def test_the_mesh_has_both_axes_and_leaves_layouts_to_the_compiler():
    for fsdp in (1, 2):
        mesh = data_mesh(2, fsdp=fsdp)
        assert dict(mesh.shape) == {"data": 2 // fsdp, "fsdp": fsdp}
        assert set(mesh.axis_types) == {AxisType.Auto}
    assert data_mesh().size == jax.device_count()


BAD = {
    "too many devices": (lambda: data_mesh(99), r"devices: expected 1 to 2 \(those there are\), found 99"),
    "no device": (lambda: data_mesh(0), r"devices: expected 1 to 2 \(those there are\), found 0"),
    "fsdp that does not divide": (lambda: data_mesh(2, fsdp=3), "fsdp: expected a divisor of the 2 devices, found 3"),
    "fsdp of none": (lambda: data_mesh(2, fsdp=0), "fsdp: expected a divisor of the 2 devices, found 0"),
    "odd batch": (
        lambda: shard_batch(np.zeros((3, 2), np.float32), data_mesh(2)),
        "batch: expected a multiple of the 2 devices, found 3 samples",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


# --- eight devices ---


@pytest.fixture(scope="module")
def eight():
    """What `sharding_check.py` found in a process with eight devices."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}
    full = ["--full"] if os.environ.get("EQUISCT_FULL") == "1" else []
    words = [sys.executable, str(TESTS / "sharding_check.py"), *full]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Involuntary full rematerialization" not in done.stderr
    return json.loads(done.stdout)


def test_every_layout_trains_like_one_device(eight):
    assert eight["devices"] == 8
    for model in ("mlp", "unet"):
        one = np.array(eight[model]["one"])
        for layout, losses in eight[model]["runs"].items():
            np.testing.assert_allclose(losses, one, rtol=FLOAT32_NETWORK, err_msg=f"{model}, {layout}")


def test_data_parallel_communicates_once_per_update(eight):
    for programs in eight["programs"].values():
        if "data 8" in programs:
            assert programs["data 8"]["communication"] == {"entry": {"all-reduce": 1}, "inside": {}}
    assert "data 8" in eight["programs"]["mlp"]


def test_microbatches_communicate_once_each_and_gather_once_per_update(eight):
    """The reduction of every microbatch's gradient is inside the loop; of the parameters nothing is."""
    layouts = ("data 8, 4 microbatches", "data 4 x fsdp 2, 2 microbatches")
    data, fsdp = (eight["programs"]["mlp"][layout] for layout in layouts)
    assert data["communication"] == {"entry": {"all-reduce": 1}, "inside": {"all-reduce": 1}}
    assert fsdp["communication"]["inside"] == {"all-reduce": 1}
    assert fsdp["communication"]["entry"]["all-gather"] == fsdp["divided"]


def test_fsdp_gathers_each_divided_parameter_once(eight):
    found = eight["programs"]["mlp"]["data 4 x fsdp 2"]
    assert found["divided"] > 0
    assert found["communication"]["entry"]["all-gather"] == found["divided"]
    assert set(found["communication"]["entry"]) == {"all-gather", "all-reduce"}
    assert found["communication"]["inside"] == {}


def test_the_state_is_donated_whole(eight):
    programs = [found for of_model in eight["programs"].values() for found in of_model.values()]
    for found in [*programs, *eight["memory"].values()]:
        assert found["aliases"]
        assert found["alias"] == found["state_per_device"]


ARGUMENTS = 4096
"""Bytes that a device holds beside its share of the state: its rows of the batch, keys, grids."""

WHOLE = 0.01
"""Share of the state in arrays below `MIN_DIVIDED`, or that nothing divides: these are copied."""


def test_memory_for_the_state_falls_with_the_number_of_devices(eight):
    for fsdp, found in eight["memory"].items():
        share = found["state"] * (1 / int(fsdp) + WHOLE) + ARGUMENTS
        assert found["arguments"] <= share
        assert found["arguments"] >= found["state"] / int(fsdp)
        # While an update runs: the parameters gathered, and the update's copies of what is divided.
        peak = found["arguments"] + found["temporary"]
        assert peak <= 2.4 * found["state"] / int(fsdp) + 2 * found["parameters"]

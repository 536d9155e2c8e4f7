"""Averages from snapshots: exact profiles, sound fits, files that are checked, and the same as averaging directly."""

import json
import math
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from catalogue import mlp_pair
from equisct._base.tree import Frozen
from equisct.train.averages import AbstractAverage, ConstantDecay, PowerFunction, update_average
from equisct.train.posthoc import (
    BINS,
    coefficients,
    combine,
    list_snapshots,
    mean_age,
    profile,
    reconstruct,
    residual,
    save_snapshot,
)
from equisct.train.weights import CheckpointError
from strategies import untyped
from tolerances import BINNING, FLOAT32_ROUNDING, FLOAT64_ROUNDING, RECONSTRUCTED_AVERAGE

NARROW, WIDE = PowerFunction.from_std(0.05), PowerFunction.from_std(0.10)
PAIR = (NARROW, WIDE)


def stored_every(period, steps, averages=PAIR):
    return [(average, end) for end in range(period, steps + 1, period) for average in averages]


# --- profiles ---

RULES = [ConstantDecay(0.9), ConstantDecay(0), PowerFunction(0), PowerFunction(6.94)]


@given(st.sampled_from(RULES), st.integers(1, 200))
def test_profile_sums_to_1(average, steps):
    weights = profile(average, steps)
    assert weights.shape == (steps,)
    assert weights.dtype == np.float64
    assert (weights >= 0).all()
    assert math.isclose(weights.sum(), 1, rel_tol=FLOAT64_ROUNDING)


@pytest.mark.parametrize("average", RULES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_profile_is_what_unit_vectors_come_out_as(average, steps, x64):
    found = jnp.zeros(steps)
    for step, unit in enumerate(np.eye(steps)):
        found = update_average(average, found, jnp.asarray(unit), step)
    np.testing.assert_allclose(profile(average, steps), found, rtol=FLOAT64_ROUNDING, atol=FLOAT64_ROUNDING)


def test_profile_of_a_power_function_telescopes():
    i = np.arange(1, 8)
    np.testing.assert_allclose(profile(PowerFunction(2), 7), (i**3 - (i - 1) ** 3) / 7**3, rtol=FLOAT64_ROUNDING)


def test_profile_of_a_constant_decay_begins_at_the_second_update():
    expected = [0, 0.5**3, 0.5**3, 0.5**2, 0.5]
    np.testing.assert_allclose(profile(ConstantDecay(0.5), 5), expected, rtol=FLOAT64_ROUNDING)


@given(st.sampled_from(RULES), st.integers(1, 200))
def test_mean_age_is_that_of_the_weights_under_the_profile(average, steps):
    expected = (profile(average, steps) * (steps - np.arange(1, steps + 1))).sum()
    np.testing.assert_allclose(mean_age(average, steps), expected, rtol=1e-9, atol=1e-9)


def test_averages_reach_back_as_far_as_is_said():
    assert math.isclose(mean_age(ConstantDecay(0.99993), 400_000), 1 / 7e-5, rel_tol=1e-3)
    ages = [mean_age(PowerFunction.from_std(0.036), steps) / steps for steps in (500, 3_500, 400_000)]
    np.testing.assert_allclose(ages, 1 / (PowerFunction.from_std(0.036).exponent + 2), rtol=0.03)
    assert mean_age(ConstantDecay(0.0), 50) == 0


# --- coefficients ---


@pytest.mark.parametrize("chosen", [0, 5, -2, -1])
@pytest.mark.parametrize("averages", [PAIR, (ConstantDecay(0.99), WIDE, NARROW)], ids=len)
def test_a_stored_average_is_itself(chosen, averages):
    stored = stored_every(100, 1000, averages)
    target, end = stored[chosen]
    stored = [entry for entry in stored if entry[1] <= end]
    expected = np.zeros(len(stored))
    expected[stored.index((target, end))] = 1
    found = coefficients(stored, target, end)
    np.testing.assert_allclose(found, expected, atol=FLOAT64_ROUNDING)
    assert residual(stored, found, target, end) < FLOAT64_ROUNDING


@given(st.floats(0.03, 0.25), st.sampled_from([1, 7, 50, 300]))
def test_coefficients_sum_to_1_and_no_neighbour_is_nearer(std, period):
    stored, target = stored_every(period, 300)[-12:], PowerFunction.from_std(std)
    found = coefficients(stored, target, 300)
    assert math.isclose(found.sum(), 1, rel_tol=FLOAT64_ROUNDING)
    best = residual(stored, found, target, 300)
    for i in range(1, len(stored)):
        for change in (-1e-3, 1e-3):
            other = found.copy()
            other[[0, i]] += [change, -change]
            assert residual(stored, other, target, 300) >= best - FLOAT64_ROUNDING


@pytest.mark.parametrize(("period", "steps", "error"), [(20, 100, 1e-9), (2001, BINS + 5000, BINNING)])
def test_coefficients_are_the_least_squares_of_whole_profiles(period, steps, error):
    """Against the normal equations; in the second case some bins hold two updates and others one."""
    stored, target = stored_every(period, steps), PowerFunction.from_std(0.15)
    rows = np.stack([np.pad(profile(average, end), (0, steps - end)) for average, end in stored], 1)
    wanted = profile(target, steps)
    ones = np.ones((1, len(stored)))
    gram = steps * rows.T @ rows
    system = np.block([[gram, ones.T], [ones, np.zeros((1, 1))]])  # Lagrange: the sum is 1
    expected = np.linalg.solve(system, np.append(steps * rows.T @ wanted, 1))[:-1]
    found = coefficients(stored, target, steps)
    np.testing.assert_allclose(found, expected, atol=error)
    distance = np.linalg.norm(rows @ found - wanted) / np.linalg.norm(wanted)
    assert math.isclose(residual(stored, found, target, steps), distance, rel_tol=1e-9)


def test_a_run_longer_than_the_bins_is_fitted_as_well():
    """Profiles depend on the part of the run alone, so the residual must be that of a short run, fitted exactly."""
    short, long, target = 1000, 400_000, PowerFunction.from_std(0.15)
    assert short < BINS < long
    few, many = stored_every(short // 20, short), stored_every(long // 20, long)
    found = coefficients(many, target, long)
    np.testing.assert_allclose(found, coefficients(few, target, short), atol=0.02)
    assert residual(many, found, target, long) < 0.01
    assert np.abs(found).sum() < 2


def test_one_stored_average_stands_for_everything():
    np.testing.assert_array_equal(coefficients([(NARROW, 10)], ConstantDecay(0.5), 10), [1.0])


# --- the same as averaging directly ---

STEPS, PERIOD, SIZE = 4000, 100, 32
TARGETS = [
    PowerFunction.from_std(0.07),
    PowerFunction.from_std(0.15),
    PowerFunction.from_std(0.20),
    ConstantDecay(0.995),
    ConstantDecay(0.99),
]


@pytest.fixture(scope="module")
def run():
    """A random walk that starts at 5; the pair after every 100 updates, the targets after the last, the last weights.

    The pair's trees are in the order of `stored_every`.
    """
    rules = (*PAIR, *TARGETS)
    walk = 5 + np.random.default_rng(0).normal(size=(STEPS, SIZE)).cumsum(0) / math.sqrt(STEPS)

    def update(kept, entry):
        weights, step = entry
        return tuple(update_average(rule, old, weights, step) for rule, old in zip(rules, kept, strict=True)), None

    def period(kept, entries):
        kept, _ = jax.lax.scan(update, kept, entries)
        return kept, kept[: len(PAIR)]

    entries = (jnp.asarray(walk, jnp.float32).reshape(-1, PERIOD, SIZE), jnp.arange(STEPS).reshape(-1, PERIOD))
    last, snapshots = jax.jit(lambda: jax.lax.scan(period, tuple(jnp.zeros(SIZE) for _ in rules), entries))()
    trees = [average[i] for i in range(STEPS // PERIOD) for average in snapshots]
    return trees, last[len(PAIR) :], walk[-1]


@pytest.mark.parametrize("index", range(len(TARGETS)), ids=lambda i: str(TARGETS[i]))
def test_reconstruction_is_the_average_kept_directly(run, index):
    trees, direct, newest = run
    stored = stored_every(PERIOD, STEPS)
    found = combine(trees, coefficients(stored, TARGETS[index], STEPS))
    error = np.linalg.norm(found - direct[index])
    spread = np.linalg.norm(direct[index] - newest)
    assert error < RECONSTRUCTED_AVERAGE * spread
    for other in (trees[-1], trees[-2]):
        assert np.linalg.norm(found - other) > 10 * error, "the stored averages would have done"


def test_residual_tells_what_cannot_be_reconstructed():
    stored, target = stored_every(PERIOD, STEPS), ConstantDecay(0.9)
    assert residual(stored, coefficients(stored, target, STEPS), target, STEPS) > 0.5
    stored, target = stored_every(PERIOD, STEPS), ConstantDecay(0.995)
    assert residual(stored, coefficients(stored, target, STEPS), target, STEPS) < 0.01


# --- trees ---


class Network(eqx.Module):
    """Every kind of leaf: trained in two precisions, frozen, whole numbers, a setting."""

    weight: jax.Array
    half: jax.Array
    frequencies: Frozen
    updates: jax.Array
    width: int = 3


def network(value, updates):
    half = jnp.full(2, value, jnp.bfloat16)
    return Network(jnp.full((2, 3), value), half, Frozen(jnp.asarray([0.1, 0.7])), jnp.asarray(updates))


def test_combine_sums_floating_point_arrays_and_keeps_the_last_of_the_rest():
    found = combine((network(v, u) for v, u in ((1.0, 1), (2.0, 2), (4.0, 3))), np.asarray([0.5, -1.0, 1.5]))
    assert eqx.tree_equal(found, network(4.5, 3))


def test_combine_accumulates_in_float64():
    trees = [jnp.asarray(x, jnp.float32) for x in (1.0, 1e-4, 1.0)]
    assert math.isclose(float(combine(trees, np.asarray([1e6, 1.0, -1e6]))), 1e-4, rel_tol=FLOAT32_ROUNDING)


# --- files ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Snapshots of a small model at 10, 20 and 30 updates."""
    folder = tmp_path_factory.mktemp("run") / "averages"
    for step in (20, 10, 30):
        save_snapshot(folder, [mlp_pair(step), mlp_pair(step + 1)], PAIR, step)
    return folder


@pytest.fixture
def damaged(folder, tmp_path):
    """A copy to damage: its folder and its newest file."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    return copy, copy / "step_00000030.safetensors"


def test_snapshots_are_listed_in_order_and_nothing_else_is(folder):
    (folder / "notes.txt").write_text("not a snapshot")
    found = list_snapshots(folder)
    assert [snapshot.step for snapshot in found] == [10, 20, 30]
    assert [snapshot.path.name for snapshot in found] == [f"step_000000{step}.safetensors" for step in (10, 20, 30)]
    assert all(snapshot.averages == PAIR for snapshot in found)
    assert list_snapshots(folder / "none") == []
    assert {path.suffix for path in folder.iterdir()} == {".txt", ".safetensors"}


@pytest.mark.parametrize(("steps", "used"), [(None, 30), (30, 30), (25, 20), (10, 10)])
def test_reconstruction_from_files_is_that_in_memory(folder, steps, used):
    target = ConstantDecay(0.9)
    seeds = [step + i for step in range(10, used + 1, 10) for i in range(2)]
    stored = stored_every(10, used)
    expected = coefficients(stored, target, steps or 30)
    shapes = eqx.filter_eval_shape(mlp_pair)
    tree, found = reconstruct(folder, shapes, target, steps)
    assert eqx.tree_equal(tree, combine([mlp_pair(seed) for seed in seeds], expected))
    assert found == residual(stored, expected, target, steps or 30)


def test_a_stored_average_comes_back_from_files(folder):
    tree, found = reconstruct(folder, mlp_pair(), WIDE)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(mlp_pair(31)), strict=True):
        np.testing.assert_allclose(a, b, atol=FLOAT32_ROUNDING)
    assert found < FLOAT64_ROUNDING


def test_a_snapshot_is_replaced_whole_or_not_at_all(damaged, monkeypatch):
    copy, path = damaged
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        save_snapshot(copy, [mlp_pair(), mlp_pair()], PAIR, 30)
    assert path.read_bytes() == before
    assert len(list(copy.glob("step_*"))) == 3


class Unknown(AbstractAverage):
    def share(self, step):
        return jnp.ones(())

    def cumulative(self, updates, steps):
        return (updates >= steps).astype(float)


def test_any_average_can_be_a_target(folder):
    tree, found = reconstruct(folder, mlp_pair(), Unknown())
    assert 0.1 < found < 1  # the newest weights alone are far from what three snapshots can give
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (31, r"steps: expected 10 to 30, as the snapshots .* go, found 31"),
        (9, r"steps: expected 10 to 30, .* found 9"),
    ],
)
def test_steps_without_snapshots(folder, steps, message):
    with pytest.raises(CheckpointError, match=message):
        reconstruct(folder, mlp_pair(), WIDE, steps)


def test_folder_without_snapshots(tmp_path):
    with pytest.raises(CheckpointError, match=r"snapshots: expected files step_NNNNNNNN.safetensors in .*, found none"):
        reconstruct(tmp_path, mlp_pair(), WIDE)


def test_snapshots_of_another_model(folder):
    wider = eqx.tree_at(lambda m: m.cm.torso.out.bias, mlp_pair(), jnp.zeros(5))
    with pytest.raises(CheckpointError, match=r"step_00000010.*array cm/torso/out/bias: expected .*\(5,\), found"):
        reconstruct(folder, wider, WIDE)


def metadata_of(step: int | str = 30, averages=None):
    rules = [{"kind": "PowerFunction", "exponent": 2.0}] if averages is None else averages
    return {"step": str(step), "averages": rules if isinstance(rules, str) else json.dumps(rules)}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, r"expected a file of save_snapshot, found one without its averages"),
        ({"step": "30"}, r"expected a file of save_snapshot"),
        (metadata_of(averages=[{"kind": "os.system", "command": "true"}]), r"ConstantDecay or .*, found 'os.system'"),
        (metadata_of(averages=[{"kind": "PowerFunction"}]), r"expected step and averages in its metadata"),
        (metadata_of(averages=[{"kind": "PowerFunction", "exponent": -1.0}]), r"exponent: expected"),
        (metadata_of(averages=[{"kind": "PowerFunction", "exponent": "2"}]), r"expected step and averages"),
        (metadata_of(averages=[{"kind": "PowerFunction", "exponent": 2.0, "x": 1}]), r"expected step and averages"),
        (metadata_of(averages=[{"exponent": 2.0}]), r"expected step and averages .* 'kind'"),
        (metadata_of(averages=[{"kind": ["PowerFunction"]}]), r"expected step and averages"),
        (metadata_of(averages=[3]), r"expected step and averages"),
        (metadata_of(averages=3), r"expected step and averages"),
        (metadata_of(averages=[]), r"step 30 with 0 averages"),
        (metadata_of(averages="["), r"expected step and averages"),
        (metadata_of(step="thirty"), r"expected step and averages .*thirty"),
        (metadata_of(step=40), r"step 40 with 1 averages"),
    ],
)
def test_metadata_that_is_wrong(damaged, metadata, message):
    copy, path = damaged
    save_file({"0/weight": np.zeros(2, np.float32)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=rf"snapshot .*step_00000030.*{message}"):
        list_snapshots(copy)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * 64], ids=range(3))
def test_damaged_file(damaged, damage):
    copy, path = damaged
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"expected a safetensors file, found a damaged one at .*step_00000030"):
        reconstruct(copy, mlp_pair(), WIDE)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: profile(WIDE, 0), ValueError, r"steps: expected .* >= 1, found 0"),
        (lambda _: profile(WIDE, untyped(1.5)), TypeError, "steps"),
        (lambda _: coefficients([], WIDE, 10), ValueError, r"stored: expected at least one average, found none"),
        (lambda _: coefficients([(WIDE, 11)], WIDE, 10), ValueError, r"stored: .* at most steps = 10 .* found .* 11"),
        (lambda _: coefficients([(WIDE, 0)], WIDE, 10), ValueError, r"stored: expected .* >= 1, found 0"),
        (lambda _: coefficients([(WIDE, 5)], WIDE, 0), ValueError, r"steps: expected"),
        (lambda _: residual([(WIDE, 11)], np.ones(1), WIDE, 10), ValueError, r"stored: expected"),
        (lambda _: combine([], np.zeros(0)), ValueError, r"trees: expected .* at least one, found 0 for 0"),
        (lambda _: combine([1.0, 2.0, 3.0], np.ones(2)), ValueError, r"trees: expected .*, found 3 for 2"),
        (lambda _: combine([1.0], np.ones(2)), ValueError, r"trees: expected .*, found 1 for 2"),
        (
            lambda path: save_snapshot(path, [1], PAIR, 5),
            ValueError,
            r"averages: expected one per tree .*, found 2 for 1",
        ),
        (lambda path: save_snapshot(path, [], [], 5), ValueError, r"averages: expected .* at least one, found 0 for 0"),
        (lambda path: save_snapshot(path, [1], [WIDE], 0), ValueError, r"step: expected .* >= 1, found 0"),
        (lambda path: save_snapshot(path, [1], [Unknown()], 5), ValueError, r"averages: expected Constant.* Unknown"),
        (lambda path: reconstruct(path, 1, untyped(0.9)), TypeError, "target"),
        (lambda _: list_snapshots(untyped(3)), TypeError, "folder"),
    ],
)
def test_bad_calls(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Training: one compilation, donation, the average, skipped updates, gradient parts, devices, the loop, checkpoints."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from catalogue import mlp_pair
from equisct import BoundaryPreconditioning, ConsistencyTraining, Doubling, ScoreGuidedTraining, trainable
from equisct.data import Loader, VectorSet
from equisct.train import (
    ConstantDecay,
    Every,
    NonFiniteError,
    Recipe,
    data_mesh,
    fit,
    init_state,
    load_weights,
    save_weights,
    train_step,
)
from equisct.train.step import _update
from equisct.train.weights import CheckpointError
from strategies import untyped
from tolerances import FLOAT32_CANCELLING

KEY = jr.key(7)
CURRICULUM = Doubling(first=10, last=40, period=2)
OBJECTIVE = ScoreGuidedTraining(curriculum=CURRICULUM)
RECIPE = Recipe(OBJECTIVE, optax.radam(1e-2), average=ConstantDecay(0.5))
BATCH = np.asarray(jr.normal(KEY, (4, 2)))
BAD_BATCH = np.full_like(BATCH, np.nan)


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def equal(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(arrays(a), arrays(b), strict=True))


def compilations():
    return untyped(_update)._cached._cache_size()


def moved(before, after):
    """Which of the trained arrays are others now."""
    trained = [arrays(eqx.filter(model, trainable(model))) for model in (before, after)]
    return [not np.array_equal(a, b) for a, b in zip(*trained, strict=True)]


def steps(recipe, state, count):
    report = untyped(None)
    for step in range(count):
        state, report = train_step(recipe, state, BATCH, jr.fold_in(KEY, step))
    return state, report


def test_whole_run_is_one_compilation_over_all_stages():
    before = compilations()
    state, _ = steps(RECIPE, init_state(RECIPE, mlp_pair()), 8)
    assert compilations() - before <= 1  # none, where another test compiled it
    assert int(state.step) == 8
    assert int(CURRICULUM.stage(7)) == len(CURRICULUM.points) - 1


def test_state_is_donated_and_the_model_given_is_not():
    model = mlp_pair()
    state = init_state(RECIPE, model)
    steps(RECIPE, state, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array)))
    assert all(np.isfinite(leaf).all() for leaf in arrays(model))


def test_training_fits_a_batch():
    recipe = Recipe(OBJECTIVE, optax.adam(1e-2), average=ConstantDecay(0.5))
    state, first = steps(recipe, init_state(recipe, mlp_pair()), 1)
    last = first
    for _ in range(15):
        state, last = train_step(recipe, state, BATCH, jr.fold_in(KEY, 0))
    assert float(last.loss) < 0.9 * float(first.loss)
    assert float(last.terms["denoising"]) < 0.9 * float(first.terms["denoising"])
    assert all(moved(mlp_pair(), state.model))


def test_average_is_overwritten_twice_and_then_moves():
    state = init_state(RECIPE, mlp_pair())
    expected: list[np.ndarray] = []
    for step in range(4):
        state, _ = train_step(RECIPE, state, BATCH, jr.fold_in(KEY, step))
        weights = arrays(state.model)
        expected = weights if step < 2 else [e + 0.5 * (w - e) for e, w in zip(expected, weights, strict=True)]
        for e, found in zip(expected, arrays(state.ema), strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-6, atol=1e-7)
    assert any(moved(state.model, state.ema))


def test_update_that_is_not_finite_changes_nothing_but_the_counters():
    state, _ = steps(RECIPE, init_state(RECIPE, mlp_pair()), 2)
    before = jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, state)
    after, report = train_step(RECIPE, state, BAD_BATCH, KEY)
    assert not bool(report.finite)
    assert equal((before.model, before.ema, before.optimiser_state), (after.model, after.ema, after.optimiser_state))
    assert (int(after.step), int(after.skipped)) == (3, 1)


def test_gradient_parts_are_those_of_each_loss_and_change_no_update():
    split = dataclasses.replace(RECIPE, gradient_parts=True)
    plain_state, plain = steps(RECIPE, init_state(RECIPE, mlp_pair()), 1)
    split_state, report = steps(split, init_state(split, mlp_pair()), 1)
    model, key = mlp_pair(), jr.fold_in(KEY, 0)

    def norm(part):
        loss = lambda m: OBJECTIVE(m, jnp.asarray(BATCH), 0, key=key)[1].weighted[part]
        gradient = eqx.filter_grad(loss)(model)
        trained = eqx.filter(gradient.cm, trainable(gradient.cm))
        return np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(trained)))

    assert sorted(untyped(report).gradient_norms) == ["consistency", "denoising"]
    for part, found in untyped(report).gradient_norms.items():
        np.testing.assert_allclose(found, norm(part), rtol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(report.gradient_norm, plain.gradient_norm, rtol=FLOAT32_CANCELLING)
    assert plain.gradient_norms is None
    assert any(moved(model, split_state.model))
    for a, b in zip(arrays(plain_state.model), arrays(split_state.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_two_devices_train_like_one():
    one, report_one = steps(RECIPE, init_state(RECIPE, mlp_pair()), 3)
    two, report_two = steps(RECIPE, init_state(RECIPE, mlp_pair(), mesh=data_mesh(2)), 3)
    assert len(two.step.sharding.device_set) == 2
    assert any(moved(mlp_pair(), two.model))
    np.testing.assert_allclose(report_one.loss, report_two.loss, rtol=1e-5)
    for a, b in zip(arrays(one.model), arrays(two.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_an_unguided_consistency_model_trains_alone():
    recipe = Recipe(ConsistencyTraining(curriculum=CURRICULUM), optax.radam(1e-3))
    state, report = steps(recipe, init_state(recipe, mlp_pair().cm), 1)
    assert bool(report.finite)
    assert int(state.step) == 1
    assert any(moved(mlp_pair().cm, state.model))


def test_loop_yields_every_update_and_repeats_train_step():
    reports = [report for _, report in fit(RECIPE, init_state(RECIPE, mlp_pair()), [BATCH] * 5, key=KEY, steps=3)]
    assert len(reports) == 3
    _, last = steps(RECIPE, init_state(RECIPE, mlp_pair()), 3)
    np.testing.assert_array_equal(reports[-1].loss, last.loss)


def test_loop_continues_from_the_states_step():
    state, _ = steps(RECIPE, init_state(RECIPE, mlp_pair()), 2)
    *_, (state, last) = fit(RECIPE, state, [BATCH] * 2, key=KEY, steps=4)
    whole, report = steps(RECIPE, init_state(RECIPE, mlp_pair()), 4)
    np.testing.assert_array_equal(last.loss, report.loss)
    assert equal(state, whole)
    assert any(moved(mlp_pair(), whole.model))


def test_loop_halts_when_updates_stay_not_finite_and_forgives_single_ones():
    bad_then_good = [BAD_BATCH, BAD_BATCH, BATCH] * 3
    *_, (state, _) = fit(RECIPE, init_state(RECIPE, mlp_pair()), bad_then_good, key=KEY, steps=9, patience=3)
    assert int(state.skipped) == 6
    message = "expected finite numbers, found 3 updates in a row without, the last at step 3"
    with pytest.raises(NonFiniteError, match=message):
        list(fit(RECIPE, init_state(RECIPE, mlp_pair()), [BATCH] + [BAD_BATCH] * 9, key=KEY, steps=9, patience=3))


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_state_of_the_error_is_that_after_the_update_it_names(patience):
    """The batch after those at fault is good again: it must not be in."""
    batches = [BATCH, BATCH, *[BAD_BATCH] * patience, BATCH, BATCH]
    with pytest.raises(NonFiniteError) as end:
        list(fit(RECIPE, init_state(RECIPE, mlp_pair()), batches, key=KEY, steps=9, patience=patience))
    before, _ = steps(RECIPE, init_state(RECIPE, mlp_pair()), 2)
    found = end.value.state
    assert end.value.step == patience + 1
    assert (int(found.step), int(found.skipped), int(found.skipped_in_row)) == (patience + 2, patience, patience)
    for part in ("model", "ema", "optimiser_state"):
        assert equal(getattr(found, part), getattr(before, part)), part


def test_updates_at_fault_before_the_loop_began_count():
    state, _ = train_step(RECIPE, init_state(RECIPE, mlp_pair()), BAD_BATCH, KEY)
    with pytest.raises(NonFiniteError) as end:
        list(fit(RECIPE, state, [BAD_BATCH, BATCH, BATCH], key=KEY, steps=4, patience=2))
    assert (end.value.step, int(end.value.state.step)) == (1, 2)


def told_by_the_loop(steps, *actions):
    """What happens in a loop, in order: batches taken, actions done, updates yielded."""
    happened = []

    def batches():
        for step in range(steps):
            happened.append(f"batch {step}")
            yield BATCH

    def noting(name, late):
        def action(now):
            if late:
                assert now.state is None
            else:
                assert int(now.state.step) == now.step
            assert now.report.loss.shape == ()
            happened.append(f"{name} {now.step}")

        return action

    listed = [Every(n, noting(name, late), also=also, late=late) for name, n, also, late in actions]
    for state, _ in fit(RECIPE, init_state(RECIPE, mlp_pair()), batches(), key=KEY, steps=steps, actions=listed):
        happened.append(f"yield {int(state.step)}")
    return happened


def never(step):
    return False


def test_an_action_without_the_state_is_one_update_late():
    found = told_by_the_loop(4, ("log", 1, never, True))
    assert found == ["batch 0", "log 1", "yield 1", "batch 1", "yield 2", "batch 2", "log 2", "yield 3", "batch 3",
                     "log 3", "yield 4", "log 4"]  # fmt: skip


def test_actions_are_done_in_their_order_with_the_state_before_the_next_update():
    found = told_by_the_loop(
        5, ("save", 2, lambda step: step == 5, False), ("draw", 2, never, False), ("log", 1, never, True)
    )
    assert [line for line in found if not line.startswith("batch")] == [
        "log 1", "yield 1", "log 2", "save 2", "draw 2", "yield 2", "yield 3", "log 3", "log 4", "save 4", "draw 4",
        "yield 4", "log 5", "save 5", "yield 5"]  # fmt: skip
    assert told_by_the_loop(2, ("never", 0, never, False), ("late", 0, never, True)) == told_by_the_loop(2)


def test_nothing_is_done_with_a_state_at_fault():
    happened = []
    actions = [
        Every(1, lambda now: happened.append(("save", now.step))),
        Every(1, lambda now: happened.append(("log", now.step)), late=True),
    ]
    batches = [BATCH, BAD_BATCH, BAD_BATCH, BATCH]
    with pytest.raises(NonFiniteError):
        list(fit(RECIPE, init_state(RECIPE, mlp_pair()), batches, key=KEY, steps=4, patience=2, actions=actions))
    assert happened == [("log", 1), ("save", 1), ("log", 2), ("save", 2), ("log", 3)]


def test_what_an_action_raises_ends_the_loop():
    def stop(now):
        raise KeyError(now.step)

    with pytest.raises(KeyError, match="2"):
        list(fit(RECIPE, init_state(RECIPE, mlp_pair()), [BATCH] * 3, key=KEY, steps=3, actions=[Every(2, stop)]))


def test_a_loader_is_asked_for_the_batches_of_the_states_step():
    points = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    loader = Loader(VectorSet(points, name="points"), 4, seed=0)
    *_, (whole, _) = fit(RECIPE, init_state(RECIPE, mlp_pair()), loader, key=KEY, steps=4)
    *_, (state, _) = fit(RECIPE, init_state(RECIPE, mlp_pair()), loader, key=KEY, steps=2)
    *_, (state, _) = fit(RECIPE, state, loader, key=KEY, steps=4)
    assert equal(state, whole)


BAD = {
    "ema": (lambda: Recipe(OBJECTIVE, optax.sgd(1.0), average=ConstantDecay(1.0)), r"decay: .* \[0, 1\), found 1.0"),
    "steps": (
        lambda: list(fit(RECIPE, init_state(RECIPE, mlp_pair()), [], key=KEY, steps=-1)),
        "steps: .* >= 0, found -1",
    ),
    "batches": (
        lambda: list(fit(RECIPE, init_state(RECIPE, mlp_pair()), [], key=KEY, steps=1)),
        "batches: expected one per update until step 1, found none for step 0",
    ),
    "n": (lambda: Every(-1, print), "n: .* >= 0, found -1"),
    "devices": (lambda: data_mesh(99), r"devices: expected 1 to \d+ \(those there are\), found 99"),
    "indivisible": (
        lambda: train_step(RECIPE, init_state(RECIPE, mlp_pair(), mesh=data_mesh(2)), BATCH[:3], KEY),
        "batch: expected a multiple of the 2 devices, found 3 samples",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_checkpoint_brings_back_every_bit(tmp_path):
    model, ema = mlp_pair(0), mlp_pair(1)
    save_weights(tmp_path / "w.safetensors", model=model, ema=ema, metadata={"step": "3"})
    like = eqx.filter_eval_shape(mlp_pair)
    assert equal(load_weights(tmp_path / "w.safetensors", like), ema)
    assert equal(load_weights(tmp_path / "w.safetensors", like, group="model"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, model=mlp_pair(), ema=mlp_pair())
    like = mlp_pair()
    wider = eqx.tree_at(lambda m: m.cm.torso.out.bias, like, jnp.zeros(3))
    more = eqx.tree_at(lambda m: m.cm.preconditioning, like, replace_fn=lambda p: (p, jnp.zeros(1)))
    less = eqx.tree_at(lambda m: m.cm.torso.out, like, None)
    with pytest.raises(
        CheckpointError, match=r"array cm/torso/out/bias: expected float32 \(3,\), found float32 \(2,\)"
    ):
        load_weights(path, wider)
    with pytest.raises(CheckpointError, match=r"expected an array cm/preconditioning/1 \(1,\), found none"):
        load_weights(path, more)
    with pytest.raises(CheckpointError, match=r"found also cm/torso/out/bias: another model"):
        load_weights(path, less)
    with pytest.raises(CheckpointError, match="expected a file, found none at"):
        load_weights(tmp_path / "none.safetensors", like)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="expected a safetensors file, found a damaged one"):
        load_weights(path, like)


# --- what cannot be trained ---


def test_an_objective_says_which_models_it_can_train():
    with pytest.raises(TypeError, match="model: expected a ScoreGuidedModel, whose head is trained too, found Consist"):
        init_state(RECIPE, mlp_pair().cm)
    other = BoundaryPreconditioning(sigma_min=0.01)
    pair = eqx.tree_at(lambda pair: pair.cm.preconditioning, mlp_pair(), other)
    for objective, model in ((OBJECTIVE, pair), (ConsistencyTraining(curriculum=CURRICULUM), pair.cm)):
        with pytest.warns(UserWarning, match=r"sigma_min: expected one for .*, found 0\.002 and 0\.01; the endpoint"):
            init_state(dataclasses.replace(RECIPE, objective=objective), model)


def test_a_state_that_is_used_up_is_named():
    state = init_state(RECIPE, mlp_pair())
    train_step(RECIPE, state, BATCH, KEY)
    with pytest.raises(ValueError, match="state: expected the one that the last train_step returned, found one that"):
        train_step(RECIPE, state, BATCH, KEY)

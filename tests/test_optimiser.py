"""Optimisers of optax: what some want beside the gradient, keys that some keep; through checkpoint and weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from optax import contrib

from catalogue import mlp_pair
from equisct import Doubling, ScoreGuidedTraining
from equisct.train import (
    CheckpointStore,
    Recipe,
    data_mesh,
    init_state,
    load_weights,
    read_checkpoint,
    restarting,
    save_weights,
    train_step,
)
from strategies import untyped
from tolerances import FLOAT32_CANCELLING

KEY = jr.key(3)
BATCH = np.ones((4, 2), np.float32)


def squares(model, batch, step, *, key):
    """A loss of one array, whose program compiles in no time."""
    del step, key
    return jnp.square(model["w"] - batch).mean(), None


PLATEAU = optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau())
OPTIMISERS = {
    "value, in a state of steps gathered": optax.MultiSteps(PLATEAU, 2).gradient_transformation(),
    "value, begun anew": restarting(PLATEAU, (1,)),
    "value, grad, value_fn": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3)),
    "obj_fn": contrib.sophia(0.1),
    "grad_fn": contrib.sam(optax.sgd(0.1), optax.sgd(0.1), sync_period=2, opaque_mode=True),
    "typed key, begun anew": restarting(optax.noisy_sgd(0.1, key=jr.key(0)), (1,)),
}


def numbers(tree):
    words = lambda leaf: jr.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return [np.asarray(words(leaf)) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def check_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(numbers(a), numbers(b), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wanted", OPTIMISERS)
def test_an_optimiser_trains_and_goes_on_from_a_checkpoint_whatever_it_wants_or_holds(wanted, tmp_path):
    recipe, model = Recipe(squares, OPTIMISERS[wanted]), {"w": jnp.zeros((4, 2))}
    begin = lambda: init_state(recipe, model, mesh=data_mesh(2))
    state, first = train_step(recipe, begin(), BATCH, KEY)
    store = CheckpointStore(tmp_path)
    store.save(1, state, {})
    store.wait()
    _, again, _ = untyped(store.restore(begin()))
    store.close()
    check_equal(again, state)
    check_equal(read_checkpoint(tmp_path, eqx.filter_eval_shape(begin)).optimiser_state, state.optimiser_state)
    last = first
    for _ in range(2):
        state, _ = train_step(recipe, state, BATCH, KEY)
        again, last = train_step(recipe, again, BATCH, KEY)
    assert float(last.loss) < float(first.loss)
    check_equal(again, state)


def test_keys_in_a_model_come_back_from_its_weights(tmp_path):
    model = {"key": jr.key(5), "keys": jr.split(jr.key(6, impl="rbg"), 3), "w": jnp.ones(2)}
    save_weights(tmp_path / "w.safetensors", model=model, ema=model)
    for like in (model, eqx.filter_eval_shape(lambda: model)):
        found = load_weights(tmp_path / "w.safetensors", like)
        check_equal(found, model)
        assert [found[name].dtype for name in ("key", "keys")] == [model[name].dtype for name in ("key", "keys")]


class Told(eqx.Module):
    """What an optimiser was told at its last update."""

    value: jax.Array
    again: jax.Array
    grad: object
    grad_again: object


def test_an_optimiser_is_told_the_loss_its_gradient_and_its_function():
    """Of one batch and its draws: the numbers in microbatches, the function in one piece."""

    def update(updates, state, params, *, value, grad, value_fn):
        del state
        again, grad_again = jax.value_and_grad(value_fn)(params)
        return jax.tree.map(jnp.zeros_like, updates), Told(value, again, grad, grad_again)

    start = lambda params: Told(jnp.zeros(()), jnp.zeros(()), params, params)
    objective = ScoreGuidedTraining(curriculum=Doubling(first=10, last=40, period=2))
    recipe = Recipe(objective, optax.GradientTransformationExtraArgs(untyped(start), untyped(update)), microbatches=2)
    state, report = train_step(recipe, init_state(recipe, mlp_pair()), np.asarray(jr.normal(KEY, (4, 2))), KEY)
    told = untyped(state.optimiser_state)
    assert float(told.value) == float(report.loss)
    np.testing.assert_allclose(told.again, told.value, rtol=FLOAT32_CANCELLING)
    scale = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(told.grad))
    for one, other in zip(numbers(told.grad), numbers(told.grad_again), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=FLOAT32_CANCELLING * scale)

"""How an update is computed changes what it costs, not what it is: lower precision, recomputation, microbatches."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import BOUNDARY, UNET, in_float64, mlp_pair, unet_pair
from equisct import ConsistencyModel, Doubling, ScoreGuidedModel, ScoreGuidedTraining, ScoreHead
from equisct.model import Readout, in_precision
from equisct.nn import HeadMLP, HeadUNet, Lowered, TorsoMLP, ncsnpp
from equisct.nn.precision import lower
from equisct.train import ConstantDecay, Recipe, init_state, train_step
from equisct.train.gradient import batch_gradient
from strategies import untyped
from tolerances import BFLOAT16_NETWORK, FLOAT32_NETWORK, FLOAT32_ROUNDING, FLOAT64_ROUNDING

KEY = jr.key(7)
OBJECTIVE = ScoreGuidedTraining(curriculum=Doubling(first=10, last=40, period=2))
RECIPE = Recipe(OBJECTIVE, optax.radam(1e-3), average=ConstantDecay(0.5))
LOWER = dataclasses.replace(RECIPE, compute_dtype=jnp.bfloat16)
SMALL = {"torso_channels": 4, "torso_embedding": 16}
IMAGES = np.asarray(jr.normal(KEY, (8, 1, 4, 4)))
VECTORS = np.asarray(jr.normal(KEY, (8, 2)))
CM = mlp_pair().cm


def loud_mlp_pair() -> ScoreGuidedModel:
    """Its output layers are not near zero, so that what its inside does can be seen."""
    outputs = lambda m: (m.cm.torso.out.weight, m.head.network.out.weight)
    return eqx.tree_at(outputs, mlp_pair(), replace_fn=lambda w: 1e5 * w)


PAIRS = {"mlp": (loud_mlp_pair, VECTORS), "unet": (unet_pair, IMAGES)}

gradient_of = eqx.filter_jit(batch_gradient)


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def distance(a, b) -> float:
    """Between two trees, relative to the second."""
    flat = [np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in arrays(tree)]) for tree in (a, b)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def kept_for_backward(function, *trees) -> int:
    """Bytes that the forward pass keeps for the backward pass."""
    residuals = jax.eval_shape(lambda *trees: jax.vjp(function, *trees)[1], *trees)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))


def loss_of(objective, model, batch):
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)
    return (lambda parameters: objective(eqx.combine(parameters, rest), jnp.asarray(batch), 3, key=KEY)[0]), parameters


# --- lower precision ---


@pytest.mark.parametrize("name", PAIRS)
def test_lower_precision_stays_inside_the_networks(name):
    make, batch = PAIRS[name]
    found, plain = (gradient_of(recipe, make(), jnp.asarray(batch), 3, key=KEY) for recipe in (LOWER, RECIPE))
    assert {leaf.dtype.name for leaf in arrays(found)} == {"float32"}
    np.testing.assert_array_equal(*(g.terms.per_level["consistency"].count for g in (found, plain)))
    assert found.loss != plain.loss
    np.testing.assert_allclose(found.loss, plain.loss, rtol=BFLOAT16_NETWORK)


def test_lower_precision_leaves_the_state_in_float32():
    state, report = train_step(LOWER, init_state(LOWER, mlp_pair()), VECTORS, KEY)
    assert {leaf.dtype.name for leaf in arrays(state)} <= {"float32", "int32"}
    assert report.loss.dtype == jnp.float32
    assert bool(report.finite)


@pytest.mark.parametrize("name", PAIRS)
def test_the_noise_embedding_is_that_of_float32_to_the_bit(name):
    make, batch = PAIRS[name]
    model = make()
    read = eqx.filter_jit(lambda model: jax.vmap(model.cm)(jnp.asarray(batch), jnp.linspace(0.002, 80.0, 8)))
    found, plain = read(in_precision(model, jnp.bfloat16)), read(model)
    np.testing.assert_array_equal(found.embedding, plain.embedding)
    assert not np.array_equal(found.features, plain.features)
    kept = lower(model.cm.torso, jnp.bfloat16)
    assert {leaf.dtype.name for leaf in arrays(untyped(kept).mapping)} == {"float32"}
    assert "bfloat16" in {leaf.dtype.name for leaf in arrays(kept)}


@eqx.filter_jit
def lowest_endpoint(cm, x):
    return in_precision(cm, jnp.bfloat16).endpoint(x, BOUNDARY.sigma_min)


@given(st.floats(-1e3, 1e3, width=32))
def test_the_endpoint_at_the_lowest_level_is_the_input_exactly(value):
    x = jnp.full((2,), value)
    np.testing.assert_array_equal(lowest_endpoint(CM, x), x)


def test_float32_is_the_model_itself_and_float64_is_left_alone(x64):
    del x64
    model = in_float64(mlp_pair())
    assert in_precision(model, jnp.float32) is model
    batch = jnp.asarray(VECTORS, jnp.float64)
    found = eqx.filter_eval_shape(lambda: batch_gradient(RECIPE, model, batch, 3, key=KEY))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found.gradient)} == {"float64"}


def test_lowered_networks_are_made_at_the_moment_of_use():
    model = in_precision(mlp_pair(), jnp.bfloat16)
    assert isinstance(model.cm.torso, Lowered)
    assert {leaf.dtype.name for leaf in arrays(eqx.filter(model, eqx.is_inexact_array))} == {"float32"}


# --- recomputation ---


def torso_alone(*, remat: bool) -> ConsistencyModel:
    """Its output layer is not near zero, so that every gradient is visible."""
    torso = ncsnpp(**UNET, dropout=0.5, remat=remat, key=KEY)
    return ConsistencyModel(eqx.tree_at(lambda t: t.body.out.weight, torso, replace_fn=lambda w: 1e5 * w), BOUNDARY)


def test_recomputed_blocks_give_the_same_gradient_and_keep_less():
    recipe = dataclasses.replace(RECIPE, objective=OBJECTIVE.base)
    found, plain = (
        gradient_of(recipe, torso_alone(remat=remat), jnp.asarray(IMAGES), 3, key=KEY) for remat in (True, False)
    )
    np.testing.assert_allclose(found.loss, plain.loss, rtol=FLOAT32_ROUNDING)
    assert distance(found.gradient, plain.gradient) < FLOAT32_NETWORK
    batch = np.zeros((256, 1, 4, 4), np.float32)
    kept = {
        remat: kept_for_backward(*loss_of(OBJECTIVE.base, torso_alone(remat=remat), batch)) for remat in (True, False)
    }
    assert kept[True] < 0.5 * kept[False]


def test_every_unet_of_a_pair_recomputes():
    keep = {
        remat: HeadUNet(**UNET, torso_channels=4, torso_embedding=16, remat=remat, key=KEY) for remat in (True, False)
    }
    assert [untyped(head).body.remat for head in keep.values()] == [True, False]


# --- the teacher ---


def constant(cm):
    """A map that needs no network."""
    del cm
    return lambda x, sigma, *, key=None: Readout(jnp.zeros_like(x), jnp.zeros((1, 1)), jnp.zeros(1))


@pytest.mark.parametrize("name", PAIRS)
def test_the_teacher_keeps_nothing_for_the_backward_pass(name):
    make, batch = PAIRS[name]
    free = eqx.tree_at(lambda o: o.base, OBJECTIVE, dataclasses.replace(OBJECTIVE.base, bootstrap=constant))
    with_teacher, without = (kept_for_backward(*loss_of(o, make(), batch)) for o in (OBJECTIVE, free))
    assert with_teacher == without


# --- microbatches ---


def check_microbatches(recipe, model, batch, count, rounding):
    plain = gradient_of(recipe, model, jnp.asarray(batch), 3, key=KEY)
    found = gradient_of(dataclasses.replace(recipe, microbatches=count), model, jnp.asarray(batch), 3, key=KEY)
    assert distance(found.gradient, plain.gradient) < rounding
    np.testing.assert_allclose(found.loss, plain.loss, rtol=rounding)
    np.testing.assert_array_equal(*(g.terms.per_level["consistency"].count for g in (found, plain)))
    sums = (g.terms.per_level["consistency"].total for g in (found, plain))
    np.testing.assert_allclose(*sums, rtol=10 * rounding)
    if recipe.gradient_parts:
        np.testing.assert_allclose(*(untyped(g).part_norms["denoising"] for g in (found, plain)), rtol=rounding)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_microbatches_give_the_gradient_of_the_batch(count, parts, x64):
    """In float64, where the order of a sum hides nothing."""
    del x64
    recipe = dataclasses.replace(RECIPE, gradient_parts=parts)
    check_microbatches(recipe, in_float64(mlp_pair()), np.asarray(VECTORS, np.float64), count, 10 * FLOAT64_ROUNDING)


def test_microbatches_of_images_give_the_gradient_of_the_batch():
    check_microbatches(RECIPE, unet_pair(), IMAGES, 4, FLOAT32_ROUNDING)


def test_microbatches_need_less_memory():
    cm = ConsistencyModel(TorsoMLP(2, 32, depth=2, key=KEY), BOUNDARY)
    model = ScoreGuidedModel(cm, ScoreHead(HeadMLP(2, 32, depth=2, torso_width=32, key=KEY), BOUNDARY))
    batch = jnp.zeros((4096, 2))

    def temporary(count):
        recipe = dataclasses.replace(RECIPE, microbatches=count)
        program = untyped(gradient_of).lower(recipe, model, batch, 3, key=KEY).compile().compiled
        return program.memory_analysis().temp_size_in_bytes

    assert temporary(8) < 0.4 * temporary(1)


BAD = {
    "no parts": (
        lambda: Recipe(untyped(lambda model, batch, step, *, key: (0.0, None)), optax.sgd(1.0), microbatches=2),
        "microbatches: expected an objective with draw, sample_losses and reduce, found function",
    ),
    "none": (lambda: dataclasses.replace(RECIPE, microbatches=0), "microbatches: expected .* 1, found 0"),
    "indivisible": (
        lambda: gradient_of(dataclasses.replace(RECIPE, microbatches=3), mlp_pair(), jnp.asarray(VECTORS), 3, key=KEY),
        "microbatches: expected a divisor of the batch's 8 samples, found 3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()

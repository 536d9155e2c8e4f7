"""A batch is a pytree: from data set to loader to update it comes through whole, and its condition meets its sample."""

import contextlib
import dataclasses
import itertools
import types
from typing import Any

import equinox as eqx
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct as sct
from catalogue import BOUNDARY, mlp_pair
from equisct import Example, Pair
from equisct._base.tree import batch_size
from equisct.app.runs.halt import _report
from equisct.data import DataError, Dataset, GrainLoader, ImageSet, Loader, PairSet
from equisct.train import Recipe, compile_step, data_mesh, fit, init_state, train_step
from equisct.train.placement import shard_batch
from strategies import untyped
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(3)
SIZE, CLASSES = 12, 3
CURRICULUM = sct.Constant(5)


@dataclasses.dataclass
class Tree:
    """A pytree of arrays of one first axis as a data set."""

    tree: Any
    shape: tuple[int, ...] = (1,)

    @property
    def size(self):
        return batch_size(self.tree)

    def take(self, indices, flip=None):
        return jax.tree.map(lambda leaf: leaf[indices], self.tree)


# --- data set and loader ---

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
LEAVES = st.tuples(DTYPES, st.lists(st.integers(0, 3), max_size=2)).flatmap(
    lambda found: hnp.arrays(found[0], (SIZE, *found[1]), elements={"allow_nan": False} if found[0](0.5) else None)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
        st.lists(inner, min_size=1, max_size=3),
        st.builds(Example, inner, st.none() | inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=5,
)


@given(TREES, st.integers(0, 2**64 - 1), st.integers(1, SIZE), st.integers(0, 20))
def test_loading_a_tree_is_loading_each_of_its_leaves(tree, seed, batch, step):
    found = Loader(Tree(tree), batch, seed=seed).batch(step)
    apart = jax.tree.map(lambda leaf: Loader(Tree(leaf), batch, seed=seed).batch(step), tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    assert batch_size(found) == batch
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(apart), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


NUMBERED = Example(np.arange(SIZE, dtype=np.float32)[:, None], {"class": np.arange(SIZE), "none": None})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tree_read_ahead_is_that_of_the_loader_and_stays(workers):
    big = np.random.default_rng(0).normal(size=(SIZE, 64, 64))  # more than Grain sends by itself
    dataset = Tree(Pair(big, NUMBERED))
    with contextlib.closing(GrainLoader(dataset, 4, seed=1, start=2, workers=workers)) as loader:
        found = list(itertools.islice(loader, 4))
    expected = [Loader(dataset, 4, seed=1).batch(step) for step in range(2, 6)]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (type(one), one.dtype) == (np.ndarray, other.dtype)
        np.testing.assert_array_equal(one, other)


def test_pairs_are_taken_together():
    z, x = np.random.default_rng(0).normal(size=(2, 5, 1, 2, 2)).astype(np.float32)
    dataset = PairSet(z, x, "teacher", "mine")
    assert isinstance(dataset, Dataset)
    assert (dataset.size, dataset.shape) == (5, (1, 2, 2))
    found, indices = Loader(dataset, 3, seed=0).batch(4), Loader(dataset, 3, seed=0).indices(4)
    assert isinstance(found, Pair)
    np.testing.assert_array_equal(found.z, z[indices])
    np.testing.assert_array_equal(found.x, x[indices])
    with pytest.raises(DataError, match="mine: flip: found flips for pairs"):
        Loader(dataset, 3, seed=0, flip=True).batch(0)


# --- the size of a batch ---


@given(TREES)
def test_the_size_of_a_batch_is_the_first_axis_of_every_array(tree):
    assert batch_size(tree) == SIZE
    assert batch_size(jax.tree.map(lambda leaf: leaf[:5], tree)) == 5


X, NUMBERS = np.zeros((4, 2), np.float32), np.arange(4)
RECIPE = Recipe(sct.ConsistencyTraining(curriculum=CURRICULUM), optax.sgd(1e-2))
RAGGED = {
    "two lengths": (Example(X, NUMBERS[:3]), r"found .x (4, 2), .condition (3,)"),
    "a number": ({"a": X, "b": np.ones(())}, r"found ['a'] (4, 2), ['b'] ()"),
    "a number alone": (np.ones(()), "found ()"),
    "nothing": (Example(None), "found none"),
}


@pytest.mark.parametrize("name", RAGGED)
def test_a_ragged_batch_is_named(name):
    batch, message = RAGGED[name]
    state = init_state(RECIPE, mlp_pair().cm)
    calls = {
        "size": lambda: batch_size(batch),
        "share": lambda: shard_batch(batch, data_mesh(2)),
        "update": lambda: train_step(RECIPE, state, batch, KEY),
        "program": lambda: compile_step(RECIPE, state, batch, KEY),
        "loop": lambda: list(fit(RECIPE, state, [batch], key=KEY, steps=1)),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match="batch: expected arrays of one first axis") as refused:
            call()
        assert message in str(refused.value)


def test_every_array_of_a_batch_is_divided_among_the_devices():
    found = shard_batch(Example(X, {"a": NUMBERS}), data_mesh(2))
    for leaf, whole in zip(jax.tree.leaves(found), (X, NUMBERS), strict=True):
        np.testing.assert_array_equal(leaf, whole)
        assert untyped(leaf).sharding.shard_shape(leaf.shape)[0] == 2


# --- objectives ---


class Conditional(eqx.Module):
    """A torso with a row of numbers for each class."""

    torso: sct.nn.TorsoMLP
    rows: jax.Array

    def __call__(self, x, c_noise, *, condition, key=None):
        return self.torso(x + self.rows[condition["class"]], c_noise, key=key)


class Bound(eqx.Module):
    """The same for one class alone."""

    torso: Conditional
    number: int = eqx.field(static=True)

    def __call__(self, x, c_noise, *, key=None):
        return self.torso(x, c_noise, condition={"class": self.number}, key=key)


def loud(network):
    """A network whose answer is not near zero."""
    return eqx.tree_at(lambda network: network.out.weight, network, replace_fn=lambda w: 3e5 * w)


PLAIN = loud(sct.nn.TorsoMLP(2, 8, depth=1, key=KEY))
TORSO = Conditional(PLAIN, 2 * jr.normal(jr.fold_in(KEY, 1), (CLASSES, 2)))
TEACHER = Conditional(PLAIN, 2 * jr.normal(jr.fold_in(KEY, 2), (CLASSES, 2)))
HEAD = sct.ScoreHead(loud(sct.nn.HeadMLP(2, 8, depth=1, key=KEY)), BOUNDARY)
HALVING = sct.Halving(4, 1, starts=(0, 10, 20))


def consistency(torso):
    return sct.ConsistencyModel(torso, BOUNDARY)


def denoising(torso, form=None):
    return sct.DenoisingModel(torso, form or sct.EDMPreconditioning())


def both(torso):
    return sct.ScoreGuidedModel(consistency(torso), HEAD)


ORIGINAL = sct.OriginalConsistencyTraining(curriculum=sct.SquareRoot(total_steps=4))
OWN = sct.ScoreGuided(sct.ConsistencyDistillation(denoise=None), 0.3, sct.EDMWeighting())
METHODS = {
    "EDM": lambda a, b: (sct.EDMTraining(), denoising(a)),
    "DDPM": lambda a, b: (sct.DDPMTraining(), denoising(a, sct.VPPreconditioning())),
    "CT": lambda a, b: (ORIGINAL, sct.WithTeacher(consistency(a), consistency(b))),
    "iCT": lambda a, b: (sct.ConsistencyTraining(curriculum=CURRICULUM), consistency(a)),
    "iCT+SH": lambda a, b: (sct.ScoreGuidedTraining(curriculum=CURRICULUM), both(a)),
    "head law": lambda a, b: (
        sct.ScoreGuidedTraining(curriculum=CURRICULUM, head_law=sct.LogNormal()), both(a)
    ),
    "CD": lambda a, b: (sct.ConsistencyDistillation(denoise=denoising(b).denoise), consistency(a)),
    "CD of itself": lambda a, b: (OWN, both(a)),
    "ECT": lambda a, b: (sct.EasyConsistencyTuning(curriculum=CURRICULUM), consistency(a)),
    "sCT": lambda a, b: (sct.ContinuousConsistency(warmup=0, tangent_c=None), consistency(a)),
    "PD": lambda a, b: (
        sct.ProgressiveDistillation.from_curriculum(HALVING), sct.WithTeacher(denoising(a), denoising(b))
    ),
}  # fmt: skip
POINTS = 0.5 * jr.normal(jr.fold_in(KEY, 4), (SIZE, 2))
OF = jnp.arange(SIZE) % CLASSES


@pytest.mark.parametrize("name", METHODS)
def test_each_sample_is_trained_under_its_own_condition(name):
    """Every network that a method asks, student, teacher and denoiser, against one that knows a single class."""
    objective, model = METHODS[name](TORSO, TEACHER)
    told = untyped(objective.draw(Example(POINTS, {"class": OF}), 0, key=KEY))
    untold = untyped(objective.draw(POINTS, 0, key=KEY))
    assert untold.condition is None
    found = objective.sample_losses(model, told)
    alone = []
    for number in range(CLASSES):
        objective, model = METHODS[name](Bound(TORSO, number), Bound(TEACHER, number))
        alone.append(objective.sample_losses(model, untold))
    every = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    for one, each in zip(jax.tree.leaves(found), jax.tree.leaves(every), strict=True):
        np.testing.assert_allclose(one, each[OF, np.arange(SIZE)], rtol=FLOAT32_CANCELLING)
    losses = np.sum([loss.value for loss in every.values()], axis=0)
    assert (np.ptp(losses, 0) > 1e-2 * losses.min(0)).all(), f"{np.ptp(losses, 0) / losses.min(0)}"


@pytest.mark.parametrize("name", METHODS)
def test_an_example_without_a_condition_is_a_bare_array(name):
    objective, model = METHODS[name](PLAIN, PLAIN)
    found, expected = (objective(model, batch, 0, key=KEY) for batch in (Example(POINTS), POINTS))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_augmented_examples_keep_their_condition():
    images = jnp.ones((4, 1, 4, 4))
    draws = sct.EDMTraining(augment=sct.Augmentation(0.5)).draw(Example(images, jnp.arange(4)), 0, key=KEY)
    np.testing.assert_array_equal(untyped(draws.condition), np.arange(4))
    seen = []

    def model(x_t, sigma, *, condition, augment_labels, key=None):
        seen.append((untyped(condition).shape, untyped(augment_labels).shape))
        return x_t

    sct.EDMTraining(augment=sct.Augmentation(0.5)).sample_losses(model, draws)
    assert seen == [((), (9,))]


WRONG = {
    "pairs where there is no noise to give": lambda: sct.EDMTraining().draw(untyped(Pair(POINTS, POINTS)), 0, key=KEY),
    "whole numbers": lambda: sct.EDMTraining().draw(Example(OF[:, None]), 0, key=KEY),
    "an array where pairs are wanted": lambda: sct.KnowledgeDistillation().draw(untyped(POINTS), 0, key=KEY),
    "pairs of two shapes": lambda: sct.KnowledgeDistillation().draw(Pair(POINTS, POINTS[:, :1]), 0, key=KEY),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_batch_that_an_objective_cannot_take_is_refused(name):
    with pytest.raises(TypeError, match=r"(?i)type-?check|beartype|violates"):
        WRONG[name]()


# --- training ---


class Labelled:
    """Points and their classes, as anyone would write it."""

    size, shape = SIZE, (2,)

    def take(self, indices, flip=None):
        return Example(np.asarray(POINTS)[indices], {"class": np.asarray(OF)[indices]})


@pytest.mark.parametrize(("microbatches", "devices"), [(1, None), (2, None), (1, 2), (2, 2)])
def test_a_torso_that_takes_a_condition_is_trained_through_the_loader(microbatches, devices):
    """In any layout the updates are those of the gradient of the batch's loss, and reach every row of classes."""
    recipe = Recipe(sct.ScoreGuidedTraining(curriculum=CURRICULUM), optax.sgd(1e-2), microbatches=microbatches)
    loader, model = Loader(Labelled(), 8, seed=2), both(TORSO)
    state = init_state(recipe, model, mesh=data_mesh(devices) if devices else None)
    for step in range(2):
        batch, key = jax.tree.map(jnp.asarray, loader.batch(step)), jr.fold_in(KEY, step)
        (loss, _), gradient = eqx.filter_value_and_grad(recipe.objective, has_aux=True)(model, batch, step, key=key)
        trained = eqx.filter(gradient, sct.trainable(model))
        model = eqx.apply_updates(model, jax.tree.map(lambda g: -1e-2 * g, trained))
        state, report = train_step(recipe, state, loader.batch(step), key)
        np.testing.assert_allclose(report.loss, loss, rtol=FLOAT32_CANCELLING)
    for one, other in zip(jax.tree.leaves(state.model), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=FLOAT32_CANCELLING, atol=FLOAT32_ROUNDING)
    assert (untyped(state.model).cm.torso.rows != TORSO.rows).all()


def test_pairs_are_trained_on_in_microbatches_and_on_two_devices():
    pairs = Pair(np.asarray(jr.normal(KEY, (SIZE, 2))), np.asarray(POINTS))
    reports = []
    for microbatches, mesh in ((1, None), (3, None), (2, data_mesh(2))):
        recipe = Recipe(sct.KnowledgeDistillation(), optax.sgd(1e-2), microbatches=microbatches)
        reports.append(train_step(recipe, init_state(recipe, denoising(PLAIN), mesh=mesh), pairs, KEY)[1])
    by_hand = jax.vmap(lambda z: denoising(PLAIN)(80.0 * z, 80.0))(pairs.z) - pairs.x
    for report in reports:
        np.testing.assert_allclose(report.loss, np.abs(by_hand).mean(), rtol=FLOAT32_CANCELLING)


class Seen(eqx.Module):
    """An objective of one's own on a dictionary, which says what arrives."""

    def __call__(self, model, batch, step, *, key):
        residual = jax.vmap(model)(batch["from"]) - batch["to"]
        return jnp.square(residual).mean(), {name: str(untyped(leaf).dtype) == name for name, leaf in batch.items()}


def test_a_tree_of_ones_own_reaches_an_objective_of_ones_own_unharmed():
    kinds = {"from": X, "to": X, "float32": X.astype(np.float64), "int32": NUMBERS, "uint8": NUMBERS.astype(np.uint8),
             "bool": NUMBERS > 1}  # fmt: skip
    recipe = Recipe(Seen(), optax.sgd(1e-2))
    state = init_state(recipe, eqx.nn.Linear(2, 2, key=KEY), mesh=data_mesh(2))
    *_, (state, report) = fit(recipe, state, [kinds] * 2, key=KEY, steps=2)
    assert int(state.step) == 2
    assert report.terms == {name: name not in ("from", "to") for name in kinds}
    assert compile_step(recipe, state, kinds, KEY).memory_analysis() is not None


def test_a_report_about_an_update_looks_at_every_array():
    recipe = Recipe(sct.EDMTraining(), optax.sgd(1e-2))
    bad = np.where(NUMBERS[:, None] == 2, np.nan, X)
    batch = Example(bad, {"class": np.arange(4) % CLASSES, "more": np.array([0.0, np.inf, 0.0, 0.0], np.float32)})
    loader = untyped(types.SimpleNamespace(batch=lambda step: batch, indices=lambda step: NUMBERS))
    job = untyped(types.SimpleNamespace(recipe=recipe, train_key=KEY))
    assert _report(job, 0, init_state(recipe, denoising(TORSO)), loader)["samples_not_finite"] == [1, 2]


def test_images_and_their_labels_make_examples():
    images = ImageSet(np.zeros((6, 4, 4, 1), np.uint8), "mine", np.arange(6))
    dataset = Tree(Example(images.take(np.arange(6)), images.labels), images.shape)
    loader = Loader(dataset, 4, seed=0, flip=True)
    np.testing.assert_array_equal(loader.batch(3).condition, loader.indices(3))

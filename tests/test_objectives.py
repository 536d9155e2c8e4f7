"""Objectives: expected values in closed form, gradient rules, shared dropout, terms, stages, warnings."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import function_cm, function_pair, mlp_pair, unet_pair
from equisct import (
    L1,
    Consistency,
    ConsistencyTraining,
    Constant,
    ConstantWeighting,
    Doubling,
    LogNormal,
    PseudoHuber,
    PseudoHuberNorm,
    ScoreGuidedTraining,
    SquaredL2,
    Uniform,
    cut,
    oracle,
)
from equisct.objectives.slots import DenoiserVelocity, one_sample_velocity
from equisct.objectives.terms import bin_edges
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(3)
CURRICULUM = Doubling(first=10, last=40, period=5)
BATCH = jr.normal(jr.key(1), (6, 2))


def zero(x, *_):
    return jnp.zeros_like(x)


def parts_of(objective, model, batch, step, *, key):
    return objective.reduce(objective.sample_losses(model, objective.draw(batch, step, key=key)))


INITIAL = {0.003: 0.413, 0.03: 0.311, 0.00054: 0.430}


@pytest.mark.parametrize("c", INITIAL)
def test_losses_of_an_untrained_pair_have_their_known_values(c):
    """Raw outputs of zero in the boundary form, data of per-pixel second moment 0.25, the grid of 11 points."""
    model = mlp_pair()
    zeros = lambda m: (m.cm.torso.out, m.head.network.out)
    model = eqx.tree_at(zeros, model, replace_fn=lambda layer: jax.tree.map(jnp.zeros_like, layer))
    batch = 0.5 * jr.normal(KEY, (200_000, 2))
    objective = ScoreGuidedTraining(curriculum=Constant(11), distance=PseudoHuber(c), stratify=True)
    parts, terms = eqx.filter_jit(parts_of)(objective, model, batch, 0, key=KEY)
    np.testing.assert_allclose(parts.denoising, 0.300, rtol=0.01)
    np.testing.assert_allclose(terms.denoising, 1.0, rtol=0.01)
    np.testing.assert_allclose(parts.consistency, INITIAL[c], rtol=0.01)


def test_unweighted_head_loss_has_its_known_value():
    model = eqx.tree_at(
        lambda m: m.head.network.out, mlp_pair(), replace_fn=lambda layer: jax.tree.map(jnp.zeros_like, layer)
    )
    objective = ScoreGuidedTraining(curriculum=Constant(11), head_weighting=ConstantWeighting(), stratify=True)
    batch = 0.5 * jr.normal(KEY, (200_000, 2))
    np.testing.assert_allclose(eqx.filter_jit(objective)(model, batch, 0, key=KEY)[1].denoising, 0.134, rtol=0.01)


@pytest.fixture(scope="module")
def gradients():
    """Gradients of one batch under the objectives to compare, compiled once each."""

    def of(objective, model, step=0):
        return eqx.filter_jit(eqx.filter_grad(lambda m: objective(m, BATCH, step, key=KEY)[0]))(model)

    return of


def same(a, b, tolerance=FLOAT32_CANCELLING):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in leaves)


def test_teacher_gives_no_gradient(gradients):
    model = mlp_pair().cm
    cut_teacher = ConsistencyTraining(curriculum=CURRICULUM)
    frozen = jax.tree.map(lambda leaf: leaf, model)
    fixed = dataclasses.replace(cut_teacher, bootstrap=lambda cm: frozen)
    open_teacher = dataclasses.replace(cut_teacher, bootstrap=lambda cm: cm)
    assert same(gradients(cut_teacher, model), gradients(fixed, model))
    assert not same(gradients(cut_teacher, model), gradients(open_teacher, model))


def test_an_unguided_head_changes_nothing_in_the_consistency_model(gradients):
    def pair(*, guide):
        return eqx.tree_at(lambda m: m.head.network.out.weight, mlp_pair(guide=guide), replace_fn=lambda w: 1e5 * w)

    alone = gradients(ConsistencyTraining(curriculum=CURRICULUM), pair(guide=True).cm)
    score_guided = ScoreGuidedTraining(curriculum=CURRICULUM)
    assert same(alone, gradients(score_guided, pair(guide=False)).cm)
    assert not same(alone, gradients(score_guided, pair(guide=True)).cm)


def bits(x, sigma, key):
    return jr.bernoulli(key, 0.5, x.shape).astype(x.dtype)


@pytest.mark.parametrize("shared", [True, False])
def test_both_torso_calls_see_the_same_dropout_bits(shared):
    objective = ConsistencyTraining(curriculum=CURRICULUM, share_dropout=shared)
    loss, _ = objective(function_cm(bits), jnp.zeros((50, 8)), 0, key=KEY)
    assert (float(loss) == 0) is shared


def test_dropout_is_on_while_training():
    objective = ConsistencyTraining(curriculum=CURRICULUM)
    batch = jr.normal(KEY, (2, 1, 4, 4))
    # The second convolution, behind the dropout, starts near zero: enlarge one.
    cm = eqx.tree_at(lambda cm: cm.torso.body.middle[1].conv1.weight, unet_pair().cm, replace_fn=lambda w: 1e5 * w)
    loss = eqx.filter_jit(lambda cm, rate: objective(_with_dropout(cm, rate), batch, 0, key=KEY)[0])
    assert float(loss(cm, 0.5)) != float(loss(cm, 0.0))


def _with_dropout(cm, rate):
    return eqx.tree_at(lambda cm: cm.torso.body.middle[1].dropout, cm, rate)


def test_exact_velocity_and_map_leave_a_residual_that_vanishes_with_the_gap():
    """Euler-stepped, it falls like the gap squared, so like the gap once weighted; built from data it stays."""
    truth = oracle.Gaussian(mean=0.0, std=0.5)
    exact = function_cm(lambda x, sigma, key: truth.transport(x, sigma, 0.002))
    x = 0.5 * jr.normal(KEY, (4000, 1))

    def residual(points, velocity):
        made = ConsistencyTraining(curriculum=Constant(points), distance=L1(), law=Uniform())
        objective = dataclasses.replace(made, velocity=velocity)
        return float(eqx.filter_jit(objective)(exact, x, 0, key=KEY)[0])

    stepped = [residual(points, DenoiserVelocity(truth.denoise)) for points in (11, 21, 41, 81)]
    from_data = [residual(points, one_sample_velocity) for points in (11, 81)]
    ratios = np.divide(stepped[:-1], stepped[1:])
    assert (ratios > 1.7).all()  # two in the limit
    assert from_data[0] < 1.5 * from_data[1]
    assert stepped[-1] < 0.1 * from_data[-1]


@given(st.integers(0, 20), st.integers(0, 2**31 - 1), st.booleans())
def test_loss_is_the_sum_of_its_parts_and_bins_add_up(step, seed, stratify):
    objective = ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=0.5, stratify=stratify)
    loss, terms, parts = _evaluate(objective, jnp.asarray(step), jr.key(seed))
    np.testing.assert_allclose(loss, terms.consistency + 0.5 * terms.denoising, rtol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(parts.total(), loss, rtol=FLOAT32_ROUNDING)
    assert terms.count_per_bin.sum() == len(BATCH)
    np.testing.assert_allclose(terms.consistency_per_bin.sum() / len(BATCH), terms.consistency, rtol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(terms.denoising_per_bin.sum() / len(BATCH), terms.denoising, rtol=FLOAT32_CANCELLING)
    assert float(loss) >= 0


@eqx.filter_jit
def _evaluate(objective, step, key):
    model = mlp_pair()
    parts, terms = parts_of(objective, model, BATCH, step, key=key)
    return objective(model, BATCH, step, key=key)[0], terms, parts


def test_bins_hold_the_levels_between_their_edges():
    edges = bin_edges(0.002, 80.0)
    assert (edges[0], len(edges)) == (pytest.approx(0.002), 9)
    objective = ConsistencyTraining(curriculum=Constant(81))
    draw = objective.draw(jnp.zeros((500, 2)), 0, key=KEY)
    _, terms = objective(function_cm(zero), jnp.zeros((500, 2)), 0, key=KEY)
    counts, _ = np.histogram(draw.pair.t, edges)
    np.testing.assert_array_equal(terms.count_per_bin, counts)


def test_one_compilation_serves_all_stages():
    objective = ScoreGuidedTraining(curriculum=CURRICULUM)
    traces = []

    @eqx.filter_jit
    def loss(objective, model, step):
        traces.append(step)
        return objective(model, BATCH, step, key=KEY)[0]

    values = {float(loss(objective, mlp_pair(), jnp.asarray(step))) for step in range(0, 20, 4)}
    assert len(traces) == 1
    assert len(values) == len(CURRICULUM.points)


def test_stratified_levels_have_the_same_mean_loss_and_less_variance():
    def losses(stratify):
        objective = ConsistencyTraining(curriculum=Constant(41), distance=SquaredL2(), stratify=stratify)
        cm = function_cm(lambda x, sigma, key: x / (1 + sigma))
        batch = jnp.ones((16, 2))
        return jax.jit(jax.vmap(lambda key: objective(cm, batch, 0, key=key)[0]))(jr.split(KEY, 4000))

    independent, stratified = losses(False), losses(True)
    standard_error = float(jnp.std(independent)) / 4000**0.5
    assert abs(float(independent.mean() - stratified.mean())) < 5 * standard_error
    assert stratified.var() < independent.var()


def test_head_may_have_a_level_law_of_its_own():
    law = LogNormal(mean=-1.2, std=1.2)
    seen = function_pair(zero, lambda x, sigma: jnp.full_like(x, jnp.log(sigma)))
    objective = ScoreGuidedTraining(curriculum=CURRICULUM, head_law=law, head_weighting=ConstantWeighting())
    _, terms = objective(seen, jnp.zeros((20_000, 1)), 0, key=KEY)
    np.testing.assert_allclose(terms.denoising, 1.2**2 + 1.2**2, rtol=0.05)


def test_a_head_weight_far_out_of_balance_warns():
    wide = jnp.ones((2, 3072))
    pair = function_pair(zero, zero)
    with pytest.warns(
        UserWarning, match=r"head_weight: with PseudoHuberNorm on 3072 elements .* about 16.6, found 0.3"
    ):
        ScoreGuidedTraining(curriculum=CURRICULUM, distance=PseudoHuberNorm())(pair, wide, 0, key=KEY)
    ScoreGuidedTraining(curriculum=CURRICULUM, distance=PseudoHuberNorm(), head_weight=16.6)(pair, wide, 0, key=KEY)
    ScoreGuidedTraining(curriculum=CURRICULUM)(pair, wide, 0, key=KEY)


BAD = {
    "negative head weight": (
        lambda: ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=-1.0),
        "head_weight: .* >= 0",
    ),
    "nan head weight": (
        lambda: ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=float("nan")),
        "head_weight: .* nan",
    ),
    "levels": (
        lambda: ConsistencyTraining(curriculum=CURRICULUM, sigma_min=2.0, sigma_max=1.0),
        "sigma_min: expected less than sigma_max = 1.0, found 2.0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_setting_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_batch_without_a_batch_axis_is_refused():
    objective = ScoreGuidedTraining(curriculum=CURRICULUM)
    with pytest.raises(TypeError, match="batch"):
        objective(mlp_pair(), jnp.ones(()), 0, key=KEY)


def test_the_template_takes_any_callables_in_its_slots():
    made = ConsistencyTraining(curriculum=CURRICULUM)
    objective = Consistency(
        curriculum=CURRICULUM,
        levels=made.levels,
        distance=SquaredL2(),
        weighting=ConstantWeighting(),
        velocity=lambda model, draw: lambda x_t, sigma: (x_t - draw.x) / sigma,
        bootstrap=lambda cm: cut(cm),
    )
    same_as = ConsistencyTraining(curriculum=CURRICULUM, distance=SquaredL2(), weighting=ConstantWeighting())
    cm = mlp_pair().cm
    found, expected = (o(cm, BATCH, 0, key=KEY)[0] for o in (objective, same_as))
    np.testing.assert_allclose(found, expected, rtol=1e-3)

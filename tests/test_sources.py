"""Sources of the small step, generated origins, parts by update, gradients in a ratio: laws, numbers, flags."""

import dataclasses
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import equisct as sct
from catalogue import BOUNDARY, function_cm, function_pair, mlp_pair
from equisct import train
from equisct.app import methods, presets
from equisct.app.parts.recipe import build_recipe
from equisct.app.settings.data import Digits
from equisct.data import VectorSet
from equisct.objectives.slots import Draw, Keys
from equisct.oracle import Empirical, Gaussian
from equisct.train import gradient as gradients
from strategies import untyped
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(8)
CURRICULUM = sct.Doubling(first=4, last=16, period=5)
BATCH = jr.normal(jr.key(1), (8, 2))
POINTS = jnp.asarray(np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32))
LAW = Empirical(POINTS)
X_T, SIGMA = jnp.array([0.3, -0.4]), 0.7
EXACT = sct.pf_drift(LAW.denoise(X_T, SIGMA), X_T, SIGMA)


def leaves(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))])


# --- each source's mean is the velocity of the PF-ODE ---

KNOWING = function_pair(lambda x, sigma, key: x, lambda x, sigma: LAW.denoise(x, sigma))
"""A pair whose head is the exact posterior mean."""
IGNORANT = function_pair(lambda x, sigma, key: x, lambda x, sigma: 0 * x)
TAUGHT = sct.WithTeacher(IGNORANT, KNOWING)
SOURCES = {
    "one sample": (IGNORANT, sct.one_sample_velocity),
    "denoiser": (IGNORANT, sct.DenoiserVelocity(LAW.denoise)),
    "own head": (KNOWING, sct.head_velocity),
    "own head beside a teacher": (sct.WithTeacher(KNOWING, IGNORANT), sct.head_velocity),
    "teacher's head": (TAUGHT, sct.teacher_head_velocity),
    "mix": (KNOWING, sct.MixedVelocity(sct.head_velocity, sct.one_sample_velocity, 0.3)),
    "mix beyond its ends": (TAUGHT, sct.MixedVelocity(sct.teacher_head_velocity, sct.one_sample_velocity, lambda d: 3)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_mean_of_a_source_over_the_samples_behind_one_x_t_is_the_pf_odes_velocity(name):
    model, velocity = SOURCES[name]
    keys = Keys(KEY, KEY, KEY, KEY, KEY)

    def field(x):
        draw = Draw(x, (X_T - x) / SIGMA, sct.LevelPair.from_levels(SIGMA, 0.5), keys)
        seen = sct.TorsoPass(x, X_T, SIGMA, sct.Readout(X_T, X_T, X_T), KEY)
        return velocity(model, draw, seen)(X_T, SIGMA)

    found = jax.vmap(field)(POINTS)
    np.testing.assert_allclose(LAW.posterior(X_T, SIGMA) @ found, EXACT, atol=FLOAT32_CANCELLING)
    noise = {"one sample": 1.0, "mix": 0.7}.get(name, 0.0)
    alone = (X_T - POINTS) / SIGMA - EXACT
    np.testing.assert_allclose(found - EXACT, noise * alone, atol=FLOAT32_CANCELLING)


def test_a_teachers_head_needs_a_teacher_with_one():
    draw = Draw(X_T, X_T, sct.LevelPair.from_levels(SIGMA, 0.5), Keys(KEY, KEY, KEY, KEY, KEY))
    seen = sct.TorsoPass(X_T, X_T, SIGMA, sct.Readout(X_T, X_T, X_T), KEY)
    with pytest.raises(TypeError, match="model: expected a WithTeacher .set Recipe.teacher_share.*Guided"):
        sct.teacher_head_velocity(KNOWING, draw, seen)
    with pytest.raises(TypeError, match="model: expected a teacher with a score head.* ConsistencyModel"):
        sct.teacher_head_velocity(sct.WithTeacher(KNOWING, KNOWING.cm), draw, seen)


PAIRS = sct.WithTeacher(mlp_pair(0), mlp_pair(1))
BOTH_HEADS = sct.MixedVelocity(sct.head_velocity, sct.teacher_head_velocity, lambda draw: 0.5)
PLAIN = sct.ConsistencyTraining(curriculum=CURRICULUM, distance=sct.SquaredL2(), step=sct.heun_correction)
CUT = {"velocity": BOTH_HEADS, "origin": sct.GeneratedOrigin(1.0)}


class Fixed(eqx.Module):
    """A slot that has closed over a model, with its gradient."""

    source: Any
    model: Any

    def __call__(self, _, *args):
        return self.source(self.model, *args)


@eqx.filter_jit
def gradient(fill):
    """Of the student; `fill` makes the objective of the model."""

    def loss(student):
        model = sct.WithTeacher(student, PAIRS.teacher)
        return fill(model)(model, BATCH, 3, key=KEY)[0]

    return leaves(eqx.filter_grad(loss)(PAIRS.student))


@pytest.mark.parametrize("slot", CUT)
def test_no_gradient_goes_through_a_source(slot):
    """It is that with a model in the slot that is closed over, fixed or not."""
    own, leaking, fixed, plain = (
        gradient(lambda model, each=each: dataclasses.replace(PLAIN, **each(model)))
        for each in (
            lambda model: {slot: CUT[slot]},
            lambda model: {slot: Fixed(CUT[slot], model)},
            lambda model: {slot: Fixed(CUT[slot], PAIRS)},
            lambda model: {},
        )
    )
    scale = float(jnp.abs(own).max())
    np.testing.assert_allclose(leaking, own, atol=FLOAT32_CANCELLING * scale)
    np.testing.assert_allclose(fixed, own, atol=FLOAT32_CANCELLING * scale)
    assert float(jnp.abs(plain - own).max()) > 0.01 * scale, "the slot does nothing here"


# --- generated origins ---

TRUTH = Gaussian(mean=0.0, std=0.5, shape=(1,))
MAP = function_cm(lambda x, sigma, key: TRUTH.transport(x, sigma, 0.002))


def origins(share, x):
    """What the exact flow map makes of a batch, and the draws."""
    origin = sct.GeneratedOrigin(share)
    made = sct.ConsistencyTraining(curriculum=sct.Constant(11), origin=origin)

    @jax.jit
    def of(x):
        draws = made.draw(x, 0, key=KEY)
        return jax.vmap(lambda draw: origin(MAP, draw))(draws), draws

    return of(x)


def test_an_exact_generator_keeps_the_law_of_the_data_and_ties_each_sample_to_its_noise():
    """For a Gaussian in closed form: the variance of the data, covariance `r a` with the noise, a lower cost."""
    x = 0.5 * jr.normal(jr.key(2), (40_000, 1))
    found, draws = origins(1.0, x)
    r = np.asarray(draws.pair.r, float)
    a = np.sqrt((0.25 + 0.002**2) / (0.25 + r**2))
    expected = a * (np.asarray(x, float)[:, 0] + r * np.asarray(draws.z, float)[:, 0])
    np.testing.assert_allclose(found[:, 0], expected, atol=FLOAT32_CANCELLING)
    error = 5 / np.sqrt(len(x))
    assert abs(found.var() / 0.25 - 1) < 1.5 * error
    assert abs(float((found * draws.z).mean()) - (r * a).mean()) < error
    assert float(jnp.square(found - draws.z).mean()) < float(jnp.square(x - draws.z).mean()) - 0.1


def test_a_share_of_the_batch_is_generated_and_none_of_it_is_consistency_training_to_the_bit():
    x = 0.5 * jr.normal(jr.key(2), (40_000, 1))
    none, whole = origins(0.0, x)[0], origins(1.0, x)[0]
    np.testing.assert_array_equal(none, x)
    half, _ = origins(0.5, x)
    chosen = np.asarray(half == whole)
    np.testing.assert_array_equal(half, np.where(chosen, whole, x))
    assert abs(chosen.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(x))
    cm = PAIRS.student.cm
    loss = eqx.filter_jit(eqx.filter_value_and_grad(lambda cm, objective: objective(cm, BATCH, 0, key=KEY)[0]))
    plain = sct.ConsistencyTraining(curriculum=CURRICULUM)
    same, as_ever = (loss(cm, dataclasses.replace(plain, origin=each)) for each in (sct.GeneratedOrigin(0.0), None))
    np.testing.assert_array_equal(same[0], as_ever[0])
    np.testing.assert_array_equal(leaves(same[1]), leaves(as_ever[1]))


def test_both_ends_of_the_pair_are_noised_from_what_was_generated():
    """A generator that gives one number c: the student sees `c + t z`, the teacher `c + r z`."""
    nothing = sct.ConsistencyTraining(curriculum=CURRICULUM, distance=sct.L1(), weighting=sct.ConstantWeighting())
    constant = function_cm(lambda x, sigma, key: 0 * x + 7.0)
    objective = dataclasses.replace(nothing, origin=sct.GeneratedOrigin(1.0, lambda model: constant))
    identity = function_cm(lambda x, sigma, key: x)
    draws = objective.draw(BATCH, 0, key=KEY)
    losses, seen = jax.vmap(lambda draw: objective.sample_loss(identity, draw))(draws)
    t, gap = (jnp.asarray(each)[:, None] for each in (draws.pair.t, draws.pair.gap))
    np.testing.assert_allclose(seen.x_t, 7 + t * draws.z, rtol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(seen.x, BATCH)
    np.testing.assert_allclose(
        losses["consistency"].value, jnp.abs(gap * draws.z).mean(1), rtol=FLOAT32_CANCELLING, atol=FLOAT32_CANCELLING
    )


def test_a_heun_step_to_level_0_is_an_euler_step():
    field = lambda x, sigma: x / sigma
    for r, expected in ((0.0, 0.0), (1.0, X_T * 0.5)):
        found = sct.heun_correction(field, X_T, sct.LevelPair.from_levels(2.0, r))
        np.testing.assert_allclose(found, expected, atol=FLOAT32_ROUNDING)


def test_several_heun_steps_quarter_the_error_when_they_are_doubled(x64):
    """From level 80 to the data in one pair, against the closed-form flow map; one of them is `heun_correction`."""
    del x64
    law = sct.oracle.ProductMixture(jnp.array([-1.0, 0.5]), 0.3, jnp.eye(2))
    x_t = 80 * jr.normal(KEY, (200, 2))
    exact = jax.vmap(lambda x: law.transport(x, 80.0, 0.002))(x_t)
    field = lambda x, sigma: sct.pf_drift(law.denoise(x, sigma), x, sigma)
    pair = sct.LevelPair.from_levels(80.0, 0.002)

    def error(step):
        return float(jnp.sqrt(jnp.square(jax.vmap(lambda x: step(field, x, pair))(x_t) - exact).sum(1).mean()))

    errors = [error(sct.HeunSteps(count)) for count in (20, 40)]
    assert errors[1] < 0.01, errors
    assert 0.2 < errors[1] / errors[0] < 0.3, errors
    np.testing.assert_array_equal(sct.HeunSteps(1)(field, x_t[0], pair), sct.heun_correction(field, x_t[0], pair))
    assert error(sct.HeunSteps(1)) > 0.1  # what the others take away
    ends = sct.HeunSteps(3)(lambda x, sigma: x / sigma, X_T, sct.LevelPair.from_levels(2.0, 0.0))
    np.testing.assert_allclose(ends, 0 * X_T, atol=FLOAT32_ROUNDING)
    for wrong in (lambda: sct.HeunSteps(0), lambda: sct.HeunSteps(2, rho=0.0)):
        with pytest.raises(ValueError, match="(count|rho): expected a finite number"):
            wrong()


# --- parts by update ---


def test_parts_count_by_the_update_and_a_part_of_factor_0_has_no_gradient():
    base = sct.ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=0.4)
    factors = {"consistency": lambda step: step >= 3, "denoising": optax.linear_schedule(1.0, 0.0, 10)}
    scaled, traced = sct.ScaledParts(base, factors), []

    @eqx.filter_jit
    def evaluate(model, step):
        traced.append(step)
        (loss, terms), found = eqx.filter_value_and_grad(scaled, has_aux=True)(model, BATCH, step, key=KEY)
        parts = lambda model: base(model, BATCH, step, key=KEY)[1].weighted
        each = {name: eqx.filter_grad(lambda m, name=name: parts(m)[name])(model) for name in factors}
        return loss, terms, parts(model), leaves(found), jax.tree.map(leaves, each, is_leaf=lambda n: n is not each)

    for step, consistency, denoising in ((0, 0, 1), (2, 0, 0.8), (3, 1, 0.7), (12, 1, 0)):
        loss, terms, parts, found, each = evaluate(PAIRS.student, jnp.int32(step))
        expected = consistency * parts["consistency"] + denoising * parts["denoising"]
        np.testing.assert_allclose(loss, expected, rtol=FLOAT32_CANCELLING)
        np.testing.assert_allclose(terms["consistency"], parts["consistency"], rtol=FLOAT32_CANCELLING)
        wanted = consistency * each["consistency"] + denoising * each["denoising"]
        np.testing.assert_allclose(found, wanted, atol=FLOAT32_CANCELLING * float(jnp.abs(found).max()))
    assert len(traced) == 1


def test_a_part_that_is_not_there_and_a_factor_that_is_no_number_are_refused():
    base = sct.ConsistencyTraining(curriculum=CURRICULUM)
    for factors, words in (
        ({"denoising": lambda step: step}, r"factors: expected parts of the objective, \['consistency'\], found 'deno"),
        ({"consistency": lambda step: jnp.ones(2)}, r"factors\['consistency'\]: expected to return one number, found"),
    ):
        with pytest.raises(ValueError, match=words):
            sct.ScaledParts(base, factors)(PAIRS.student.cm, BATCH, 0, key=KEY)


def test_a_delayed_curriculum_begins_late():
    late = sct.Delayed(CURRICULUM, 7)
    assert late.points == CURRICULUM.points
    found = jax.vmap(late.stage)(jnp.arange(30))
    np.testing.assert_array_equal(found, [0] * 7 + [int(CURRICULUM.stage(step)) for step in range(23)])
    with pytest.raises(ValueError, match="delay: expected a finite number >= 0, found -1"):
        sct.Delayed(CURRICULUM, -1)


# --- gradients in a ratio, in an update ---


@eqx.filter_jit
def batch_gradient(recipe):
    return gradients.batch_gradient(recipe, PAIRS.student, BATCH, 0, key=KEY)


def gradient_by(**options: Any) -> Any:
    guided = sct.ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=0.4)
    return batch_gradient(train.Recipe(**({"objective": guided, "optimiser": optax.sgd(1.0)} | options)))


def test_a_parts_gradient_over_the_torso_is_as_long_as_asked_in_microbatches_too():
    """The head's own parameters have the factor alone: here 3."""
    alone = gradient_by(gradient_parts=True)
    ratio = 3 * float(alone.part_norms["denoising"] / alone.part_norms["consistency"])
    found = gradient_by(gradient_ratios={"denoising": ratio}, gradient_parts=True)
    np.testing.assert_allclose(
        [found.part_norms["denoising"], found.part_norms["consistency"], found.loss],
        [3 * alone.part_norms["denoising"], alone.part_norms["consistency"], alone.loss],
        rtol=FLOAT32_CANCELLING,
    )
    own = leaves(alone.gradient.head)
    np.testing.assert_allclose(
        leaves(found.gradient.head), 3 * own, atol=FLOAT32_CANCELLING * float(jnp.abs(own).max())
    )
    parts = gradient_by(gradient_ratios={"denoising": ratio}, microbatches=2)
    assert parts.part_norms is None
    whole = leaves(found.gradient)
    np.testing.assert_allclose(leaves(parts.gradient), whole, atol=FLOAT32_CANCELLING * float(jnp.abs(whole).max()))


def test_where_there_is_no_gradient_to_compare_a_part_keeps_its_own():
    first = sct.ScaledParts(sct.ScoreGuidedTraining(curriculum=CURRICULUM), {"consistency": lambda step: step >= 3})
    found, alone = (gradient_by(objective=first, **each) for each in ({"gradient_ratios": {"denoising": 9.0}}, {}))
    scale = float(jnp.abs(leaves(alone.gradient)).max())
    np.testing.assert_allclose(leaves(found.gradient), leaves(alone.gradient), atol=FLOAT32_CANCELLING * scale)
    with pytest.raises(ValueError, match=r"gradient_ratios: expected some of the parts \['consist.*found \['x'\]"):
        gradient_by(gradient_ratios={"x": 1.0})
    with pytest.raises(ValueError, match=r"gradient_ratios\['denoising'\]: expected a finite number > 0, found -1"):
        gradient_by(gradient_ratios={"denoising": -1.0})
    with pytest.raises(ValueError, match="gradient_ratios: expected an objective with draw, sample_losses and reduce"):
        gradient_by(objective=lambda model, batch, step, *, key: 0.0, gradient_ratios={"denoising": 1.0})


# --- on the command line ---

CONFIG = dataclasses.replace(presets.TINY, run=dataclasses.replace(presets.TINY.run, steps=100))


def recipe_of(method: Any, dataset: Any = None) -> Any:
    config = dataclasses.replace(CONFIG, method=method, data=Digits())
    method.check(config)
    dataset = dataset or VectorSet(np.asarray(POINTS), "points")
    return build_recipe(config, method.build(config, (1, 8, 8)), None, dataset)


def test_flags_choose_source_share_schedule_and_ratio():
    plain = recipe_of(methods.ScoreGuidance())
    assert (type(plain.objective), plain.teacher_share, plain.gradient_ratios) == (sct.ScoreGuided, None, {})
    own = recipe_of(methods.ScoreGuidance(velocity="head", heun_steps=1))
    assert own.objective.base.velocity is sct.head_velocity
    mixed = recipe_of(methods.ScoreGuidance(velocity="teacher-head", velocity_share=0.25, teacher_decay=0.9))
    velocity = mixed.objective.base.velocity
    assert (velocity.first, velocity.second) == (sct.teacher_head_velocity, sct.one_sample_velocity)
    assert velocity.share == 0.25
    np.testing.assert_allclose([mixed.teacher_share(k) for k in (0, 1, 8, 50)], [1, 0.5, 1 / 9, 0.1], rtol=1e-6)
    half = recipe_of(methods.ICT(velocity="posterior", velocity_share=0.5)).objective.velocity
    assert isinstance(half.first, sct.DenoiserVelocity)
    assert recipe_of(methods.ScoreGuidance(head_ratio=2.0)).gradient_ratios == {"denoising": 2.0}
    first = recipe_of(methods.ScoreGuidance(denoise_first=0.4, first=10, last=80)).objective
    assert [bool(first.factors["consistency"](step)) for step in (0, 39, 40, 99)] == [False, False, True, True]
    stages = [int(first.base.base.curriculum.stage(step)) for step in (0, 54, 55, 70, 99)]
    assert stages == [0, 0, 1, 2, 3]
    late = recipe_of(methods.ScoreGuidance(head_from=0.2, head_until=0.5)).objective
    counts = [bool(late.factors["denoising"](step)) for step in (0, 19, 20, 49, 50)]
    assert (list(late.factors), counts) == (["denoising"], [False, False, True, True, False])


REFUSED = {
    "share": (methods.ICT(velocity="posterior", velocity_share=1.5), r"velocity_share: expected a number in \[0, 1\]"),
    "share of the sample": (methods.ICT(velocity_share=0.5), "velocity_share: expected 1 with the velocity sample"),
    "references": (methods.ICT(velocity="posterior", references=9), "references: expected at most .* 5 samples"),
    "no weight": (methods.ScoreGuidance(velocity="head", head_weight=0), "head_weight: expected > 0 with method.velo"),
    "no weight first": (
        methods.ScoreGuidance(denoise_first=0.2, head_weight=0),
        "head_weight: .* method.denoise_f",
    ),
    "no weight, CD": (methods.CD(head_weight=0), "head_weight: expected > 0 without a method.teacher"),
    "late head": (methods.ScoreGuidance(velocity="head", head_from=0.5), "velocity: expected sample or posterior"),
    "early head": (methods.ScoreGuidance(velocity="teacher-head", head_until=0.5), "velocity: expected sample or"),
    "decay": (methods.ScoreGuidance(velocity="head", teacher_decay=0.5), "teacher_decay: expected none with the velo"),
    "order": (methods.ScoreGuidance(head_from=0.5, head_until=0.5), "head_until: expected more than method.head_from"),
    "nothing first": (methods.ScoreGuidance(denoise_first=0.3, head_from=0.1), "denoise_first: expected 0, or a head"),
    "nothing after": (methods.ScoreGuidance(denoise_first=0.3, head_until=0.1), "denoise_first: expected 0, or a head"),
    "all of it": (methods.ScoreGuidance(denoise_first=1.0), r"denoise_first: expected a number in \[0, 1\)"),
    "ratio": (methods.ScoreGuidance(head_ratio=0), "head_ratio: expected a finite number > 0, found 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_flags_that_do_not_fit_are_refused(name):
    method, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"^method.{words}"):
        recipe_of(method)


def test_a_head_that_does_not_guide_cannot_denoise_first():
    config = dataclasses.replace(CONFIG, head=dataclasses.replace(CONFIG.head, guide=False))
    for name, value in (("denoise_first", 0.5), ("head_ratio", 1.0)):
        with pytest.raises(ValueError, match=f"method.{name}: expected none with --head.no-guide, .* found {value:g}"):
            dataclasses.replace(methods.ScoreGuidance(), **untyped({name: value})).check(config)
    few = dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, steps=10))
    with pytest.raises(ValueError, match=r"run.steps: expected .* stage \(8\), found 5 of 10 left for them"):
        methods.ScoreGuidance(denoise_first=0.5).check(few)


# --- what is known before training ---


def test_a_data_set_of_another_scale_than_the_models_is_warned_of_before_training():
    model = PAIRS.student
    for scale, said in ((1.0, 0), (255.0, 1)):
        law, points = Empirical(scale * POINTS), scale * POINTS
        for objective, of in (
            (sct.ConsistencyTraining(curriculum=CURRICULUM, velocity=sct.DenoiserVelocity(law.denoise)), model.cm),
            (sct.ScoreGuidedTraining(curriculum=CURRICULUM, target=law.denoise), model),
            (sct.EDMTraining(target=law.denoise), sct.DenoisingModel(model.cm.torso, sct.EDMPreconditioning())),
            (sct.ConsistencyTraining(curriculum=CURRICULUM, velocity=sct.ReferenceVelocity(points, 2)), model.cm),
        ):
            with warnings.catch_warnings(record=True) as said_of:
                warnings.simplefilter("always")
                train.init_state(train.Recipe(objective, optax.sgd(1e-3)), of)
            found = [str(each.message) for each in said_of if "points: expected a data set of" in str(each.message)]
            assert len(found) == said, (scale, type(objective))
            assert all("sigma_data = 0.5, found a root mean square of" in each for each in found)
    assert BOUNDARY.sigma_data == 0.5

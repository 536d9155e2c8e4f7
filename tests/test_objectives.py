"""Objectives: expected values in closed form, gradient rules, shared dropout, terms, stages, warnings."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import function_cm, function_pair, mlp_pair, unet_pair
from equisct import (
    L1,
    AbstractReadoutObjective,
    AbstractSingleLevel,
    Consistency,
    ConsistencyDistillation,
    ConsistencyModel,
    ConsistencyTraining,
    Constant,
    ConstantWeighting,
    Doubling,
    EDMTraining,
    EDMWeighting,
    LogNormal,
    Part,
    PerLevel,
    PseudoHuber,
    PseudoHuberNorm,
    SampleLoss,
    ScoreGuided,
    ScoreGuidedTraining,
    SquaredL2,
    Terms,
    TorsoPass,
    Uniform,
    collect_terms,
    cut,
    heun_correction,
    oracle,
    perturb,
    straight_step,
)
from equisct.objectives.terms import bin_edges, named_terms
from equisct.objectives.velocity import DenoiserVelocity, one_sample_velocity
from equisct.train import ConstantDecay, Recipe, init_state, train_step
from strategies import untyped
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(3)
CURRICULUM = Doubling(first=10, last=40, period=5)
BATCH = jr.normal(jr.key(1), (6, 2))


def zero(x, *_):
    return jnp.zeros_like(x)


def terms_of(objective, model, batch, step, *, key):
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
    terms = eqx.filter_jit(terms_of)(objective, model, batch, 0, key=KEY)
    np.testing.assert_allclose(terms.weighted["denoising"], 0.300, rtol=0.01)
    np.testing.assert_allclose(terms["denoising"], 1.0, rtol=0.01)
    np.testing.assert_allclose(terms.weighted["consistency"], INITIAL[c], rtol=0.01)


def test_unweighted_head_loss_has_its_known_value():
    model = eqx.tree_at(
        lambda m: m.head.network.out, mlp_pair(), replace_fn=lambda layer: jax.tree.map(jnp.zeros_like, layer)
    )
    objective = ScoreGuidedTraining(curriculum=Constant(11), head_weighting=ConstantWeighting(), stratify=True)
    batch = 0.5 * jr.normal(KEY, (200_000, 2))
    np.testing.assert_allclose(eqx.filter_jit(objective)(model, batch, 0, key=KEY)[1]["denoising"], 0.134, rtol=0.01)


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
    assert same(gradients(cut_teacher, model), gradients(open_teacher, model))


class Leaky(eqx.Module):
    """Slots that have closed over the trained weights, with gradient."""

    cm: ConsistencyModel

    def bootstrap(self, model):
        return self.cm

    def velocity(self, model, draw, student):
        return lambda x_t, sigma: draw.z + self.cm(x_t, sigma).endpoint


def test_whatever_a_slot_forgets_only_the_student_has_a_gradient():
    made, model = ConsistencyTraining(curriculum=CURRICULUM), mlp_pair().cm

    def gradient(keep):
        def loss(model):
            leaky = Leaky(keep(model))
            objective = dataclasses.replace(made, bootstrap=leaky.bootstrap, velocity=leaky.velocity)
            return objective(model, BATCH, 0, key=KEY)[0]

        return eqx.filter_jit(eqx.filter_grad(loss))(model)

    assert same(gradient(lambda model: model), gradient(cut))


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


class Listener(eqx.Module):
    """A torso or a head's network of eight blocks that notes its own key and those of its blocks."""

    answer: Any
    heard: list = eqx.field(static=True)

    def __call__(self, *args, key=None):
        self.heard.extend([] if key is None else [tuple(jr.key_data(k).tolist()) for k in (key, *jr.split(key, 8))])
        return self.answer(*args, key=key)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("law", [None, LogNormal()])
def test_no_two_passes_share_a_blocks_key_unless_student_and_teacher_do(shared, law):
    objective = ScoreGuidedTraining(curriculum=CURRICULUM, share_dropout=shared, head_law=law)
    torso, head, plain = [], [], mlp_pair()
    networks = lambda pair: (pair.cm.torso, pair.head.network)
    listening = Listener(plain.cm.torso, torso), Listener(plain.head.network, head)
    pair = eqx.tree_at(networks, plain, listening)
    for i in range(3):
        draw = jax.tree.map(lambda leaf, i=i: leaf[i], objective.draw(BATCH, 0, key=KEY))
        objective._sample_loss(pair, draw)
    passes = [torso[i : i + 9] for i in range(0, len(torso), 9)]
    per_sample = 2 if law is None else 3
    assert len(passes) == 3 * per_sample
    for student, teacher in zip(passes[::per_sample], passes[1::per_sample], strict=True):
        assert (student == teacher) is shared
        assert shared or not set(student) & set(teacher)
    assert len({*torso, *head}) == len(torso) + len(head) - (3 * 9 if shared else 0)


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
    loss, terms = _evaluate(objective, jnp.asarray(step), jr.key(seed))
    np.testing.assert_allclose(loss, terms["consistency"] + 0.5 * terms["denoising"], rtol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(terms.loss, loss, rtol=FLOAT32_ROUNDING)
    assert list(terms.per_level) == ["consistency", "denoising"]
    for name, sums in terms.per_level.items():
        assert sums.count.sum() == len(BATCH)
        np.testing.assert_allclose(sums.total.sum() / len(BATCH), terms[name], rtol=FLOAT32_CANCELLING)
    assert float(loss) >= 0


@eqx.filter_jit
def _evaluate(objective, step, key):
    model = mlp_pair()
    return objective(model, BATCH, step, key=key)[0], terms_of(objective, model, BATCH, step, key=key)


def test_bins_hold_the_levels_between_their_edges():
    edges = bin_edges(0.002, 80.0)
    assert (edges[0], len(edges)) == (pytest.approx(0.002), 9)
    objective = ConsistencyTraining(curriculum=Constant(81))
    draw = objective.draw(jnp.zeros((500, 2)), 0, key=KEY)
    _, terms = objective(function_cm(zero), jnp.zeros((500, 2)), 0, key=KEY)
    counts, _ = np.histogram(draw.pair.t, edges)
    np.testing.assert_array_equal(terms.per_level["consistency"].count, counts)
    np.testing.assert_array_equal(terms.per_level["consistency"].edges, edges)
    beyond = PerLevel.from_samples(jnp.array([1.0, 2.0, 4.0]), jnp.array([1e-5, 0.002, 1e5]), edges)
    np.testing.assert_array_equal(beyond.total, [3, 0, 0, 0, 0, 0, 0, 4])


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


class Two(AbstractSingleLevel):
    """One level alone."""

    def level(self, u):
        return 2 + 0 * u


def test_head_may_have_any_level_law_of_its_own():
    law = LogNormal(mean=-1.2, std=1.2)
    seen = function_pair(zero, lambda x, sigma: jnp.full_like(x, jnp.log(sigma)))
    objective = ScoreGuidedTraining(curriculum=CURRICULUM, head_law=law, head_weighting=ConstantWeighting())
    _, terms = objective(seen, jnp.zeros((20_000, 1)), 0, key=KEY)
    np.testing.assert_allclose(terms["denoising"], 1.2**2 + 1.2**2, rtol=0.05)
    _, terms = dataclasses.replace(objective, head_law=Two())(seen, jnp.zeros((20, 1)), 0, key=KEY)
    np.testing.assert_allclose(terms["denoising"], np.log(2) ** 2, rtol=FLOAT32_CANCELLING)
    assert float(terms.per_level["denoising"].count.max()) == 20


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
        velocity=lambda model, draw, student: lambda x_t, sigma: (x_t - draw.x) / sigma,
        bootstrap=lambda cm: cut(cm),
    )
    same_as = ConsistencyTraining(curriculum=CURRICULUM, distance=SquaredL2(), weighting=ConstantWeighting())
    cm = mlp_pair().cm
    found, expected = (o(cm, BATCH, 0, key=KEY)[0] for o in (objective, same_as))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


# --- objectives written elsewhere ---


def test_a_mean_of_many_terms_adds_up_with_its_weights():
    terms = Terms({"a": Part(jnp.array(2.0), 0.5), "b": Part(jnp.array(3.0)), "seen": Part(jnp.array(9.0), 0.0)})
    assert (float(terms.loss), float(terms["seen"])) == (4.0, 9.0)


def test_scalars_and_sums_are_found_under_their_names():
    sums = PerLevel(np.ones(2), np.ones(2), np.arange(3.0))
    terms = Terms({"a": Part(jnp.array(2.0), 0.5)}, {"a": sums})
    given_ones = {"mine": 1.0, "deep": {"er": (np.float32(2), None)}, "array": np.ones(3), "why": "no", "base": terms}
    scalars, per_level = named_terms(given_ones | {"alone": sums})
    assert scalars == {"mine": 1.0, "deep/er/0": 2.0, "base/a": 2.0}
    assert per_level == {"base/a": sums, "alone": sums}
    assert named_terms(terms) == ({"a": 2.0}, {"a": sums})
    assert named_terms(jnp.float32(3)) == ({"term": 3.0}, {})
    assert named_terms(None) == ({}, {})


def angle(sigma):
    return jnp.arctan(sigma / 0.5)


@dataclasses.dataclass(frozen=True)
class SCM:
    """Continuous consistency by one derivative along the path (a plain function of the contract, no Equinox)."""

    def __call__(self, model, batch, step, *, key):
        level_key, noise_key = jr.split(key)
        t = jnp.exp(jr.normal(level_key, (len(batch),)))

        def loss(x, z, t):
            at = lambda t: model(x + t * z, t).endpoint
            _, tangent = jax.jvp(at, (t,), (jnp.ones_like(t),))
            return jnp.sum((at(t) - cut(at(t) - tangent / (1 + jnp.linalg.norm(tangent)))) ** 2)

        losses = jax.vmap(loss)(batch, jr.normal(noise_key, batch.shape), t)
        return losses.mean(), {"tangent": losses.mean(), "angle": angle(t).mean(), "per sample": losses}


class MeanFlow(eqx.Module):
    """The average velocity between two times, of a network of both (Geng et al. 2025), on the straight path."""

    def __call__(self, model, batch, step, *, key):
        time_key, noise_key = jr.split(key)
        t, r = jnp.sort(jr.uniform(time_key, (2, len(batch))), axis=0)[::-1]

        def loss(x, e, t, r):
            u = lambda z, t: model(jnp.concatenate([z, jnp.stack([r, t])]))
            z, v = (1 - t) * x + t * e, e - x
            average, tangent = jax.jvp(u, (z, t), (v, jnp.ones_like(t)))
            return jnp.mean((average - cut(v - (t - r) * tangent)) ** 2)

        return jax.vmap(loss)(batch, jr.normal(noise_key, batch.shape), t, r).mean(), "MeanFlow"


@pytest.mark.parametrize("name", ["sCM", "MeanFlow"])
def test_objectives_of_the_bare_contract_train(name):
    net = eqx.nn.MLP(4, 2, 8, 1, key=KEY)
    objective, model = {"sCM": (SCM(), mlp_pair().cm), "MeanFlow": (MeanFlow(), net)}[name]
    recipe = Recipe(objective, optax.adam(1e-2), average=ConstantDecay(0.5))
    state = init_state(recipe, model)
    for step in range(3):
        state, report = train_step(recipe, state, BATCH, jr.fold_in(KEY, step))
        assert bool(report.finite)
        assert float(report.gradient_norm) > 0
    assert not same(eqx.filter(state.model, eqx.is_array), eqx.filter(model, eqx.is_array))


class Regression(AbstractReadoutObjective):
    """The endpoint as a denoiser at one level: not a consistency objective, but its pass can be read."""

    level: float = 2.0
    name: str = "regression"

    def draw(self, batch, step, *, key):
        noise_key, key = jr.split(key)
        return batch, jr.normal(noise_key, batch.shape), jr.split(key, len(batch))

    def sample_loss(self, model, draw):
        x, z, key = draw
        student_key, head_key = jr.split(key)
        x_t = perturb(x, z, self.level)
        readout = model.cm(x_t, self.level, key=student_key)
        losses = {self.name: SampleLoss(SquaredL2()(readout.endpoint, x), jnp.float32(self.level))}
        return losses, TorsoPass(x, x_t, self.level, readout, head_key)

    def reduce(self, losses):
        return collect_terms(losses, bin_edges(0.5, 8.0))


@pytest.mark.parametrize("law", [None, LogNormal(), Two()])
def test_a_head_attaches_to_any_objective_that_shows_a_pass(law):
    objective = ScoreGuided(Regression(), 0.5, EDMWeighting(), law)
    recipe = Recipe(objective, optax.sgd(1e-2), gradient_parts=True, microbatches=2)
    _, report = train_step(recipe, init_state(recipe, mlp_pair()), BATCH, KEY)
    expected = float(report.terms["regression"] + 0.5 * report.terms["denoising"])
    assert float(report.loss) == pytest.approx(expected, rel=FLOAT32_CANCELLING)
    assert sorted(untyped(report).gradient_norms) == ["denoising", "regression"]
    counts = report.terms.per_level["denoising"].count
    assert float(counts.sum()) == len(BATCH)
    if not isinstance(law, LogNormal):
        np.testing.assert_array_equal(counts, report.terms.per_level["regression"].count)


def test_a_head_does_not_attach_to_what_shows_no_pass_or_has_its_name():
    with pytest.raises(TypeError):
        ScoreGuided(untyped(EDMTraining()), 0.5, EDMWeighting())
    twice = ScoreGuided(Regression(name="denoising"), 0.5, EDMWeighting())
    with pytest.raises(ValueError, match="base: expected an objective without a part named denoising"):
        twice(mlp_pair(), BATCH, 0, key=KEY)


# --- the head as velocity ---


class Counted(eqx.Module):
    """A torso that counts its passes while it is traced."""

    torso: Any
    passes: list = eqx.field(static=True)

    def __call__(self, x, c_noise, *, key=None):
        self.passes.append(key)
        return self.torso(x, c_noise, key=key)


@pytest.mark.parametrize(("step", "passes"), [(straight_step, 2), (heun_correction, 3)])
def test_the_head_as_velocity_reads_the_students_pass(step, passes):
    objective = ScoreGuided(ConsistencyDistillation(denoise=None, step=step), 0.3, EDMWeighting())
    counted = Counted(mlp_pair().cm.torso, [])
    objective(eqx.tree_at(lambda pair: pair.cm.torso, mlp_pair(), counted), BATCH, 0, key=KEY)
    assert len(counted.passes) == passes


def flops(function, *args):
    arrays, rest = eqx.partition(args, eqx.is_array)
    lowered = jax.jit(lambda arrays: function(*eqx.combine(arrays, rest))).lower(arrays)
    return untyped(lowered.cost_analysis())["flops"]


def test_the_head_as_velocity_costs_the_head_alone():
    """Of an image pair with dropout, where no compiler can find two passes to be one."""
    pair, batch = unet_pair(), jnp.zeros((4, 1, 4, 4))
    own = ScoreGuided(ConsistencyDistillation(denoise=None, step=straight_step), 0.3, EDMWeighting())
    noise = dataclasses.replace(own, base=dataclasses.replace(own.base, velocity=one_sample_velocity))
    with_head, without = (flops(lambda o, m: o(m, batch, 0, key=KEY)[0], o, pair) for o in (own, noise))
    sigmas = jnp.full(4, 2.0)
    readouts = jax.vmap(pair.cm)(batch, sigmas)
    head = flops(lambda m, *args: jax.vmap(m.head)(*args), pair, batch, sigmas, readouts)
    torso = flops(lambda m: jax.vmap(lambda x_t: m.cm(x_t, 2.0).endpoint)(batch), pair)
    assert with_head - without == pytest.approx(head, rel=0.02)
    assert with_head - without < head + 0.05 * torso


def test_the_students_pass_gives_the_velocity_that_the_head_has_without_it():
    """Without dropout both are the head's own; elsewhere than at x_t nothing is taken from the student's pass."""
    base = ConsistencyDistillation(denoise=None, step=straight_step)
    pair = eqx.tree_at(lambda m: m.head.network.out.weight, mlp_pair(), replace_fn=lambda w: 1e5 * w)  # not near zero
    outside = dataclasses.replace(base, velocity=DenoiserVelocity(pair.denoise))
    found, expected = (o(pair, BATCH, 0, key=KEY)[0] for o in (base, outside))
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_CANCELLING)

    def midway(field, x_t, pair):
        return x_t + (pair.r - pair.t) * field(x_t + 1.0, pair.t)

    base, outside = (dataclasses.replace(o, step=midway) for o in (base, outside))
    found, expected = (o(pair, BATCH, 0, key=KEY)[0] for o in (base, outside))
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_CANCELLING)

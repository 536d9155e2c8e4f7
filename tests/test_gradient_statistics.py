"""Gradient statistics against NumPy, in both forms and in training; and which targets leave the mean gradient alone."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import equisct as sct
from catalogue import BOUNDARY, in_float64, mlp_pair
from equisct.app.tracking.statistics import update_from_report
from equisct.objectives.slots import Draw, Keys
from equisct.oracle import Empirical
from equisct.train import Recipe, data_mesh, init_state, train_step
from equisct.train.gradient import batch_gradient
from strategies import untyped
from tolerances import FLOAT32_CANCELLING, FLOAT64_ROUNDING

KEY = jr.key(3)
BATCHES = list(np.random.default_rng(0).normal([1.0, 0.5], 0.5, size=(3, 8, 2)).astype(np.float32))
CURRICULUM = sct.Constant(11)


class Two(eqx.Module):
    """A model of two arrays."""

    a: jax.Array
    b: jax.Array


def noisy(model, batch, step, *, key, shift=0.0, spread=0.5):
    """A batch's loss whose gradient is, per example, `a - x - spread z + shift`, and in b that with twice the noise."""
    noise = spread * jr.normal(key, batch.shape, batch.dtype)
    toward = lambda own, size: (jnp.square(own[None] - batch - size * noise) / 2 + shift * own[None]).sum(1).mean()
    return toward(model.a, 1.0) + toward(model.b, 2.0), None


def two(dtype=jnp.float32):
    return Two(jnp.array([0.5, 0.0], dtype), jnp.array([0.0, 1.0], dtype))


def by_hand(vectors, size):
    """`|E g|^2` and `tr Cov g` from independent gradients, each a mean over `size` examples."""
    vectors = np.asarray(vectors, np.float64)
    trace = vectors.var(0, ddof=1).sum()
    return np.square(vectors.mean(0)).sum() - trace / len(vectors), size * trace


@pytest.mark.parametrize(("parts", "at_once"), [(None, 3), (4, 2), (1, 5)])
def test_signal_and_noise_are_those_of_the_gradients_of_the_parts(parts, at_once, x64):
    """In float64, against every part's gradient, kept and computed by NumPy; whatever is held at once."""
    del x64
    model, batches = two(jnp.float64), [np.asarray(batch, np.float64) for batch in BATCHES]
    vectors = []
    for index, batch in enumerate(batches):
        number = parts or len(batch)
        keys = jr.split(jr.fold_in(KEY, index), number)
        for part, key in zip(np.split(batch, number), keys, strict=True):
            gradient = jax.grad(lambda model: noisy(model, jnp.asarray(part), 0, key=key)[0])(model)  # noqa: B023  (called at once)
            vectors.append(np.concatenate([gradient.a, gradient.b]))
    found = sct.gradient_statistics(noisy, model, iter(batches), parts=parts, at_once=at_once, key=KEY)
    expected = by_hand(vectors, len(batches[0]) // (parts or len(batches[0])))
    np.testing.assert_allclose((found.square_norm, found.covariance_trace), expected, rtol=FLOAT64_ROUNDING)
    np.testing.assert_allclose(found.critical_batch, expected[1] / expected[0], rtol=FLOAT64_ROUNDING)
    np.testing.assert_allclose(found.signal_to_noise, np.sqrt(expected[0] / expected[1]), rtol=FLOAT64_ROUNDING)
    assert (found.examples, found.parts, found.bias_square) == (24, len(vectors), None)


def test_both_forms_are_without_bias_and_two_halves_are_the_two_products():
    """Means over 120 repetitions on fresh batches, against the exact numbers, within five standard errors."""
    mean, spread = np.array([1.0, 0.5]), 0.5
    model = two()
    signal = sum(np.square(np.asarray(own) - mean).sum() for own in (model.a, model.b))
    noise = 2 * (2 * spread**2) + 2 * spread**2 * (1 + 4)
    rng = np.random.default_rng(1)
    batch = np.zeros(0)
    for parts in (None, 2):
        rows = []
        for repetition in range(120):
            batch = rng.normal(mean, spread, size=(12, 2)).astype(np.float32)
            found = sct.gradient_statistics(noisy, model, [batch], parts=parts, key=jr.fold_in(KEY, repetition))
            rows.append((found.square_norm, found.covariance_trace))
        rows = np.array(rows, np.float64)
        error = rows.std(0, ddof=1) / np.sqrt(len(rows))
        assert (np.abs(rows.mean(0) - (signal, noise)) < 5 * error).all(), (parts, rows.mean(0), error)
        assert (error < 0.1 * np.array([signal, noise])).all(), "too rough to tell"
    halves, keys = np.split(batch, 2), jr.split(jr.fold_in(jr.fold_in(KEY, 119), 0), 2)
    a, b = (
        np.concatenate(jax.tree.leaves(jax.grad(lambda m: noisy(m, jnp.asarray(half), 0, key=key)[0])(model)))  # noqa: B023  (called at once)
        for half, key in zip(halves, keys, strict=True)
    )
    np.testing.assert_allclose(rows[-1], (a @ b, 6 * np.square(a - b).sum() / 2), rtol=FLOAT32_CANCELLING)


def test_a_reference_has_the_same_parts_and_keys():
    shifted = functools.partial(noisy, shift=3.0)
    found = sct.gradient_statistics(shifted, two(), BATCHES, reference=noisy, key=KEY)
    bias = untyped((found.bias_square, found.bias_trace))
    np.testing.assert_allclose(bias, (4 * 9.0, 0), atol=FLOAT32_CANCELLING)
    assert float(found.covariance_trace) > 1


def test_statistics_of_disjoint_parts_of_a_model_add_up():
    of = lambda where: sct.gradient_statistics(noisy, two(), BATCHES, where=where, key=KEY)
    whole, a, b = of(lambda model: model), of(lambda model: model.a), of(lambda model: [model.b])
    for name in ("square_norm", "covariance_trace"):
        parts = float(getattr(a, name)) + float(getattr(b, name))
        np.testing.assert_allclose(getattr(whole, name), parts, rtol=FLOAT32_CANCELLING)


def test_a_gradient_without_signal_or_without_noise():
    values = lambda square, trace: sct.GradientStatistics(jnp.float32(square), jnp.float32(trace), None, None, 2, 2)
    assert [float(values(-1.0, 4.0).signal_to_noise), float(values(-1.0, 4.0).critical_batch)] == [0, np.inf]
    assert [float(values(4.0, 0.0).signal_to_noise), float(values(4.0, 0.0).critical_batch)] == [np.inf, 0]
    assert [float(values(4.0, 16.0).signal_to_noise), float(values(4.0, 16.0).critical_batch)] == [0.5, 4]


OBJECTIVES = {
    "iCT, stratified, coupled": lambda: (
        sct.ConsistencyTraining(curriculum=CURRICULUM, stratify=True, coupling=sct.optimal_transport), mlp_pair().cm
    ),
    "score-guided": lambda: (sct.ScoreGuidedTraining(curriculum=CURRICULUM), mlp_pair()),
    "CT with a teacher": lambda: (
        sct.OriginalConsistencyTraining(curriculum=sct.SquareRoot(last=10, total_steps=10)),
        sct.WithTeacher(mlp_pair().cm, mlp_pair(1).cm),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_kind_of_objective_can_be_asked(name):
    objective, model = OBJECTIVES[name]()
    found = sct.gradient_statistics(objective, model, BATCHES[:2], parts=2, key=KEY)
    assert np.isfinite([found.square_norm, found.covariance_trace]).all()
    assert float(found.covariance_trace) > 0


REFUSED = {
    "one part": (lambda: ask(BATCHES[:1], parts=1), "batches: expected at least two parts in all, .*, found 1$"),
    "no batch": (lambda: ask([]), "batches: expected at least two parts in all, .*, found 0$"),
    "one example": (lambda: ask([BATCHES[0][:1]]), "batches: expected at least two parts in all, .*, found 1$"),
    "other sizes": (lambda: ask([BATCHES[0], BATCHES[0][:4]]), "batches: expected all of one size, found 8 and 4 ex"),
    "odd halves": (lambda: ask([BATCHES[0][:7]], parts=2), "parts: expected a divisor of the batch's 7 .*, found 2$"),
    "no halves": (lambda: ask(BATCHES, parts=0), "parts: expected a finite number >= 1, found 0$"),
    "none at once": (lambda: ask(BATCHES, at_once=0), "at_once: expected a finite number >= 1, found 0$"),
    "nowhere": (lambda: ask(BATCHES, where=lambda model: ()), "where: expected a part of the model .*, found none"),
}


def ask(batches, **options):
    return sct.gradient_statistics(noisy, two(), batches, key=KEY, **options)


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_statistics_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("one", [BATCHES[0], sct.Example(BATCHES[0], None)], ids=["array", "example"])
def test_one_batch_instead_of_several_is_refused(one):
    with pytest.raises(TypeError, match="batches: expected a list or an iterator of batches, found one batch, "):
        ask(one)


# --- in training ---


@pytest.mark.parametrize(("count", "parts"), [(4, True)])
def test_microbatches_tell_signal_and_noise_over_the_torso(count, parts, x64):
    """In float64: microbatch m is samples m, m + count, ..."""
    del x64
    objective = sct.ScoreGuidedTraining(curriculum=CURRICULUM)
    model, batch = in_float64(mlp_pair()), jnp.asarray(BATCHES[0], jnp.float64)
    recipe = Recipe(objective, optax.sgd(1e-3), microbatches=count, gradient_parts=parts)
    found = eqx.filter_jit(batch_gradient)(recipe, model, batch, 0, key=KEY).noise
    draws = objective.draw(batch, 0, key=KEY)

    @eqx.filter_jit
    def gradient(draws):
        loss = lambda model: objective.reduce(objective.sample_losses(model, draws)).loss
        kept = eqx.filter(eqx.filter_grad(loss)(model).cm, sct.trainable(model.cm))
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(kept)])

    each = [gradient(jax.tree.map(lambda leaf: leaf[m::count], draws)) for m in range(count)]  # noqa: B023  (called at once)
    expected = by_hand(each, len(batch) // count)
    np.testing.assert_allclose((untyped(found).signal, untyped(found).noise), expected, rtol=1e3 * FLOAT64_ROUNDING)


def test_an_update_reports_the_noise_of_two_microbatches_and_none_of_one():
    recipe = Recipe(sct.ConsistencyTraining(curriculum=CURRICULUM), optax.sgd(1e-3), microbatches=2)
    _, report = train_step(recipe, init_state(recipe, mlp_pair().cm, mesh=data_mesh(2)), BATCHES[0], KEY)
    noise, found = untyped(report.noise), update_from_report(report)
    assert float(noise.noise) > 0
    assert (found.terms["gradient_signal"], found.terms["gradient_noise"]) == (float(noise.signal), float(noise.noise))
    assert sorted(found.terms) == ["consistency", "gradient_noise", "gradient_signal"]
    recipe = dataclasses.replace(recipe, microbatches=1)
    step = lambda: train_step(recipe, init_state(recipe, mlp_pair().cm), BATCHES[0], KEY)[1]
    assert eqx.filter_eval_shape(step).noise is None


# --- posterior targets: which of them leave the expected gradient unchanged, given `x_t` and hence altogether ---
#
# Exactly true: for denoising, whose gradient is linear in the target. For consistency with SquaredL2 the gradient is
# linear in the teacher's answer, so it holds at any step if the teacher is affine in x_r, and for any smooth teacher
# up to the first order in the gap (under the weight 1 / gap, where the gradient itself tends to a limit). Not true for
# a pseudo-Huber distance whose constant is below the noise of the residual, however the teacher.

T = 0.7
GAPS = (0.1, 0.05, 0.025)


def law_at():
    points = jnp.asarray(np.random.default_rng(2).normal(size=(5, 2)), jnp.float64)
    law, x_t = Empirical(points), jnp.array([0.3, -0.4], jnp.float64)
    return law, x_t, law.posterior(x_t, T)


def consistency_model():
    network = sct.nn.TorsoMLP(2, 8, depth=1, key=KEY)
    enlarged = eqx.tree_at(lambda net: net.out.weight, network, replace_fn=lambda w: w / jnp.abs(w).max())
    return in_float64(sct.ConsistencyModel(enlarged, BOUNDARY))


def affine(model):
    """A teacher that is affine in `x_r` and agrees with the student at `x_t`: what differs is the small step alone."""
    _, x_t, _ = law_at()
    matrix, centre = jnp.array([[0.8, -0.3], [0.4, 0.5]]), model(x_t, T).endpoint

    def teacher(x_r, sigma, *, key=None):
        answer = centre + matrix @ (x_r - x_t)
        return sct.Readout(answer, answer[None], answer)

    return teacher


def consistency(velocity=sct.one_sample_velocity, **slots):
    objective = sct.ConsistencyTraining(curriculum=sct.Constant(2), distance=slots.pop("distance", sct.SquaredL2()))
    return dataclasses.replace(objective, velocity=velocity, **slots)


@eqx.filter_jit
def gradients(objective, model, points, x_t, pair):
    """The gradient for each sample that may be behind `x_t` at the pair's level, one per row."""

    def one(x):
        draw = Draw(x, (x_t - x) / pair.t, pair, Keys.from_key(KEY, share_dropout=True))
        loss = lambda model: objective.sample_loss(model, draw)[0]["consistency"].value
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter_grad(loss)(model))])

    return jax.vmap(one)(points)


def relative_bias(gap, **slots):
    """How far the posterior's mean of the one-sample gradients is from that under the posterior mean's velocity."""
    law, x_t, posterior = law_at()
    model, pair = consistency_model(), sct.LevelPair(*map(jnp.asarray, (T, T - gap, gap)))
    one_by_one = gradients(consistency(**slots), model, law.points, x_t, pair)
    calm = gradients(consistency(sct.DenoiserVelocity(law.denoise), **slots), model, law.points, x_t, pair)
    assert float(jnp.abs(one_by_one - one_by_one[:1]).max()) > 0.1 * float(jnp.abs(calm).max()), "no noise: blind"
    return float(jnp.linalg.norm(posterior @ one_by_one - calm[0]) / jnp.linalg.norm(calm[0]))


@pytest.mark.parametrize("gap", [0.6, 0.01])
def test_an_affine_teacher_makes_it_exact_at_any_step(gap, x64):
    del x64
    assert relative_bias(gap, bootstrap=affine) < 100 * FLOAT64_ROUNDING


def test_with_a_smooth_teacher_it_holds_to_first_order_in_the_gap(x64):
    """The model is its own teacher: the difference halves with the gap, while the gradient tends to a limit."""
    del x64
    found = [relative_bias(gap) for gap in GAPS]
    assert found[0] < 0.3
    np.testing.assert_allclose(np.array(found[1:]) / found[:-1], 0.5, rtol=0.1)


def test_with_a_pseudo_huber_distance_it_does_not_hold(x64):
    """The trap: a constant far below the residual's noise, and an affine teacher."""
    del x64
    for gap in GAPS:
        assert relative_bias(gap, bootstrap=affine, distance=sct.PseudoHuber(1e-5)) > 0.05


@pytest.mark.parametrize(("distance", "holds"), [(sct.SquaredL2(), True), (sct.PseudoHuber(1e-5), False)])
def test_draws_from_the_posterior_show_no_bias_where_there_is_none(distance, holds, x64):
    """By the public function: 4,096 draws of the data given `x_t`, against the posterior velocity on the same draws."""
    del x64
    law, x_t, posterior = law_at()
    pair = sct.LevelPair(jnp.asarray(T), jnp.asarray(T - 0.3), jnp.asarray(0.3))

    def at_x_t(slots, model, batch, step, *, key):
        draws = jax.vmap(lambda x: Draw(x, (x_t - x) / T, pair, Keys.from_key(key, share_dropout=True)))(batch)
        terms = slots.reduce(slots.sample_losses(model, draws))
        return terms.loss, terms

    one, calm = (
        functools.partial(at_x_t, consistency(velocity, bootstrap=affine, distance=distance))
        for velocity in (sct.one_sample_velocity, sct.DenoiserVelocity(law.denoise))
    )
    batch = law.points[jr.choice(KEY, len(posterior), (4096,), p=posterior)]
    found = sct.gradient_statistics(one, consistency_model(), [batch], reference=calm, at_once=512, key=KEY)
    error = np.sqrt(2) * float(untyped(found.bias_trace)) / found.examples
    assert error > 0
    assert (float(untyped(found.bias_square)) < 3 * error) == holds
    assert holds or float(untyped(found.bias_square)) > 20 * error

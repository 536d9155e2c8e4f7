"""The continuous limit: TrigFlow's formulas, exact maps, the limit of the discrete objective, precision, training."""

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
from jax import Array

import equisct as sct
from catalogue import function_cm, in_float64, mlp_pair
from equisct import nn, train
from equisct.objectives.readout import TorsoPass
from equisct.objectives.slots import Draw, Keys
from strategies import levels, untyped
from tolerances import FLOAT32_CANCELLING, FLOAT64_ROUNDING

KEY = jr.key(7)
STD = 0.5
LEVELS = (0.002, 0.05, 0.5, 4.0, 80.0)
TRIG = sct.TrigFlowPreconditioning(STD)


def cm(form=TRIG, seed=0, **fields):
    """A consistency model whose output layer is not near zero."""
    torso = nn.TorsoMLP(2, 8, depth=1, key=jr.key(seed))
    torso = eqx.tree_at(lambda torso: torso.out.weight, torso, 0.5 * jr.normal(KEY, torso.out.weight.shape))
    return sct.ConsistencyModel(torso, form, **fields)


def draw_at(x, z, sigma, gap=0.0, step=10**6):
    """One sample's draw; the pair's lower level is `gap` below."""
    sigma = jnp.asarray(sigma, x.dtype)
    pair = sct.LevelPair(sigma, sigma - gap, jnp.asarray(gap, x.dtype))
    return Draw(x, z, pair, Keys.from_key(KEY, share_dropout=True), None, jnp.asarray(step))


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


@eqx.filter_jit
def gradient(objective, model, draw):
    """The gradient of one sample's loss, as one vector."""

    def loss(model):
        losses = objective.sample_loss(model, draw)[0]
        return losses["consistency"].value

    return flat(eqx.filter_grad(loss)(model))


tangent_of = eqx.filter_jit(sct.trigflow_tangent)


# --- TrigFlow's formulas ---


@eqx.filter_jit
def paper_tangent(torso, x, z, sigma, share):
    """Algorithm 1 as it is printed: in the angle tau, by F and its product along the rearranged tangents."""
    tau = jnp.arctan(sigma / STD)
    cosine, sine = jnp.cos(tau), jnp.sin(tau)
    x_tau, moved = cosine * x + sine * STD * z, cosine * STD * z - sine * x
    network = lambda y, tau: torso(y, tau).raw
    raw, along = jax.jvp(network, (x_tau / STD, tau), (cosine * sine * moved / STD, cosine * sine))
    return -(cosine**2) * (STD * raw - moved) - share * (cosine * sine * x_tau + STD * along)


def test_endpoint_and_tangent_are_those_of_trigflow(x64):
    model = in_float64(cm())
    x, z = jr.normal(KEY, (2, 2), jnp.float64)
    for sigma in map(jnp.asarray, LEVELS):
        x_t, tau = x + sigma * z, jnp.arctan(sigma / STD)
        x_tau = jnp.cos(tau) * x + jnp.sin(tau) * STD * z
        printed = jnp.cos(tau) * x_tau - jnp.sin(tau) * STD * model.torso(x_tau / STD, tau).raw
        np.testing.assert_allclose(model.endpoint(x_t, sigma), printed, rtol=FLOAT64_ROUNDING, atol=FLOAT64_ROUNDING)
        for share in map(jnp.asarray, (0.0, 0.3, 1.0)):
            found = tangent_of(model.endpoint, x_t, z, sigma, sigma_data=STD, share=share)
            np.testing.assert_allclose(found, paper_tangent(model.torso, x, z, sigma, share), rtol=1e-9, atol=1e-12)


@given(levels())
def test_trigflow_is_edm_with_the_other_sign_of_f(sigma):
    found, edm = TRIG.scalings(sigma), sct.EDMPreconditioning(STD).scalings(sigma)
    assert (found.skip, found.out, found.input) == (edm.skip, -edm.out, edm.input)
    np.testing.assert_allclose(jnp.tan(found.noise) * STD, sigma, rtol=FLOAT32_CANCELLING)


# --- the exact map ---

GAUSSIAN = sct.oracle.Gaussian(0.1, 0.7)


def product():
    return sct.oracle.ProductMixture(jnp.array([-1.0, 0.2, 1.0]), 0.3, jr.orthogonal(KEY, 2, dtype=jnp.float64))


def flow(x_t, sigma, key):
    return GAUSSIAN.transport(x_t, sigma, 0.0)


@pytest.mark.parametrize("name", ["Gaussian", "ProductMixture"])
def test_the_tangent_vanishes_at_the_exact_map_under_the_exact_velocity(name, x64):
    truth = {"Gaussian": GAUSSIAN, "ProductMixture": product()}[name]

    @jax.jit
    def at(sigma):
        x_t = (1 + sigma) * jr.normal(KEY, (2,), jnp.float64)
        velocity = sct.pf_drift(truth.denoise(x_t, sigma), x_t, sigma)
        endpoint = lambda x_t, sigma: truth.transport(x_t, sigma, 0.0)
        exact = sct.trigflow_tangent(endpoint, x_t, velocity, sigma)
        return exact, sct.trigflow_tangent(endpoint, x_t, 2 * velocity, sigma)

    for sigma in map(jnp.asarray, LEVELS):
        exact, off = at(sigma)
        np.testing.assert_allclose(exact, 0, atol=1e-9)
        assert float(jnp.abs(off).max()) > 1e-4


@pytest.mark.parametrize("tangent_c", [None, 0.1])
def test_the_mean_gradient_vanishes_at_the_exact_map(tangent_c, x64):
    """Under the exact velocity always; under one-sample noise over two samples behind one x_t, if not normalised."""
    made = sct.ContinuousConsistency(tangent_c=tangent_c, sigma_data=STD)
    exact = dataclasses.replace(made, velocity=sct.DenoiserVelocity(GAUSSIAN.denoise))
    model = in_float64(function_cm(flow))
    each = lambda objective, x, x_t, sigma: float(gradient(objective, model, draw_at(x, (x_t - x) / sigma, sigma))[0])
    for sigma in LEVELS:
        x_t = (1 + sigma) * jr.normal(KEY, (2,), jnp.float64)
        mean = GAUSSIAN.denoise(x_t, sigma)
        spread = 0.7 * sigma / np.hypot(0.7, sigma) * jnp.array([1.0, -0.4])
        assert abs(each(exact, mean + spread, x_t, sigma)) < 1e-9
        noisy = [each(made, mean + share * spread, x_t, sigma) for share in (2.0, -1.0)]
        assert max(map(abs, noisy)) > 1e-4
        average = (noisy[0] + 2 * noisy[1]) / 3  # two samples whose mean is that of the posterior
        if tangent_c is None:
            assert abs(average) < 1e-9
        else:  # the mean of normalised tangents is not the normalised mean
            assert abs(average) > 1e-3 * max(map(abs, noisy))


def test_one_sample_noise_leaves_the_mean_gradient_as_under_the_posterior_mean(x64):
    """For any model, over all the data behind one x_t, without normalisation."""
    points = jr.normal(jr.key(1), (5, 2), jnp.float64)
    law, model, sigma = sct.oracle.Empirical(points), in_float64(cm()), jnp.asarray(0.7)
    x_t = jnp.array([0.3, -0.4])
    made = sct.ContinuousConsistency(tangent_c=None, warmup=10)
    calm = dataclasses.replace(made, velocity=sct.DenoiserVelocity(law.denoise))
    for step in (0, 4, 10):
        each = lambda objective, x, step=step: gradient(
            objective, model, draw_at(x, (x_t - x) / sigma, sigma, 0.0, step)
        )
        noisy = jnp.stack([each(made, x) for x in points])
        np.testing.assert_allclose(law.posterior(x_t, sigma) @ noisy, each(calm, points[0]), rtol=1e-9, atol=1e-11)


# --- the limit of the discrete objective, and the beginning of the warm-up ---


class OfTheLimit(sct.AbstractWeighting):
    """`1 / (gap sin(tau) cos(tau))`."""

    def __call__(self, pair: sct.LevelPair) -> Array:
        t = jnp.asarray(pair.t)
        return (t**2 + STD**2) / (t * STD * pair.gap)


@pytest.mark.parametrize("source", ["one sample", "denoiser"])
@pytest.mark.parametrize("form", [TRIG, sct.EDMPreconditioning(STD), sct.BoundaryPreconditioning(STD)])
def test_the_gradient_is_the_limit_of_the_discrete_one(form, source, x64):
    velocity = sct.DenoiserVelocity(GAUSSIAN.denoise) if source == "denoiser" else sct.one_sample_velocity
    model = in_float64(cm(form))
    x, z = jr.normal(KEY, (2, 2), jnp.float64)
    limit = sct.ContinuousConsistency(velocity=velocity, tangent_c=None, sigma_data=STD)
    discrete = sct.Consistency(
        curriculum=sct.Constant(3), levels=sct.ShrinkingPairs(sct.Constant(3)), distance=sct.SquaredL2(),
        weighting=OfTheLimit(), velocity=velocity,
    )  # fmt: skip
    for sigma in (0.05, 0.6, 9.0):
        expected = gradient(limit, model, draw_at(x, z, sigma))
        gaps = [sigma * share for share in (2e-4, 1e-4, 5e-5)]
        found = [gradient(discrete, model, draw_at(x, z, sigma, gap)) for gap in gaps]
        errors = [float(jnp.linalg.norm(each - expected)) for each in found]
        np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, atol=0.02)
        assert errors[-1] < 1e-3 * float(jnp.linalg.norm(expected))


@pytest.mark.parametrize("source", ["one sample", "denoiser"])
def test_the_warm_up_begins_as_denoising(source, x64):
    model, sigma = in_float64(cm()), jnp.asarray(0.6)
    x, z = jr.normal(KEY, (2, 2), jnp.float64)
    denoise = GAUSSIAN.denoise if source == "denoiser" else None
    velocity = sct.DenoiserVelocity(GAUSSIAN.denoise) if denoise else sct.one_sample_velocity
    first = sct.ContinuousConsistency(velocity=velocity, tangent_c=None, sigma_data=STD)
    target = denoise(x + sigma * z, sigma) if denoise else x
    denoising = lambda model: sct.denoising_loss(
        model.endpoint(x + sigma * z, sigma), target, sct.NoiseWeighting().at(sigma)
    )
    expected = flat(eqx.filter_grad(denoising)(model))
    found = gradient(first, model, draw_at(x, z, sigma, step=0))
    np.testing.assert_allclose(found, STD * expected, rtol=1e-9, atol=1e-12)


def test_the_warm_up_goes_from_one_tangent_to_the_other(x64):
    model = in_float64(cm())
    x, z = jr.normal(KEY, (2, 2), jnp.float64)
    made = sct.ContinuousConsistency(tangent_c=None, warmup=10)
    at = lambda step: gradient(made, model, draw_at(x, z, 0.6, step=step))
    first, last = at(0), at(10)
    np.testing.assert_allclose(at(3), 0.7 * first + 0.3 * last, rtol=1e-9)
    np.testing.assert_array_equal(at(12_345), last)
    none = dataclasses.replace(made, warmup=0)
    np.testing.assert_array_equal(gradient(none, model, draw_at(x, z, 0.6, step=0)), last)


# --- normalisation, weight, gradients ---


@given(levels(), st.integers(0, 99))
def test_normalisation_bounds_the_tangent_and_the_loss(sigma, seed):
    x, z = 3 * jr.normal(jr.key(seed), (2, 2))
    losses = evaluate(cm(seed=1), draw_at(x, z, sigma))
    size = float(losses["tangent"].value)
    expected = (size / (size + 0.1)) ** 2 / 2
    assert float(losses["consistency"].value) <= 0.5
    np.testing.assert_allclose(losses["consistency"].value, expected, rtol=FLOAT32_CANCELLING)


@eqx.filter_jit
def evaluate(model, draw):
    return sct.ContinuousConsistency().sample_loss(model, draw)[0]


def test_the_gradient_is_that_along_the_cut_normalised_tangent(x64):
    """`-2 mean(dF/dtheta . G)`, also where a velocity forgets to cut the weights that it uses."""
    model, sigma = in_float64(cm()), jnp.asarray(0.6)
    x, z = jr.normal(KEY, (2, 2), jnp.float64)
    x_t = x + sigma * z

    def leaky(weights):
        return lambda model, draw, student: lambda x_t, sigma: draw.z + weights.endpoint(x_t, sigma)

    tangent = sct.trigflow_tangent(model.endpoint, x_t, z + model.endpoint(x_t, sigma), sigma, sigma_data=STD)
    pulled = tangent / (jnp.linalg.norm(tangent) + 0.1)
    scalings = TRIG.scalings(sigma)
    raw = lambda model: -jnp.sum(model.torso(scalings.input * x_t, scalings.noise).raw * pulled)
    expected = flat(eqx.filter_grad(raw)(model))

    def loss(model):
        objective = sct.ContinuousConsistency(velocity=leaky(model), sigma_data=STD)
        return objective.sample_loss(model, draw_at(x, z, sigma))[0]["consistency"].value

    found = flat(eqx.filter_grad(loss)(model))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_learned_weight_multiplies_the_loss_and_its_own_gradient_balances_it():
    plain, weighted = cm(), cm(log_weight=nn.LogWeight(8, key=KEY))
    weighted = eqx.tree_at(lambda cm: cm.log_weight.out.bias, weighted, jnp.ones(1))
    x, z = jr.normal(KEY, (2, 2))
    draw = draw_at(x, z, 0.6)
    value = float(evaluate(plain, draw)["consistency"].value)
    np.testing.assert_allclose(weighted.log_weight(0.6), 1, atol=1e-3)  # near 0 but for the bias
    found, grads = eqx.filter_value_and_grad(lambda model: evaluate(model, draw)["consistency"].value)(weighted)
    np.testing.assert_allclose(found, np.e * value - 1, atol=2e-3)
    np.testing.assert_allclose(grads.log_weight.out.bias, np.e * value - 1, atol=2e-3)
    np.testing.assert_array_equal(weighted.endpoint(draw.x, 0.6), plain.endpoint(draw.x, 0.6))


class Listener(eqx.Module):
    """A torso that notes its keys."""

    torso: Any
    heard: list = eqx.field(static=True)

    def __call__(self, x, c_noise, *, key: Any = None):
        self.heard.append(tuple(jr.key_data(key).tolist()))
        return self.torso(x, c_noise, key=key)


def test_the_tangents_pass_has_the_students_dropout_and_the_heads_velocity_costs_no_other():
    heard, pair = [], mlp_pair()
    pair = eqx.tree_at(lambda pair: pair.cm.torso, pair, Listener(pair.cm.torso, heard))
    for velocity in (sct.one_sample_velocity, sct.head_velocity):
        heard.clear()
        objective = sct.ContinuousConsistency(velocity=velocity)
        x, z = jr.normal(KEY, (2, 2))
        draw = draw_at(x, z, 0.6)
        _, seen = objective.sample_loss(pair, draw)
        assert heard == [tuple(jr.key_data(draw.keys.student).tolist())] * 2
        assert isinstance(seen, TorsoPass)
        assert (jr.key_data(seen.key) == jr.key_data(draw.keys.head)).all()


# --- precision ---


@pytest.mark.parametrize("form", [TRIG, sct.EDMPreconditioning(STD)], ids=lambda form: type(form).__name__)
def test_the_tangent_is_as_true_in_float32_as_in_float64(form):
    """Relative to its size, at every level; in bfloat16 as true as the network."""
    model = cm(form)
    x, z = np.asarray(jr.normal(KEY, (2, 64, 2)))
    along = eqx.filter_jit(jax.vmap(lambda model, x_t, z, sigma, share: sct.trigflow_tangent(
        model.endpoint, x_t, z, sigma, sigma_data=STD, share=share), in_axes=(None, 0, 0, None, None)))  # fmt: skip
    for sigma in map(np.float32, LEVELS):
        for share in map(np.float32, (0.0, 1.0)):
            x_t = x + sigma * z
            found = along(model, jnp.asarray(x_t), jnp.asarray(z), sigma, share)
            coarse = along(sct.in_precision(model, jnp.bfloat16), jnp.asarray(x_t), jnp.asarray(z), sigma, share)
            with jax.enable_x64(True):
                wide = [jnp.asarray(each, jnp.float64) for each in (x_t, z, sigma, share)]
                exact = np.asarray(along(in_float64(model), *wide))
            size = np.sqrt(np.square(exact).mean())
            assert np.abs(found - exact).max() < FLOAT32_CANCELLING * size
            assert np.abs(coarse - exact).max() < 0.1 * size, "bfloat16 has three digits, and stays inside the network"


# --- training ---


def test_it_trains_with_weight_and_head_and_everything_is_averaged_and_saved(tmp_path):
    pair = mlp_pair()
    weighted = sct.ConsistencyModel(untyped(pair.cm.torso), TRIG, nn.LogWeight(8, key=KEY))
    model = dataclasses.replace(pair, cm=weighted)
    base = sct.ContinuousConsistency(velocity=sct.head_velocity, warmup=2, stratify=True)
    objective = sct.ScoreGuided(base, 0.3, sct.EDMWeighting())
    recipe = train.Recipe(
        objective, optax.adam(1e-2), train.ConstantDecay(0.5), gradient_parts=True, microbatches=2,
        compute_dtype=jnp.bfloat16,
    )  # fmt: skip
    state, report = train.init_state(recipe, model), untyped(None)
    for step in range(4):
        state, report = train.train_step(recipe, state, 0.5 * jr.normal(KEY, (8, 2)), jr.fold_in(KEY, step))
    report = untyped(report)
    assert bool(report.finite)
    assert sorted(report.terms.parts) == sorted(report.terms.per_level) == ["consistency", "denoising", "tangent"]
    np.testing.assert_allclose(
        report.loss, report.terms["consistency"] + 0.3 * report.terms["denoising"], rtol=FLOAT32_CANCELLING
    )
    assert float(report.gradient_norms["tangent"]) == 0 < float(report.gradient_norms["consistency"])
    before, after, mean = (untyped(tree).cm.log_weight for tree in (model, state.model, state.ema))
    assert float(after(1.0)) > float(mean(1.0)) > float(before(1.0))
    np.testing.assert_array_equal(after.embedding.frequencies.value, before.embedding.frequencies.value)
    train.save_weights(tmp_path / "weights.safetensors", model=state.model, ema=state.ema)
    loaded = train.load_weights(tmp_path / "weights.safetensors", model)
    assert eqx.tree_equal(loaded, state.ema)


def test_training_under_the_exact_velocity_finds_the_flow_map():
    """On two modes on a line, at levels 0.5, 5 and 80; an untrained endpoint is off by about 1 at the last two.

    Without the learned weight, which undoes the normalisation as the tangent vanishes (docs/methods.md).
    """
    truth, steps = sct.oracle.ProductMixture(jnp.array([-1.0, 1.0]), 0.3, jnp.eye(1)), 800
    torso = nn.TorsoMLP(1, 32, depth=2, fourier_scale=0.2, key=KEY)
    model = sct.ConsistencyModel(torso, sct.TrigFlowPreconditioning(1.0))
    objective = sct.ContinuousConsistency(
        law=sct.LogNormal(0.0, 1.4), velocity=sct.DenoiserVelocity(truth.denoise), warmup=100, sigma_data=1.0,
        stratify=True,
    )  # fmt: skip
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    weights, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(weights, step):
        key = jr.fold_in(KEY, step)
        batch = jax.vmap(lambda key: truth.sample(key=key))(jr.split(key, 64))
        return objective(eqx.combine(weights, rest), batch, step, key=key)[0]

    def update(carry, step):
        weights, moments = carry
        updates, moments = optimizer.update(jax.grad(loss)(weights, step), moments, weights)
        return (optax.apply_updates(weights, updates), moments), None

    @jax.jit
    def error(weights, sigma):
        """Root mean square over two standard deviations to both sides."""
        x_t = jnp.hypot(sigma, 1.04) * jnp.linspace(-2, 2, 200)[:, None]
        end = jax.vmap(lambda x: eqx.combine(weights, rest).endpoint(x, sigma))(x_t)
        return jnp.sqrt(jnp.mean(jnp.square(end - jax.vmap(lambda x: truth.transport(x, sigma, 0.0))(x_t))))

    begun = [error(weights, sigma) for sigma in (0.5, 5.0, 80.0)]
    weights, _ = jax.jit(lambda carry: jax.lax.scan(update, carry, jnp.arange(steps))[0])(
        (weights, optimizer.init(weights))
    )
    ended = [error(weights, sigma) for sigma in (0.5, 5.0, 80.0)]
    assert min(begun[1:]) > 0.9
    assert max(ended) < 0.1, ended


# --- wrong settings ---


def test_wrong_settings_are_named():
    for settings, message in (
        ({"warmup": -1}, "warmup: expected a finite number >= 0, found -1"),
        ({"tangent_c": 0.0}, "tangent_c: expected a finite number > 0, found 0.0"),
        ({"sigma_data": 0.0}, "sigma_data: expected a finite number > 0, found 0.0"),
        ({"sigma_min": 90.0}, "sigma_min: expected less than sigma_max"),
    ):
        with pytest.raises(ValueError, match=message):
            untyped(sct.ContinuousConsistency)(**settings)
    objective = sct.ContinuousConsistency(sigma_data=1.0)
    with pytest.raises(ValueError, match="sigma_data: expected 1 as the objective's in the model's precond.*found 0.5"):
        train.init_state(train.Recipe(objective, optax.sgd(1e-3)), mlp_pair())
    answer = lambda x_t, sigma, key=None: x_t
    with pytest.raises(TypeError, match="model: expected a ConsistencyModel, or a callable that returns a Readout"):
        objective(answer, jnp.ones((2, 2)), 0, key=KEY)

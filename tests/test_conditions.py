"""Conditions in networks, at sampling time and in guidance: embedders, nulls, dropped conditions, guided denoisers."""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct as sct
from catalogue import BOUNDARY, UNET
from equisct import nn
from strategies import untyped
from tolerances import FLOAT32_ROUNDING

KEY = jr.key(0)
X = jnp.array([0.3, -0.7])
IMAGE = jr.normal(KEY, (1, 4, 4))


class OwnEmbedder(eqx.Module):
    """A network of one's own, over a series of any length."""

    weight: jax.Array
    size: int = eqx.field(static=True, default=3)

    def __call__(self, condition):
        return jnp.tanh(self.weight * condition["series"].mean())


EMBEDDERS = {
    "class": (nn.ClassEmbedding(5), jnp.arange(5), 2),
    "vector": (nn.VectorEmbedding(4), jr.normal(KEY, (5, 4)), jnp.ones(4)),
    "own": (OwnEmbedder(jnp.ones(3)), {"series": jr.normal(KEY, (5, 9))}, {"series": jnp.ones(9)}),
}


def larger(torso):
    """With an output that is not near zero."""
    where = (lambda t: t.out.weight) if isinstance(torso, nn.TorsoMLP) else (lambda t: t.body.out.weight)
    return eqx.tree_at(where, torso, replace_fn=lambda weight: 1e5 * weight)


TORSOS = {
    "MLP": (lambda **told: nn.TorsoMLP(2, 8, depth=1, **told, key=KEY), X),
    "ncsnpp": (lambda **told: nn.ncsnpp(**UNET, **told, key=KEY), IMAGE),
    "ddpmpp": (lambda **told: nn.ddpmpp(**UNET, **told, key=KEY), IMAGE),
    "ddpm": (lambda **told: nn.ddpm(**UNET, **told, key=KEY), IMAGE),
}


@pytest.mark.parametrize(
    ("network", "kind"),
    [*(("MLP", kind) for kind in EMBEDDERS), *zip(("ncsnpp", "ddpmpp", "ddpm"), EMBEDDERS, strict=True)],
)
def test_a_network_tells_conditions_apart_and_each_sample_of_a_batch_has_its_own(network, kind):
    build, x = TORSOS[network]
    embedder, conditions, one = EMBEDDERS[kind]
    torso = larger(build(condition=embedder))
    call = eqx.filter_jit(lambda condition: torso(x, 0.1, condition=condition).raw)
    together = eqx.filter_vmap(call)(conditions)
    alone = [call(jax.tree.map(lambda leaf, i=i: leaf[i], conditions)) for i in range(5)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING)
    for i in range(4):
        assert not np.array_equal(alone[i], alone[i + 1])  # by little at first: a block's second branch is near zero
    assert not np.array_equal(call(one), call(None))


@pytest.mark.parametrize("network", TORSOS)
def test_an_embedder_adds_its_matrix_and_nothing_else(network):
    build, _ = TORSOS[network]
    plain, told = (eqx.filter_eval_shape(lambda c=c: build(condition=c)) for c in (None, nn.ClassEmbedding(3)))
    width = plain.mapping.first.weight.shape[0]
    assert sct.count(told) - sct.count(plain) == 3 * width + width + (3 * 8 if network == "MLP" else 0)


def test_a_null_that_has_not_learned_is_the_network_without_conditions():
    plain, told = (larger(TORSOS["ncsnpp"][0](condition=c)) for c in (None, nn.ClassEmbedding(3)))
    call = eqx.filter_jit(lambda torso: torso(IMAGE, 0.1).raw)
    np.testing.assert_allclose(call(plain), call(told), rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING)


def test_a_share_of_conditions_is_dropped_while_training_and_none_without_a_key():
    torso = larger(nn.TorsoMLP(2, 8, depth=1, condition=nn.ClassEmbedding(3), condition_dropout=0.3, key=KEY))
    answers = jax.vmap(lambda key: torso(X, 0.1, condition=1, key=key).raw)(jr.split(KEY, 4_000))
    null, told = torso(X, 0.1).raw, torso(X, 0.1, condition=1).raw
    dropped = np.isclose(answers, null, rtol=1e-5).all(1)
    np.testing.assert_allclose(answers[~dropped], jnp.broadcast_to(told, (sum(~dropped), 2)), rtol=1e-5)
    assert abs(dropped.mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4_000)


def test_a_head_meets_the_condition_in_the_readout():
    cm = sct.ConsistencyModel(larger(nn.TorsoMLP(2, 8, condition=nn.ClassEmbedding(3), key=KEY)), BOUNDARY)
    head = nn.HeadMLP(2, 8, key=KEY)
    head = eqx.tree_at(lambda h: h.out.weight, head, replace_fn=lambda weight: 1e5 * weight)
    model = sct.ScoreGuidedModel(cm, sct.ScoreHead(head, BOUNDARY))
    found = [model.denoise(X, 1.0, condition=c) for c in (0, 1, None)]
    assert len({tuple(np.asarray(each).tolist()) for each in found}) == 3
    bound = sct.Conditioned(model, 1)
    np.testing.assert_array_equal(bound.denoise(X, 1.0), found[1])
    np.testing.assert_array_equal(bound.endpoint(X, 1.0), model.endpoint(X, 1.0, condition=1))
    np.testing.assert_allclose(bound.score(X, 2.0), model.score(X, 2.0, condition=1))
    z = jr.normal(KEY, (2,))
    drawn = sct.Multistep()(bound, z)
    np.testing.assert_array_equal(drawn, model.endpoint(80 * z, 80.0, condition=1))


NARROW, WIDE = sct.oracle.Gaussian(mean=1.0, std=0.3), sct.oracle.Gaussian(mean=0.0, std=1.0)
TOLD = nn.TorsoMLP(2, 8, condition=nn.ClassEmbedding(3), key=KEY)
LIAR = nn.TorsoMLP(2, 8, condition=OwnEmbedder(jnp.ones(3)), key=KEY)
LIAR = eqx.tree_at(lambda t: t.mapping.conditioning.embedder, LIAR, nn.VectorEmbedding(3))
SHORT = OwnEmbedder(jnp.ones(2))
BAD = {
    "no class": (lambda: TOLD(X, 0.1, condition=3), "condition: expected one class number, an integer 0 to 2, found 3"),
    "negative": (lambda: TOLD(X, 0.1, condition=-1), "an integer 0 to 2, found -1"),
    "a float": (lambda: TOLD(X, 0.1, condition=jnp.ones(())), "an integer 0 to 2, found float32 ()"),
    "a batch": (lambda: TOLD(X, 0.1, condition=jnp.arange(2)), "an integer 0 to 2, found int32 (2,)"),
    "another vector": (
        lambda: LIAR(X, 0.1, condition=X), "condition: expected a float array of shape (3,), found float32 (2,)"
    ),
    "embedder of another size": (
        lambda: nn.TorsoMLP(2, 8, condition=SHORT, key=KEY)(X, 0.1, condition={"series": X}),
        "condition: expected to return an array of shape (3,), found float32 (2,)",
    ),
    "no embedder": (
        lambda: nn.TorsoMLP(2, 8, key=KEY)(X, 0.1, condition=0),
        "condition: expected none with a network that was built without, found 0",
    ),
    "dropout alone": (
        lambda: nn.TorsoMLP(2, 8, condition_dropout=0.1, key=KEY), "condition_dropout: expected 0 without an embedder"
    ),
    "dropout of all": (
        lambda: nn.TorsoMLP(2, 8, condition=nn.ClassEmbedding(3), condition_dropout=1.0, key=KEY),
        "condition_dropout: expected a number in [0, 1), found 1.0",
    ),
    "no classes": (lambda: nn.ClassEmbedding(0), "classes: expected a finite number >= 1, found 0"),
    "negative scale": (lambda: sct.guided(WIDE.denoise, WIDE.denoise, -1.0), "scale: expected a number >= 0"),
    "empty interval": (
        lambda: sct.Guided(TOLD, TOLD, 1.0, (2.0, 1.0)), "interval: expected a level and a higher one, found (2.0, 1.0)"
    ),
    "guidance of an unconditional model": (
        lambda: sct.Conditioned(sct.DenoisingModel(nn.TorsoMLP(2, 8, key=KEY), BOUNDARY), 1).denoise(X, 1.0),
        "condition: expected none with a network that was built without, found 1",
    ),
    "labels": (
        lambda: sct.oracle.Labelled(sct.oracle.Empirical(jnp.ones((3, 2))), jnp.arange(2)),
        "labels: expected shape (3,), one for each point, found (2,)",
    ),
    "a class of nobody": (
        lambda: sct.oracle.Labelled(sct.oracle.Empirical(jnp.ones((3, 2))), jnp.arange(3)).denoise(X, 1.0, condition=5),
        "condition: expected the class of a sample, found 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_condition_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_what_is_no_embedder_is_refused():
    with pytest.raises(TypeError, match="condition: expected an embedder, a callable with a number `size`, found 10"):
        nn.TorsoMLP(2, 8, condition=untyped(10), key=KEY)


# --- guidance ---

LEVELS = st.floats(0.01, 50.0)


@given(LEVELS, st.floats(0, 5))
def test_guidance_is_linear_between_and_beyond_its_two_means(sigma, scale):
    found = sct.guided(NARROW.denoise, WIDE.denoise, scale)(X, sigma)
    a, b = NARROW.denoise(X, sigma), WIDE.denoise(X, sigma)
    np.testing.assert_allclose(found, b + scale * (a - b), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sct.guided(NARROW.denoise, WIDE.denoise, 1.0)(X, sigma), a)


def test_guidance_keeps_to_its_interval():
    free = sct.guided(NARROW.denoise, WIDE.denoise, 3.0)
    bound = jax.jit(sct.guided(NARROW.denoise, WIDE.denoise, 3.0, interval=(0.5, 2.0)))
    for sigma in (0.4, 0.5, 1.0, 2.0, 2.1):
        expected = free if 0.5 <= sigma <= 2.0 else NARROW.denoise
        np.testing.assert_allclose(bound(X, sigma), expected(X, sigma), rtol=1e-6)


@given(LEVELS)
def test_an_exact_classifier_turns_the_prior_into_the_posterior(sigma):
    """x ~ N(0, 1), y | x ~ N(x, s^2): the law of y given x_t is Gaussian, and that of x given y too."""
    y, s = 0.7, 0.5
    shrunk = 1 / (1 + sigma**2)
    log_prob = lambda x_t, _: -jnp.sum((y - shrunk * x_t) ** 2) / (2 * (s**2 + sigma**2 * shrunk))
    posterior = sct.oracle.Gaussian(mean=y / (1 + s**2), std=s / math.sqrt(1 + s**2))
    found = sct.classifier_guided(WIDE.denoise, log_prob)(X, sigma)
    np.testing.assert_allclose(found, posterior.denoise(X, sigma), rtol=1e-3, atol=1e-4)


def test_a_guided_model_is_sampled_from_like_any_other():
    heun = sct.Heun(sct.karras_grid(8)[::-1])
    z = jr.normal(KEY, (2,))
    denoise = sct.guided(NARROW.denoise, WIDE.denoise, 2.0)
    expected = sct.heun(denoise, z, levels=sct.karras_grid(8)[::-1])
    np.testing.assert_allclose(heun(sct.Guided(NARROW, WIDE, 2.0), z), expected, rtol=1e-6)


def test_the_posterior_mean_of_a_class_is_that_of_its_samples_alone():
    points, labels = jr.normal(KEY, (30, 2)), jnp.arange(30) % 3
    law = sct.oracle.Labelled(sct.oracle.Empirical(points, block=7), labels)
    for sigma in (0.02, 0.3, 5.0):
        for c in range(3):
            alone = sct.oracle.Empirical(points[labels == c])
            np.testing.assert_allclose(
                law.denoise(X, sigma, condition=c), alone.denoise(X, sigma), rtol=1e-5, atol=1e-6
            )
        np.testing.assert_array_equal(law.denoise(X, sigma), law.law.denoise(X, sigma))


# --- guidance inside training ---

RING = sct.oracle.GaussianMixture.ring(modes=4, std=0.2)
OWN = [sct.oracle.GaussianMixture(RING.means[2 * c : 2 * c + 2], 0.2) for c in range(2)]


def by_class(x_t, sigma, *, condition=None):
    """The posterior mean under one of two classes of two modes each, or under none."""
    if condition is None:
        return RING.denoise(x_t, sigma)
    return jnp.where(condition == 0, *(law.denoise(x_t, sigma) for law in OWN))


EMBEDDER = nn.GuidanceEmbedding(nn.ClassEmbedding(2), 1.0, 3.0)
GUIDED = sct.ScoreGuidedModel(
    sct.ConsistencyModel(larger(nn.TorsoMLP(2, 8, depth=1, condition=EMBEDDER, key=KEY)), BOUNDARY),
    sct.ScoreHead(eqx.tree_at(lambda h: h.out.weight, nn.HeadMLP(2, 8, depth=1, key=KEY), replace_fn=lambda w: 1e5 * w),
                  BOUNDARY),
)  # fmt: skip
GRID = sct.Constant(11)
BATCH = sct.Example(jr.normal(KEY, (64, 2)), jnp.arange(64) % 2)


def step_ends(objective, batch=BATCH):
    """The draws of a batch, and what the velocity says at every sample's own `x_t`."""
    draws = objective.draw(batch, 0, key=KEY)

    def at(draw):
        x_t = sct.perturb(draw.x, draw.z, draw.pair.t)
        readout = GUIDED.cm(x_t, draw.pair.t, condition=draw.condition)
        seen = sct.TorsoPass(draw.x, x_t, draw.pair.t, readout, draw.keys.head, draw.condition)
        return x_t, objective.base.base.velocity(GUIDED, draw, seen)(x_t, draw.pair.t)

    return draws, *jax.vmap(at)(draws)


@pytest.mark.parametrize("source", ["exact", "head"])
def test_the_small_step_follows_the_guided_velocity_of_each_samples_class_and_scale(source):
    """Held against `guided` of the two denoisers, sample by sample; a scale of 0 is the velocity of no condition."""
    velocity = sct.DenoiserVelocity(by_class) if source == "exact" else sct.head_velocity
    denoise = by_class if source == "exact" else GUIDED.denoise
    base = sct.ScoreGuidedTraining(curriculum=GRID, velocity=sct.GuidedVelocity(velocity), distance=sct.SquaredL2())
    draws, x_t, found = step_ends(sct.RandomScales(base, 1.0, 3.0, null=0.25))
    told = draws.condition
    np.testing.assert_array_equal(told.condition, BATCH.condition)
    assert 0 < (told.scale == 0).sum() < 40
    assert (told.scale[told.scale > 0] >= 1).all()
    assert (told.scale <= 3).all()

    def expected(x_t, t, c, scale):
        condition = c if source == "exact" else sct.GuidedCondition(c, scale)
        own, none = denoise(x_t, t, condition=condition), denoise(x_t, t)
        return sct.pf_drift(sct.guided(lambda *_: own, lambda *_: none, scale)(x_t, t), x_t, t)

    wanted = jax.vmap(expected)(x_t, draws.pair.t, told.condition, told.scale)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    free = jax.vmap(lambda x_t, t: sct.pf_drift(denoise(x_t, t), x_t, t))(x_t, draws.pair.t)
    without = np.asarray(told.scale == 0)
    np.testing.assert_allclose(found[without], free[without], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[~without], free[~without], rtol=1e-2)


def test_a_model_is_told_condition_and_scale_and_a_scale_of_0_is_no_condition():
    at = lambda condition: np.asarray(GUIDED.endpoint(X, 1.0, condition=condition))
    assert not np.array_equal(at(sct.GuidedCondition(1, 1.0)), at(sct.GuidedCondition(1, 3.0)))
    np.testing.assert_array_equal(at(sct.GuidedCondition(1, 1.0)), at(1))
    np.testing.assert_array_equal(at(sct.GuidedCondition(1, 0.0)), at(None))
    with pytest.warns(UserWarning, match=r"scale: expected 0 or a number in \[1, 3\], .* found 5"):
        at(sct.GuidedCondition(1, 5.0))


def test_guided_training_is_one_objective_of_the_library():
    """It trains through the loop, and its parts have gradients."""
    from equisct import train  # noqa: PLC0415  (its libraries are slow to import)

    base = sct.ScoreGuidedTraining(
        curriculum=GRID, velocity=sct.GuidedVelocity(sct.head_velocity), distance=sct.SquaredL2(), head_weight=1.0
    )
    recipe = train.Recipe(sct.RandomScales(base), optax.adam(1e-3))
    after, report = train.train_step(recipe, train.init_state(recipe, GUIDED), BATCH, KEY)
    assert set(report.terms.parts) == {"consistency", "denoising"}
    matrices = [untyped(model).cm.torso.mapping.conditioning.linear.weight for model in (after.model, GUIDED)]
    moved = matrices[0] - matrices[1]
    assert (np.abs(moved).sum(1) > 0).all()


WRONG = {
    "one sample's noise": (
        lambda: sct.GuidedVelocity(sct.one_sample_velocity), ValueError, "velocity: expected a denoiser's"
    ),
    "no scales": (
        lambda: sct.ConsistencyTraining(curriculum=GRID, velocity=sct.GuidedVelocity(sct.head_velocity))(
            GUIDED, BATCH, 0, key=KEY
        ),
        TypeError,
        "condition: expected a GuidedCondition; put RandomScales around the objective, found int32 ()",
    ),
    "no condition": (
        lambda: sct.RandomScales(sct.ConsistencyTraining(curriculum=GRID))(GUIDED, BATCH.x, 0, key=KEY),
        ValueError,
        "batch: expected an Example(x, condition), found float32 (64, 2)",
    ),
    "a share of all": (lambda: sct.RandomScales(sct.EDMTraining(), null=1.0), ValueError, "null: expected a number in"),
    "an empty range": (lambda: sct.RandomScales(sct.EDMTraining(), 2.0, 1.0), ValueError, "high: expected a finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_guidance_that_cannot_be_is_refused(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=re.escape(message)):
        call()

"""Dtypes are stated: they hold with 64-bit arithmetic on and promotion an error; products that matter are exact.

Most of this is read from what programs trace to, without compiling or running them.
"""

import contextlib
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import equisct as sct
from catalogue import UNET, function_pair, mlp_pair, unet_pair
from equisct import nn, train
from equisct._base.random import draw_bernoulli, draw_normal, draw_start, draw_uniform
from equisct.diagnostics import measure_agreement, measure_alignment
from equisct.evaluation import classifier, dinov2, features, inception, lpips
from equisct.level_sampling import independent, stratified
from equisct.nn.precision import lower
from equisct.oracle import Empirical, GaussianMixture, ProductMixture
from strategies import untyped

KEY = jr.key(0)
VECTORS = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
IMAGES = np.random.default_rng(0).normal(size=(4, 1, 4, 4)).astype(np.float32)
CURRICULUM = sct.Doubling(first=10, last=40, period=2)
LEVELS = np.array([80.0, 1.0], np.float32)


@contextlib.contextmanager
def strictest():
    """64-bit arithmetic on, every implicit promotion of a dtype or a rank an error."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def mixture():
    return ProductMixture(jnp.linspace(-1, 1, 3, dtype=jnp.float32), 0.25, jnp.eye(2, dtype=jnp.float32))


def denoiser(network, form=None):
    return sct.DenoisingModel(network, form or sct.EDMPreconditioning())


def small(make, **options):
    return make(**(UNET | {"multipliers": (1, 2), "attention": (4,), "dropout": 0.1} | options), key=KEY)


def taught(objective, curriculum, model):
    return objective, model, VECTORS, {"teacher_share": curriculum.teacher_share}


HALVING, ROOT = sct.Halving.from_periods(8, 1, period=2), sct.SquareRoot(last=10, total_steps=10)
AVERAGES = {"average": train.RampedDecay(0.9), "averages": (train.PowerFunction(3.0),)}
LOWER = {"compute_dtype": jnp.bfloat16, "microbatches": 2}
GUIDED = lambda **slots: sct.ScoreGuidedTraining(curriculum=CURRICULUM, **slots)
TRAINED = {
    "MLPs, averages": lambda: (GUIDED(stratify=True), mlp_pair(), VECTORS, AVERAGES),
    "U-Nets in bfloat16, own law": lambda: (GUIDED(head_law=sct.LogNormal()), unet_pair(), IMAGES, LOWER),
    "CD": lambda: (sct.ConsistencyDistillation(denoise=mixture().denoise), mlp_pair().cm, VECTORS, {}),
    "CT": lambda: taught(sct.OriginalConsistencyTraining(curriculum=ROOT), ROOT, mlp_pair().cm),
    "ECT": lambda: (sct.EasyConsistencyTuning(curriculum=CURRICULUM), mlp_pair().cm, VECTORS, {}),
    "sCT": lambda: (
        sct.ContinuousConsistency(),
        sct.ConsistencyModel(mlp_pair().cm.torso, sct.TrigFlowPreconditioning(), nn.LogWeight(key=KEY)), VECTORS, {}
    ),
    "PD": lambda: taught(
        sct.ProgressiveDistillation.from_curriculum(HALVING), HALVING, denoiser(nn.TorsoMLP(2, 8, depth=1, key=KEY))
    ),
    "EDM": lambda: (
        sct.EDMTraining(augment=sct.Augmentation()), denoiser(small(nn.ncsnpp, augment_labels=9)), IMAGES, {}
    ),
    "DDPM": lambda: (sct.DDPMTraining(), denoiser(small(nn.ddpm), sct.VPPreconditioning()), IMAGES, {}),
}  # fmt: skip


def of_arrays(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


@pytest.mark.parametrize("name", TRAINED)
def test_an_update_keeps_every_dtype(name):
    """Objectives, networks, averages, teachers; and that the optimiser's own code is left its usual promotion."""

    def update():
        objective, model, batch, options = TRAINED[name]()
        recipe = train.Recipe(objective, optax.radam(1e-3), **options)
        before = train.init_state(recipe, model)
        assert {dtype.name for _, dtype in of_arrays(before)} <= {"float32", "int32"}
        expected = of_arrays(before)
        after, report = train.train_step(recipe, before, batch, KEY)
        assert of_arrays(after) == expected
        return report.loss

    with strictest():
        assert eqx.filter_eval_shape(update).dtype == jnp.float32


SAMPLERS = {
    "multistep": sct.Multistep((80.0, 1.0)),
    "one step": sct.Multistep(),
    "heun": sct.Heun(),
    "euler with churn": sct.Euler(churn=sct.Churn(10.0)),
    "ddim": sct.DDIM((0, 500, 900)),
    "ddim with noise": sct.DDIM((0, 500, 900), eta=0.5),
    "ancestral": sct.Ancestral(sct.VPSchedule(10, 0.05, 0.9)),
}
FUNCTIONS = {
    "one_step": lambda pair, z: sct.one_step(pair.endpoint, z),
    "multistep()": lambda pair, z: sct.multistep(pair.endpoint, z, LEVELS, key=KEY),
    "heun()": lambda pair, z: sct.heun(pair.denoise, z),
    "euler()": lambda pair, z: sct.euler(pair.denoise, z, levels=LEVELS),
    **{name: lambda pair, z, each=each: each(pair, z, key=KEY) for name, each in SAMPLERS.items()},
    **{f"{name}, all points": lambda pair, z, each=each: each.trajectory(pair, z, key=KEY)
       for name, each in SAMPLERS.items()},
    **{f"{name}, from a level": lambda pair, z, each=each: each.from_level(
        pair, z, float(each.schedule.sigmas[5]) if isinstance(each, sct.Ancestral) else 1.0, key=KEY)
       for name, each in SAMPLERS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sample_has_the_noises_dtype(name):
    """In the strictest mode, and whatever the dtype of the model's answer."""
    with strictest():
        found = eqx.filter_eval_shape(lambda: FUNCTIONS[name](mlp_pair(), jnp.asarray(VECTORS[0])))
        assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        for kind, answer in (("float16", "float64"), ("float32", "float64"), ("float64", "float32")):
            model = function_pair(*[lambda x, sigma, *_, answer=answer: (0.5 * x).astype(answer)] * 2)
            found = eqx.filter_eval_shape(lambda z, model=model: FUNCTIONS[name](model, z), jnp.zeros(2, kind))
            assert found.dtype == kind, answer


POINT = VECTORS[0]
EXACT = {
    "product": mixture,
    "mixture": lambda: GaussianMixture(jnp.asarray(VECTORS), 0.1),
    "data": lambda: Empirical(jnp.asarray(VECTORS)),
    "Gaussian": lambda: sct.oracle.Gaussian(0.0, 0.5),
}
LAWS = {
    f"{name}.{method}": lambda make=make, method=method: getattr(make(), method)(jnp.asarray(POINT), 2.0)
    for name, make in EXACT.items()
    for method in ("denoise", "score", "log_prob", "posterior_covariance")
}
OTHERS = LAWS | {
    "product.transport": lambda: mixture().transport(jnp.asarray(POINT), 2.0, 0.1),
    "solve_pf_ode": lambda: sct.solve_pf_ode(mlp_pair().denoise, jnp.asarray(POINT), 2.0, 0.1),
    "pf_ode_path": lambda: sct.pf_ode_path(mixture().denoise, jnp.asarray(POINT), LEVELS),
    "agreement": lambda: measure_agreement(
        mlp_pair(), mixture(), jnp.asarray(LEVELS), samples=4, sigma_min=0.002, key=KEY
    ),
    **{
        f"measure_{name}": lambda name=name, given=given: getattr(sct, f"measure_{name}")(
            *[getattr(mlp_pair(), part) for part in given[0]], mixture(), jnp.asarray(LEVELS), samples=4, key=KEY,
            **given[1],
        )
        for name, given in {
            "flow_map": (["endpoint"], {"sigma_min": 0.002, "core": 0.5, "basin": jnp.sign}),
            "self_consistency": (["endpoint"], {"sigma_min": 0.002}),
            "residual": (["endpoint"], {"denoise": mlp_pair().denoise}),
            "endpoint_score": (["endpoint"], {"head": mlp_pair().denoise}),
            "denoiser": (["denoise"], {"probes": 2}),
            "excess_alignment": (["denoise", "endpoint"], {"sigma_min": 0.002}),
        }.items()
    },
    "alignment": lambda: measure_alignment(
        mlp_pair().denoise, mlp_pair().endpoint, jnp.asarray(VECTORS), jnp.asarray(LEVELS),
        centre=jnp.zeros(2, jnp.float32), key=KEY,
    ),
    "score of U-Nets": lambda: unet_pair().score(jnp.asarray(IMAGES[0]), 2.0),
    "distances": lambda: [
        getattr(sct, name)()(jnp.asarray(POINT), jnp.asarray(POINT))
        for name in ("PseudoHuber", "PseudoHuberRMS", "PseudoHuberNorm", "SquaredL2", "L1")
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_laws_solvers_and_distances_keep_their_dtype(name):
    with strictest():
        found = eqx.filter_eval_shape(OTHERS[name])
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}


def test_what_is_drawn_is_the_same_with_64_bits():
    """The bits, not the dtypes alone: weights, noise, levels, dropout."""

    def drawn():
        return [
            draw_normal((2, 3), key=KEY), draw_uniform((2, 3), bound=0.5, key=KEY), draw_start((2, 3), 4, key=KEY)[0],
            draw_bernoulli((2, 3), probability=0.3, key=KEY), independent(6, key=KEY), stratified(6, key=KEY),
            nn.FourierEmbedding(6, key=KEY).frequencies.value,
        ]  # fmt: skip

    plain = jax.jit(drawn)()
    with jax.enable_x64(True):
        wide = jax.jit(drawn)()
    for one, other in zip(plain, wide, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_float32_weights_take_float64_samples(x64):
    """As docs/pf_ode.md has it: the reference solution of a trained network."""
    del x64
    x, pair = jnp.asarray(IMAGES[0], jnp.float64), eqx.filter_eval_shape(unet_pair)
    solve = lambda pair, x: [sct.solve_pf_ode(pair.denoise, x, 2.0, 0.1), pair.endpoint(x, 2.0)]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(eqx.filter_eval_shape(solve, pair, x))} == {"float64"}


# --- lower precision ---


class Apart(eqx.Module):
    """A model of one's own around a consistency model of the library."""

    cm: sct.ConsistencyModel
    scale: jax.Array

    def __call__(self, x_t, sigma, *, key=None):
        return eqx.tree_at(
            lambda readout: readout.endpoint, self.cm(x_t, sigma, key=key), replace_fn=self.scale.__mul__
        )


def test_a_model_of_ones_own_is_lowered_where_it_holds_one_of_ours_and_else_refused():
    lowered = sct.in_precision(Apart(mlp_pair().cm, jnp.ones(())), jnp.bfloat16)
    assert isinstance(lowered.cm.torso, nn.Lowered)
    assert lowered.scale.dtype == jnp.float32
    recipe = train.Recipe(untyped(lambda *_, **__: None), optax.sgd(1.0), compute_dtype=jnp.bfloat16)
    message = "compute_dtype: expected a model with a ConsistencyModel, ScoreHead, DenoisingModel in it, found TorsoMLP"
    with pytest.raises(TypeError, match=message):
        train.init_state(recipe, mlp_pair().cm.torso)


@pytest.mark.parametrize("make", [mlp_pair, unet_pair], ids=["mlp", "unet"])
def test_the_noise_embedding_enters_the_head_in_float32(make):
    """The torso's; and what makes the head's own of it is float32 too."""

    class Listening(eqx.Module):
        def __call__(self, *inputs, key=None):
            seen.extend(leaf.dtype.name for leaf in inputs)
            return inputs[0]

    seen, x, told = [], jnp.zeros((1, 4, 4)), jnp.zeros(16)
    nn.Lowered(Listening(), jnp.bfloat16)(x, x, x, told, jnp.float32(0.3))
    assert seen == ["bfloat16"] * 3 + ["float32"] * 2
    kept = eqx.filter_eval_shape(lambda: lower(make().head.network, jnp.bfloat16))
    own = [getattr(kept, part, None) for part in ("mapping", "merge", "embedding_norm")]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(own)} == {"float32"}
    assert any(getattr(leaf, "dtype", None) == jnp.bfloat16 for leaf in jax.tree.leaves(kept))


# --- products whose precision matters ---


def products(jaxpr: Jaxpr):
    """The precision of every matrix product and convolution in a program."""
    for equation in jaxpr.eqns:
        if "precision" in equation.params:
            found = equation.params["precision"]
            yield "highest" if found == "highest" or found == (jax.lax.Precision.HIGHEST,) * 2 else str(found)
        for leaf in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, ClosedJaxpr | Jaxpr)):
            inner = leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf
            if isinstance(inner, Jaxpr):
                yield from products(inner)


def zeros(shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def own_features():
    """A network of features of somebody's, who has thought of no precision."""
    net = features.FeatureNetwork(
        "own", "", lambda x: unet_pair().cm.torso(x, 0.1).raw.reshape(-1), lambda x: x[0, 0] @ x[0]
    )
    return features.see(untyped(net), jnp.zeros((1, 4, 4)))


def parts_of_inception():
    """Its convolution, of which there are 94, and its last layer."""
    conv = inception.Convolution(jnp.zeros((3, 3, 3, 2)), jnp.ones(2), jnp.zeros(2))
    net = types.SimpleNamespace(features=lambda x: jnp.zeros(2048), classes=jnp.zeros((2048, 1008)))
    return conv(jnp.zeros((5, 5, 3)), 2), inception.Inception.logits_without_bias(untyped(net), jnp.zeros((3, 5, 5)))


def seen_by_dinov2():
    dense, norm = lambda c, d: dinov2.Dense(jnp.zeros((c, d)), jnp.zeros(d)), dinov2.Norm(jnp.ones(64), jnp.zeros(64))
    block = dinov2.Block(
        norm, dense(64, 192), dense(64, 64), jnp.ones(64), norm, dense(64, 256), dense(256, 64), jnp.ones(64)
    )
    net = dinov2.DINOv2(dense(588, 64), jnp.zeros(64), jnp.zeros((257, 64)), (block,), norm)
    return net.features(jnp.zeros((3, 32, 32)))


def lpips_of_zeros():
    network, channels = lpips.lpips_shapes((2, 2, 2, 2, 2))
    image = jnp.zeros((3, 8, 8))
    return jax.grad(lambda x: lpips.lpips_from(zeros(network), zeros(channels))(x, image))(image)


EXACTLY = LAWS | {
    "product.transport": OTHERS["product.transport"],
    "solve_pf_ode of U-Nets": lambda: sct.solve_pf_ode(unet_pair().denoise, jnp.asarray(IMAGES[0]), 2.0, 0.1),
    "noise embedding": lambda: small(nn.ncsnpp, augment_labels=9).mapping(0.1, jnp.zeros(9)),
    "noise embedding in a U-Net head": lambda: untyped(unet_pair().head.network)._embed(0.1, jnp.zeros(16)),
    "augmentation": lambda: sct.Augmentation()(jnp.asarray(IMAGES[0]), key=KEY),
    "sums per level": lambda: sct.PerLevel.from_samples(jnp.ones(4), jnp.ones(4), sct.bin_edges(0.1, 2.0)),
    "features of one's own": own_features,
    "Inception": parts_of_inception,
    "DINOv2": seen_by_dinov2,
    "LPIPS and its gradient": lpips_of_zeros,
    "classifier": lambda: classifier._hidden_and_logits([(jnp.zeros((4, 2)), jnp.zeros(2))] * 1, jnp.zeros(4)),
}
NONE = {"data.score"} | {name for name in LAWS if name.endswith("log_prob") or name.startswith("Gaussian")}


@pytest.mark.parametrize("name", EXACTLY)
def test_products_that_matter_are_computed_to_all_digits(name):
    """A GPU or TPU rounds a float32 product to fewer digits by default, which a test on a CPU does not feel."""
    found = list(products(jax.make_jaxpr(EXACTLY[name])().jaxpr))
    assert set(found) <= {"highest"}
    assert found or name in NONE


def test_the_networks_own_products_have_the_precision_that_is_asked_for():
    """Where a context manager asks inside a program too; the convolution is a primitive of ours."""
    loss = lambda pair, x: pair.endpoint(x, 2.0).sum()
    gradient = lambda: eqx.filter_grad(lambda both: loss(*both))((unet_pair(), jnp.asarray(IMAGES[0])))
    assert "None" in products(jax.make_jaxpr(gradient)().jaxpr)
    with jax.default_matmul_precision("highest"):
        assert set(products(jax.make_jaxpr(gradient)().jaxpr)) == {"highest"}

"""Models: the boundary, Tweedie's formula, and the rules of which gradient reaches what (method of the paper, 2.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import mlp_pair, unet_pair
from equisct import Readout
from equisct.model import EndpointScaling
from equisct.nn import EmbeddingEntry
from strategies import levels, samples, settings
from tolerances import FLOAT32_CANCELLING

X = jr.normal(jr.key(5), (1, 4, 4))


@given(samples((2,), bound=64.0), st.booleans())
def test_endpoint_and_denoised_are_the_input_at_sigma_min_exactly(x, traced):
    sigma = jnp.float32(0.002) if traced else 0.002
    model = mlp_pair()
    np.testing.assert_array_equal(model.endpoint(x, sigma), x)
    np.testing.assert_array_equal(model.denoise(x, sigma), x)


def test_endpoint_of_images_is_the_input_at_sigma_min_exactly():
    model = unet_pair()
    np.testing.assert_array_equal(model.endpoint(X, 0.002), X)
    np.testing.assert_array_equal(model.denoise(X, 0.002), X)


@given(samples((2,)), levels(least=0.125))
def test_score_is_tweedies_formula(x, sigma):
    model = mlp_pair()
    expected = (np.asarray(model.denoise(x, sigma), np.float64) - np.asarray(x)) / sigma**2
    np.testing.assert_allclose(model.score(x, sigma), expected, rtol=FLOAT32_CANCELLING, atol=FLOAT32_CANCELLING)


@eqx.filter_jit
def head_gradient(model, x_t, sigma, x):
    def loss(model):
        readout = model.cm(x_t, sigma)
        return jnp.sum(jnp.square(model.head(x_t, sigma, readout) - x))

    return eqx.filter_grad(loss)(model)


def size(tree):
    return sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))


def test_heads_gradient_reaches_the_torsos_body_and_embedding_but_not_its_output():
    gradient = head_gradient(unet_pair(), X, 0.7, jnp.zeros_like(X))
    torso = gradient.cm.torso
    assert size(torso.body.out) == 0
    assert size(torso.body.norm) > 0
    assert all(size(block) > 0 for level in torso.body.encoder for block in level.blocks)
    assert size(torso.mapping.second) > 0
    assert size(gradient.head.network.body.out) > 0


def test_without_guide_the_heads_gradient_in_the_torso_is_exactly_zero():
    gradient = head_gradient(unet_pair(guide=False), X, 0.7, jnp.zeros_like(X))
    assert size(gradient.cm) == 0
    assert size(gradient.head) > 0


def test_each_path_can_be_cut_alone():
    sigma, zero = 0.7, jnp.zeros(2)

    def gradient(**cuts):
        model = eqx.tree_at(lambda m: m.head.network.out.weight, mlp_pair(**cuts), replace_fn=lambda w: 1e5 * w)
        return head_gradient(model, jnp.array([1.0, -0.5]), sigma, zero).cm.torso

    only_embedding, only_features = gradient(cut_features=True), gradient(cut_embedding=True)
    assert size(only_embedding.trunk) == 0
    assert size(only_embedding.mapping) > 0
    assert size(only_features.trunk) > 0
    assert size(gradient(cut_features=True, cut_embedding=True)) == 0


@pytest.mark.parametrize("scaling", EndpointScaling)
def test_endpoint_enters_the_head_scaled_as_asked(scaling):
    seen = {}

    def network(x, endpoint, features, embedding, c_noise, *, key=None):
        seen["endpoint"] = endpoint
        return x

    head = mlp_pair(endpoint_scaling=scaling).head
    head = eqx.tree_at(lambda h: h.network, head, network)
    readout = Readout(endpoint=jnp.array([1.0, -2.0]), features=jnp.ones(8), embedding=jnp.ones(8))
    head(jnp.zeros(2), 3.0, readout)
    factor = {"input": (9 + 0.25) ** -0.5, "none": 1.0, "data": 2.0}[scaling.value]
    np.testing.assert_allclose(seen["endpoint"], factor * readout.endpoint, rtol=1e-6)


def test_names_of_switches_are_what_the_command_line_says():
    assert [scaling.value for scaling in EndpointScaling] == ["input", "none", "data"]
    assert [entry.value for entry in EmbeddingEntry] == ["merge", "add", "none"]


@given(settings(0.25, 4.0))
def test_shapes_must_fit(value):
    model = mlp_pair()
    with pytest.raises(TypeError):
        model.endpoint(jnp.ones((3, 2)), jnp.ones(3))
    with pytest.raises(TypeError):
        model.endpoint(jnp.ones(2), jnp.array([value, value]))

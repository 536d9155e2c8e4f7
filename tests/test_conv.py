"""The convolution primitive against JAX's own, under every transformation that the library or a user may apply."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from equisct.nn import conv2d
from equisct.nn._conv import _lax_conv

X, W = jr.normal(jr.key(0), (5, 6, 3)), jr.normal(jr.key(1), (3, 3, 3, 2))
G = jr.normal(jr.key(2), (5, 6, 2))


def reference(x, w, padding=1):
    return _lax_conv(x[None], w, padding=((padding, padding), (padding, padding)))[0]


def ours(x, w, padding=1):
    return conv2d(x, w, padding=padding)


def naive(x, w, padding):
    x = np.pad(np.asarray(x, np.float64), ((padding,) * 2, (padding,) * 2, (0, 0)))
    h, width = x.shape[0] - w.shape[0] + 1, x.shape[1] - w.shape[1] + 1
    out = np.zeros((h, width, w.shape[3]))
    for i in range(h):
        for j in range(width):
            out[i, j] = np.tensordot(x[i : i + w.shape[0], j : j + w.shape[1]], np.asarray(w, np.float64), 3)
    return out


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_value_is_the_sum_over_the_window(padding):
    np.testing.assert_allclose(ours(X, W, padding), naive(X, W, padding), rtol=0, atol=1e-5)


def pull(conv):
    return jax.vjp(conv, X, W)[1](G)


def push(conv):
    return jax.jvp(conv, (X, W), (X[::-1], W[::-1]))[1]


def of_batch(conv):
    """The gradient of a mean over a batch, as training takes it."""
    xs = jnp.stack([X, 2 * X, X[::-1]])
    return jax.grad(lambda w: jnp.sum(jnp.sin(jax.vmap(conv, (0, None))(xs, w))))(W)


def per_sample_gradients(conv):
    xs = jnp.stack([X, X[::-1]])
    return jax.vmap(jax.grad(lambda w, x: jnp.sum(jnp.sin(conv(x, w)))), (None, 0))(W, xs)


def of_an_ensemble(conv):
    return jax.vmap(conv, (None, 0))(X, jnp.stack([W, -W])), jax.vmap(conv)(jnp.stack([X, X]), jnp.stack([W, -W]))


def batched_last(conv):
    return jax.vmap(conv, (3, None))(jnp.stack([X, 2 * X], -1), W)


def second_order(conv):
    return jax.grad(lambda x: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(conv(x, W))))(x))))(X)


def in_a_scan(conv):
    square = jr.normal(jr.key(3), (3, 3, 3, 3)) / 5

    def loss(w):
        return jnp.sum(jax.lax.scan(lambda x, _: (jnp.tanh(conv(x, w)), None), X, None, length=3)[0])

    return jax.jit(jax.grad(loss))(square)


@pytest.mark.parametrize(
    "use", [pull, push, of_batch, per_sample_gradients, of_an_ensemble, batched_last, second_order, in_a_scan]
)
def test_transformation_agrees_with_jax(use):
    for found, expected in zip(jax.tree.leaves(use(ours)), jax.tree.leaves(use(reference)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_are_convolutions_in_the_fast_layout():
    """Only channels-last convolutions, forwards and backwards: the others crawl inside loops on a CPU."""
    xs = jnp.stack([X, X])
    text = (
        jax.jit(jax.grad(lambda w, x: jnp.sum(jnp.sin(jax.vmap(ours, (0, None))(x, w))), (0, 1))).lower(W, xs).as_text()
    )
    layouts = [
        line.split("dim_numbers = ")[1].split(",")[0] for line in text.splitlines() if "stablehlo.convolution" in line
    ]
    assert len(layouts) == 3
    assert {line.split("x")[0] for line in layouts} == {"[b"}
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text
    assert text.count("stablehlo.convolution") == text.count("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]")


def test_wrong_channels_are_refused():
    with pytest.raises(TypeError, match="weight"):
        conv2d(X, W[:, :, :2], padding=1)

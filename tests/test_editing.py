"""Zero-shot editing: what is known stays, and the rest belongs to it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import equisct as sct
from equisct.samplers import colouring, edit, inpainting, super_resolution
from strategies import untyped

KEY = jr.key(0)
IMAGE = jr.normal(KEY, (3, 4, 6))
LEVELS = sct.karras_grid(20)[:0:-1]
PROJECTIONS = {
    "inpainting": inpainting(IMAGE, jnp.broadcast_to(jnp.arange(6) < 2, IMAGE.shape)),
    "super-resolution": super_resolution(IMAGE[:, ::2, ::3]),
    "colouring": colouring(IMAGE[:1]),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_projection_done_twice_is_done_once_and_moves_no_further_than_it_must(name):
    """Orthogonal: the change is at right angles to what two projected images differ by."""
    project = PROJECTIONS[name]
    other, third = jr.normal(jr.key(1), IMAGE.shape), jr.normal(jr.key(2), IMAGE.shape)
    once = project(other)
    np.testing.assert_allclose(project(once), once, atol=1e-5)
    assert abs(jnp.sum((once - other) * (once - project(third)))) < 1e-3


def test_what_is_known_is_what_was_given():
    other = jr.normal(jr.key(1), IMAGE.shape)
    np.testing.assert_array_equal(PROJECTIONS["inpainting"](other)[:, :, :2], IMAGE[:, :, :2])
    np.testing.assert_array_equal(PROJECTIONS["inpainting"](other)[:, :, 2:], other[:, :, 2:])
    blocks = PROJECTIONS["super-resolution"](other).reshape(3, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(blocks, IMAGE[:, ::2, ::3], atol=1e-5)
    tone = jnp.einsum("c,chw->hw", jnp.array([0.2989, 0.5870, 0.1140]), PROJECTIONS["colouring"](other))
    np.testing.assert_allclose(tone, IMAGE[0], atol=1e-5)


def test_the_rest_belongs_to_what_is_known():
    """Data at (-6, -1), (1, 1) and (1, 3): given a first number of -6 the second is -1; given 1 it is 1 or 3."""
    law = sct.oracle.Empirical(jnp.array([[-6.0, -1.0], [1.0, 1.0], [1.0, 3.0]]))
    endpoint = lambda x_t, sigma: sct.heun(law.denoise, x_t / sigma, levels=sigma * jnp.geomspace(1.0, 0.01, 8))

    def second(first, key):
        z_key, key = jr.split(key)
        known = inpainting(jnp.array([first, 0.0]), jnp.array([True, False]))
        return edit(endpoint, known, jr.normal(z_key, (2,)), LEVELS, key=key)

    found = jax.jit(jax.vmap(second, (0, 0)))(jnp.repeat(jnp.array([-6.0, 1.0]), 40), jr.split(KEY, 80))
    np.testing.assert_array_equal(found[:, 0], np.repeat([-6.0, 1.0], 40))
    np.testing.assert_allclose(found[:40, 1], -1, atol=0.1)
    near = np.abs(np.asarray(found[40:, 1:]) - np.array([1.0, 3.0])).min(1)
    assert np.mean(near < 0.1) > 0.9


def test_wrong_edits_are_named():
    with pytest.raises(ValueError, match=r"low: expected a small image of samples \(3, 4, 6\), found \(3, 3, 2\)"):
        super_resolution(jnp.ones((3, 3, 2)))(IMAGE)
    with pytest.raises(ValueError, match="project: expected to return an array of shape"):
        edit(lambda x, _: x, lambda x: untyped(x[0]), IMAGE, LEVELS, key=KEY)
    with pytest.raises(ValueError, match="levels: expected strictly descending levels"):
        edit(lambda x, _: x, lambda x: x, IMAGE, LEVELS[::-1], key=KEY)

"""Nine frozen outputs of the U-Nets and their blocks, reproduced in float64 to the printed digits and in float32.

Deterministic fill, `k` the flat index in C order of the tensor in (out, in, kh, kw) or (out, in) layout: weights
`sin(1 + 0.7 k) / sqrt(fan_in)`, biases `0.1 cos(1 + k)`, norm scales `1 + 0.1 sin(k)`, norm shifts `0.1 cos(k)`,
Fourier frequencies `0.02 cos(1 + k)`; inputs `sin(0.5 + 0.3 k)` in (n, c, h, w) order, embeddings `cos(0.2 k)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from equisct import count
from equisct._base.tree import Frozen
from equisct.nn import PositionalEmbedding, ddpmpp, ncsnpp
from equisct.nn.blocks import Attention, PyramidDown, ResidualBlock
from equisct.nn.layers import Conv, GroupNorm, Linear
from equisct.nn.resampling import BOX, FIR
from tolerances import FLOAT32_NETWORK, FLOAT32_ROUNDING, FLOAT64_ROUNDING

KEY = jr.key(0)


def wave(shape, fan_in):
    k = np.arange(np.prod(shape))
    return (np.sin(1 + 0.7 * k) / np.sqrt(fan_in)).reshape(shape)


def cosine(size):
    return 0.1 * np.cos(1 + np.arange(size))


def fill(node, dtype):
    """The same module with every array replaced by its deterministic fill."""

    def at(where, *values):
        return eqx.tree_at(where, node, tuple(jnp.asarray(value, dtype) for value in values))

    match node:
        case Conv():
            kh, kw, c_in, c_out = node.weight.shape
            weight = wave((c_out, c_in, kh, kw), c_in * kh * kw).transpose(2, 3, 1, 0)
            return at(lambda n: (n.weight, n.bias), weight, cosine(c_out))
        case Linear():
            c_in, c_out = node.weight.shape
            return at(lambda n: (n.weight, n.bias), wave((c_out, c_in), c_in).T, cosine(c_out))
        case GroupNorm():
            k = np.arange(node.scale.size)
            return at(lambda n: (n.scale, n.shift), 1 + 0.1 * np.sin(k), 0.1 * np.cos(k))
        case Frozen():
            return at(lambda n: (n.value,), 0.2 * cosine(node.value.size))
        case Attention():
            c = node.project.weight.shape[0]
            qkv = fill(node.qkv, dtype)
            # The printed vectors interleave: output 3 c + {0, 1, 2} is q, k, v of channel c.
            split = [(w.reshape(*w.shape[:-1], c, 3).swapaxes(-1, -2).reshape(w.shape)) for w in (qkv.weight, qkv.bias)]
            qkv = eqx.tree_at(lambda n: (n.weight, n.bias), qkv, tuple(split))
            return eqx.tree_at(
                lambda n: (n.norm, n.qkv, n.project), node, (fill(node.norm, dtype), qkv, fill(node.project, dtype))
            )
        case _:
            return node


LAYERS = (Conv, Linear, GroupNorm, Frozen, Attention)


def filled(build, dtype):
    """The module that `build(key)` makes (by shape only: no random draw is compiled), filled."""
    module = eqx.filter_eval_shape(build, KEY)
    return jax.tree.map(lambda node: fill(node, dtype), module, is_leaf=lambda node: isinstance(node, LAYERS))


def inputs(*shape, dtype):
    return jnp.asarray(np.sin(0.5 + 0.3 * np.arange(np.prod(shape))).reshape(shape), dtype)


def run_block(c_in, c_out, dtype, **options):
    block = filled(lambda key: ResidualBlock(c_in, c_out, 12, key=key, **options), dtype)
    e = jnp.asarray(np.cos(0.2 * np.arange(24)).reshape(2, 12), dtype)
    return jax.jit(lambda x, e: jax.vmap(block)(x, e))(
        inputs(2, c_in, 8, 8, dtype=dtype).transpose(0, 2, 3, 1), e
    ).transpose(0, 3, 1, 2)


def run_pyramid(dtype):
    step = filled(lambda key: PyramidDown(3, 16, taps=FIR, key=key), dtype)
    return jax.jit(lambda x: jax.vmap(step)(x))(inputs(2, 3, 8, 8, dtype=dtype).transpose(0, 2, 3, 1)).transpose(
        0, 3, 1, 2
    )


TINY = {"resolution": 16, "width": 16, "multipliers": (1, 2), "blocks": 1, "attention": (8,)}


def run_unet(make, dtype):
    net = filled(lambda key: make(**TINY, key=key), dtype)
    return jax.jit(lambda x, u: jax.vmap(net)(x, u))(
        inputs(2, 3, 16, 16, dtype=dtype), jnp.asarray([-0.5, 0.25], dtype)
    ).raw


CASES = {
    "B1": (lambda d: run_block(8, 16, d), -0.02714538, 1.70774490, [0.710935, 0.5437937, 0.3512623, 0.4034853], [1.284275, 1.2407695]),
    "B2": (lambda d: run_block(16, 16, d, attention=True), -0.02843942, 0.52404724, [0.1113622, 0.0369203, 0.0207995, -0.0003846], [-0.8220472, -0.8242609]),
    "B3": (lambda d: run_block(16, 16, d, down=True, taps=BOX), -0.10991824, 0.51426262, [-0.7710626, -1.1124604, -0.9245866, -0.4184578], [-0.2648097, -0.3667074]),
    "B4": (lambda d: run_block(16, 16, d, up=True, taps=BOX), -0.03628962, 0.47217163, [-0.9684894, -1.2127072, -1.2163665, -1.1494679], [-0.2474997, -0.2925665]),
    "B5": (lambda d: run_block(16, 16, d, down=True, taps=FIR), -0.10959948, 0.51428920, [-0.7559488, -1.0788151, -0.9284365, -0.4474663], [-0.1474346, -0.2203044]),
    "B6": (lambda d: run_block(16, 16, d, up=True, taps=FIR), -0.04008662, 0.40026412, [-0.8012969, -1.1356752, -1.1677678, -1.1232688], [-0.0108874, -0.0615656]),
    "B7": (run_pyramid, 0.01811228, 0.14407226, [0.2507571, 0.3811867, 0.3303433, 0.1675528], [-0.0416087, -0.1805379]),
    "U1": (lambda d: run_unet(ddpmpp, d), -0.03714613, 1.05906150, [-0.6583019, -0.9049506, -0.9608321, -1.1071708], [-0.3180357, -0.2773407]),
    "U2": (lambda d: run_unet(ncsnpp, d), -0.03770070, 1.01722004, [-0.7294546, -0.9734479, -0.9733427, -1.0698408], [-0.3146485, -0.273938]),
}  # fmt: skip

HALF_DIGIT_8, HALF_DIGIT_7 = 0.51e-8, 0.51e-7


@pytest.mark.parametrize("case", CASES)
def test_vector_in_float64_to_the_printed_digits_and_in_float32(case, x64):
    run, mean, std, first, last = CASES[case]
    exact = np.asarray(run(jnp.float64))
    np.testing.assert_allclose(exact.mean(), mean, rtol=0, atol=HALF_DIGIT_8)
    np.testing.assert_allclose(exact.std(), std, rtol=0, atol=HALF_DIGIT_8)
    np.testing.assert_allclose(exact.ravel()[:4], first, rtol=0, atol=HALF_DIGIT_7)
    np.testing.assert_allclose(exact.ravel()[-2:], last, rtol=0, atol=HALF_DIGIT_7)
    single = run(jnp.float32)
    assert single.dtype == jnp.float32
    assert np.abs(np.asarray(single) - exact).max() < FLOAT32_NETWORK * np.abs(exact).max()


@pytest.mark.parametrize(("make", "parameters"), [(ddpmpp, 189_347), (ncsnpp, 190_819)])
def test_tiny_networks_have_the_printed_size(make, parameters):
    assert count(eqx.filter_eval_shape(lambda key: make(**TINY, key=key), KEY)) == parameters


def test_positional_embedding_has_the_printed_values(x64):
    sin = [-0.479425539, -0.133732917, -0.0359765124, -0.00965333824, -0.00258973370, -6.94747551e-4, -1.86379663e-4, -4.99999987e-5]  # fmt: skip
    cos = [0.877582562, 0.991017410, 0.999352636, 0.999953405, 0.999996647]
    features = PositionalEmbedding(16)(-0.5)
    # The printed values come from frequencies rounded to float32.
    np.testing.assert_allclose(features[:8], sin, rtol=FLOAT32_ROUNDING, atol=0)
    np.testing.assert_allclose(features[8:13], cos, rtol=FLOAT32_ROUNDING, atol=0)
    exact = np.sin(-0.5 * 10_000.0 ** (-np.arange(8) / 7))
    np.testing.assert_allclose(features[:8], exact, rtol=FLOAT64_ROUNDING, atol=0)

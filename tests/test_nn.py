"""Layers and networks: exact sizes, initialisation, resampling, taps, switches of the head, errors."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import in_float64
from equisct import count, trainable
from equisct.nn import (
    ClassEmbedding,
    EmbeddingEntry,
    FourierEmbedding,
    HeadMLP,
    HeadUNet,
    TorsoMLP,
    ddpm,
    ddpmpp,
    ncsnpp,
)
from equisct.nn.blocks import Attention, ConvResample, ResidualBlock
from equisct.nn.layers import GroupNorm, LayerNorm, dropout, xavier
from equisct.nn.resampling import BOX, FIR, downsample, upsample
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING

KEY = jr.key(0)
SIZES = {
    "DDPM": (lambda key: ddpm(dropout=0.1, key=key), 35_746_307),
    "consistency model": (lambda key: ncsnpp(dropout=0.3, key=key), 56_395_523),
    "ddpm++ 4 blocks": (lambda key: ddpmpp(key=key), 55_732_739),
    "ddpm++ with EDM's labels of ten classes and of augmentation": (
        lambda key: ddpmpp(augment_labels=9, condition=ClassEmbedding(10), condition_dropout=0.1, key=key),
        55_735_299,
    ),
    "ddpm++ 8 blocks": (lambda key: ddpmpp(blocks=8, key=key), 96_947_715),
    "ncsn++ 8 blocks (iCT-deep)": (lambda key: ncsnpp(blocks=8, key=key), 97_610_499),
    "ddpm++ 1 block": (lambda key: ddpmpp(blocks=1, key=key), 24_821_507),
    "ddpm++ 1 block, 6 in": (lambda key: ddpmpp(blocks=1, channels_in=6, key=key), 24_824_963),
    "ddpm++ 1 block, 134 in": (lambda key: ddpmpp(blocks=1, channels_in=134, key=key), 24_972_419),
    "ddpm++ 1 block, 256 in": (lambda key: ddpmpp(blocks=1, channels_in=256, key=key), 25_112_963),
    "ddpm++ 1 block, 259 in": (lambda key: ddpmpp(blocks=1, channels_in=259, key=key), 25_116_419),
    "ddpm++ 1 block, 262 in": (lambda key: ddpmpp(blocks=1, channels_in=262, key=key), 25_119_875),
    "head, release": (lambda key: HeadUNet(key=key), 26_243_715),
    "head, literal": (
        lambda key: HeadUNet(layer_norm=False, entry_conv=False, embedding_entry=EmbeddingEntry.ADD, key=key),
        25_120_387,
    ),
    "head, direct with a merged embedding": (
        lambda key: HeadUNet(layer_norm=False, entry_conv=False, key=key),
        25_645_187 + 1_024,  # + the layer norm of the torso's embedding
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_full_size_network_has_exactly_the_published_parameters_and_is_built_by_shape(name):
    build, parameters = SIZES[name]
    shapes = eqx.filter_eval_shape(build, KEY)
    assert count(shapes) == parameters
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(shapes))


def test_frozen_frequencies_are_not_trainable():
    embedding = FourierEmbedding(8, scale=0.02, key=KEY)
    assert count(embedding) == 0
    assert not any(jax.tree.leaves(trainable(embedding)))


@given(st.sampled_from([(3, 3, 4, 8), (5, 7), (3, 3, 2, 2)]), st.sampled_from([1.0, 1e-5]), st.integers(0, 9))
def test_xavier_fills_its_interval(shape, gain, seed):
    bound = gain * math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    weights = xavier(shape, gain, key=jr.key(seed))
    assert np.abs(weights).max() <= bound
    assert np.abs(weights).max() > 0.7 * bound


def test_initial_block_is_its_skip_and_biases_are_zero():
    """The second convolution starts near zero, so a new block passes its input on, scaled."""
    block = ResidualBlock(4, 4, 6, key=KEY)
    x = jr.normal(KEY, (4, 4, 4))
    np.testing.assert_allclose(block(x, jnp.ones(6)), x * math.sqrt(0.5), atol=1e-3)
    assert not block.conv0.bias.any()
    assert not block.affine.bias.any()
    assert (block.norm0.scale == 1).all()


def naive_down(x, taps):
    padded = np.pad(x, ((len(taps) // 2 - 1,) * 2, (len(taps) // 2 - 1,) * 2, (0, 0)))
    kernel = np.outer(taps, taps) / sum(taps) ** 2
    h, w, k = x.shape[0] // 2, x.shape[1] // 2, len(taps)
    windows = [[padded[2 * i : 2 * i + k, 2 * j : 2 * j + k] for j in range(w)] for i in range(h)]
    return np.array([[np.tensordot(kernel, window, 2) for window in row] for row in windows])


def naive_up(x, taps):
    """Zeros between the pixels, then the filter at four times its gain."""
    h, w, c = x.shape
    k = len(taps)
    spread = np.zeros((2 * h, 2 * w, c))
    spread[::2, ::2] = x
    padded = np.pad(spread, ((k // 2, k // 2 - 1), (k // 2, k // 2 - 1), (0, 0)))
    kernel = 4 * np.outer(taps, taps) / sum(taps) ** 2
    rows = range(2 * h)
    return np.array([[np.tensordot(kernel, padded[i : i + k, j : j + k], 2) for j in range(2 * w)] for i in rows])


@pytest.mark.parametrize("taps", [BOX, FIR])
def test_resampling_is_the_printed_filter(taps):
    x = np.asarray(jr.normal(KEY, (4, 6, 2)))
    np.testing.assert_allclose(downsample(jnp.asarray(x), taps), naive_down(x, taps), rtol=0, atol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(upsample(jnp.asarray(x), taps), naive_up(x, taps), rtol=0, atol=FLOAT32_ROUNDING)


def test_filters_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match=r"taps: expected a symmetric filter of two or four taps, found \(1, 2, 1\)"):
        upsample(jnp.ones((2, 2, 1)), (1, 2, 1))


@given(st.sampled_from([4, 8, 12]), st.integers(0, 9))
def test_norms_normalise(channels, seed):
    x = 3 + 5 * jr.normal(jr.key(seed), (4, 4, channels))
    grouped = np.asarray(GroupNorm(channels)(x)).reshape(16, -1, 4 if channels > 4 else channels)
    np.testing.assert_allclose(grouped.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(grouped.std((0, 2)), 1, atol=1e-4)
    at_pixels = np.asarray(LayerNorm(channels)(x))
    np.testing.assert_allclose(at_pixels.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(at_pixels.std(-1), 1, atol=1e-3)


def test_dropout_keeps_the_mean_and_repeats_with_its_key():
    x = jnp.ones((50, 50))
    y = dropout(x, 0.3, key=KEY)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    np.testing.assert_allclose(y.mean(), 1, atol=0.05)
    np.testing.assert_array_equal(y, dropout(x, 0.3, key=KEY))
    np.testing.assert_array_equal(x, dropout(x, 0.3, key=None))
    np.testing.assert_array_equal(x, dropout(x, 0.0, key=KEY))


SMALL: dict[str, Any] = {
    "channels": 1,
    "resolution": 4,
    "width": 4,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention": (2,),
}


def test_taps_are_before_and_after_what_they_say(x64):
    del x64
    x = jr.normal(KEY, (1, 4, 4))
    post = in_float64(ncsnpp(**SMALL, key=KEY))
    pre = in_float64(ncsnpp(**SMALL, tap_before_norm=True, tap_after_silu=True, key=KEY))
    a, b = (eqx.filter_jit(net)(x, 0.1) for net in (post, pre))
    np.testing.assert_array_equal(a.raw, b.raw)
    after = eqx.filter_jit(post.body.activate)(b.features.transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(a.features, after, atol=FLOAT64_ROUNDING)
    np.testing.assert_allclose(jax.nn.silu(a.embedding), b.embedding, atol=FLOAT64_ROUNDING)
    assert a.features.shape == (4, 4, 4)
    assert a.embedding.shape == (16,)


@pytest.mark.parametrize("entry", EmbeddingEntry)
@pytest.mark.parametrize("entry_conv", [True, False])
def test_head_reads_what_its_switches_let_in(entry, entry_conv):
    head = HeadUNet(
        **SMALL, torso_channels=4, torso_embedding=16, entry_conv=entry_conv, embedding_entry=entry, key=KEY
    )
    # The output layer starts near zero: enlarge it, to see differences.
    head = eqx.tree_at(lambda h: h.body.out.weight, head, replace_fn=lambda w: 1e5 * w)
    inputs = [jr.normal(k, s) for k, s in zip(jr.split(KEY, 4), [(1, 4, 4), (1, 4, 4), (4, 4, 4), (16,)], strict=True)]
    raw = head(*inputs, 0.1)
    assert raw.shape == (1, 4, 4)
    sees = [not np.allclose(raw, head(*inputs[:i], inputs[i][::-1] + 0.5, *inputs[i + 1 :], 0.1)) for i in range(4)]
    assert sees == [True, True, True, entry is not EmbeddingEntry.NONE]


def test_mlps_have_the_shapes_of_a_torso_and_a_head():
    out = TorsoMLP(3, 8, key=KEY)(jnp.ones(3), 0.1)
    assert (out.raw.shape, out.features.shape, out.embedding.shape) == ((3,), (8,), (8,))
    head = HeadMLP(3, 12, torso_width=8, key=KEY)
    assert head(jnp.ones(3), jnp.ones(3), out.features, out.embedding, 0.1).shape == (3,)


def changed(settings: dict[str, Any]) -> dict[str, Any]:
    return {**SMALL, **settings}


BAD = {
    "resolution": (lambda: ncsnpp(**changed({"resolution": 5}), key=KEY), "resolution: expected a multiple of 2"),
    "blocks": (lambda: ncsnpp(**changed({"blocks": 0}), key=KEY), "blocks: expected at least 1, found 0"),
    "multipliers": (lambda: ncsnpp(**changed({"multipliers": ()}), key=KEY), "multipliers: expected at least 1"),
    "dropout": (lambda: ncsnpp(**SMALL, dropout=1.0, key=KEY), r"dropout: expected a number in \[0, 1\), found 1.0"),
    "channels": (lambda: GroupNorm(18), "channels: expected a multiple of 4 for group norm, found 18"),
    "embedding": (
        lambda: HeadUNet(**SMALL, torso_channels=4, torso_embedding=8, embedding_entry=EmbeddingEntry.ADD, key=KEY),
        "torso_embedding: expected 4 width = 16 to be added, found 8",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_setting_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_image_of_another_shape_is_named():
    net = eqx.filter_eval_shape(lambda key: ncsnpp(**SMALL, key=key), KEY)
    with pytest.raises(TypeError, match="x"):
        eqx.filter_eval_shape(lambda net: net(jnp.ones((4, 4)), 0.1), net)


def test_ddpms_change_of_size_is_a_strided_convolution_and_doubling_before_one():
    x = jr.normal(KEY, (6, 6, 4))
    down, up = (ConvResample(4, up=up, key=KEY) for up in (False, True))
    numbers = ("NHWC", "HWIO", "NHWC")
    strided = jax.lax.conv_general_dilated(x[None], down.conv.weight, (2, 2), "SAME", dimension_numbers=numbers)[0]
    np.testing.assert_allclose(down(x, jnp.zeros(1)), strided, rtol=1e-4, atol=1e-5)
    doubled = jnp.repeat(jnp.repeat(x, 2, 0), 2, 1)
    plain = jax.lax.conv_general_dilated(doubled[None], up.conv.weight, (1, 1), "SAME", dimension_numbers=numbers)[0]
    np.testing.assert_allclose(up(x, jnp.zeros(1)), plain, rtol=1e-4, atol=1e-5)


def test_sums_of_plain_blocks_are_not_divided():
    """The second branch starts near zero, so a block is its skip: the input itself, or divided by the root of two."""
    x, e = jr.normal(KEY, (4, 4, 8)), jnp.zeros(16)
    for plain, scale in ((True, 1.0), (False, math.sqrt(0.5))):
        np.testing.assert_allclose(ResidualBlock(8, 8, 16, plain=plain, key=KEY)(x, e), scale * x, atol=1e-3)
        np.testing.assert_allclose(Attention(8, plain=plain, key=KEY)(x), scale * x, atol=1e-3)

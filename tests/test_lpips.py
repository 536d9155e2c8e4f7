"""LPIPS: laws, the formula in NumPy with a narrow network, weights from files, and mistakes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from equisct.app import methods, presets
from equisct.app.cli import train
from equisct.evaluation import LPIPS, load_lpips
from equisct.evaluation.lpips import BLOCKS, SCALE, SHIFT, lpips_from, lpips_shapes
from test_cli_evaluate import call

WIDTHS = (2, 3, 3, 4, 4)
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Of the convolutions in torchvision's list."""


def weights():
    """Random ones of a narrow network, as they lie in the two files."""
    draw = np.random.default_rng(0)
    shapes, channels = lpips_shapes(WIDTHS)
    network = {name: draw.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return network, {name: draw.uniform(0, 1, shape).astype(np.float32) for name, shape in channels.items()}


def images(n=2, side=20):
    return np.random.default_rng(3).uniform(-1, 1, (n, 3, side, side)).astype(np.float32)


def small():
    made = lpips_from(*weights())
    return LPIPS(made.kernels, made.biases, made.weights, size=16)


def in_numpy(a, b, network, channels):
    """The formula, in float64, on images that are not enlarged."""

    def features(x):
        h = (x - np.array(SHIFT)[:, None, None]) / np.array(SCALE)[:, None, None]
        found, places = [], iter(PLACES)
        for block, count in enumerate(BLOCKS):
            if block:
                c, rows, columns = (h.shape[0], h.shape[1] // 2, h.shape[2] // 2)
                h = h[:, : 2 * rows, : 2 * columns].reshape(c, rows, 2, columns, 2).max((2, 4))
            for _ in range(count):
                place = next(places)
                padded = np.pad(h, ((0, 0), (1, 1), (1, 1)))
                windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
                h = np.einsum("chwij,ocij->ohw", windows, network[f"features.{place}.weight"].astype(np.float64))
                h = np.maximum(h + network[f"features.{place}.bias"][:, None, None], 0)
            found.append(h / (np.sqrt(np.square(h).sum(0)) + 1e-10))
        return found

    total = 0.0
    for i, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
        weighted = np.square(x - y) * channels[f"lin{i}.model.1.weight"].reshape(-1, 1, 1)
        total += weighted.sum(0).mean()
    return total


def test_the_distance_is_the_printed_formula():
    a, b = images().astype(np.float64)
    expected = in_numpy(a, b, *weights())
    assert expected > 0.01
    np.testing.assert_allclose(eqx.filter_jit(small())(*images()), expected, rtol=1e-4)


def test_it_is_a_distance_with_a_gradient():
    distance, (a, b) = eqx.filter_jit(small()), images()
    assert distance(a, a) == 0
    assert distance(a, b) > 0
    np.testing.assert_allclose(distance(a, b), distance(b, a), rtol=1e-6)
    slope = eqx.filter_jit(eqx.filter_grad(lambda a, b: small()(a, b)))(a, b)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0
    network, channels = weights()
    dark = lpips_from(network | {"features.0.bias": np.full(WIDTHS[0], -100, np.float32)}, channels)
    off = LPIPS(dark.kernels, dark.biases, dark.weights, size=16)  # every channel is 0, where a norm has no slope
    np.testing.assert_array_equal(jax.nn.relu(off.features(jnp.asarray(a))[0]), 0)
    assert np.isfinite(eqx.filter_jit(eqx.filter_grad(lambda a, b: off(a, b)))(a, b)).all()


def test_small_images_are_enlarged_and_large_ones_are_not():
    shapes = {side: [h.shape[0] for h in features(side)] for side in (8, 16, 20)}
    assert shapes == {8: [16, 8, 4, 2, 1], 16: [16, 8, 4, 2, 1], 20: [20, 10, 5, 2, 1]}


def features(side):
    return jax.eval_shape(small().features, jax.ShapeDtypeStruct((3, side, side), jnp.float32))


@pytest.fixture
def folder(tmp_path):
    network, channels = weights()
    save_file(network, tmp_path / "vgg16-397923af.safetensors")
    save_file(channels, tmp_path / "vgg.safetensors")
    return tmp_path


def test_weights_come_from_the_two_files(folder):
    found = load_lpips(folder)
    assert found.size == 224
    np.testing.assert_array_equal(found.kernels[0], weights()[0]["features.0.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(found.weights[4], weights()[1]["lin4.model.1.weight"].reshape(-1))
    method = methods.CT(distance="lpips", lpips=folder)
    assert isinstance(method.build_distance((3, 32, 32)), LPIPS)


MISTAKES = {
    "lpips: expected a folder with vgg16-397923af.pth and vgg.pth": lambda n, c: (None, c),
    "found no vgg.pth": lambda n, c: (n, None),
    "expected features.28.bias of 1 dimensions, found none": lambda n, c: (without(n, "features.28.bias"), c),
    "expected the layers of VGG-16, found convolution 1": lambda n, c: (
        n | {"features.2.weight": np.zeros((2, 5, 3, 3), np.float32)}, c),
    "expected a weight >= 0 for each channel": lambda n, c: (
        n, c | {"lin0.model.1.weight": -np.ones((1, 2, 1, 1), np.float32)}),
    "found [7, 3, 3, 4, 4] of them": lambda n, c: (n, c | {"lin0.model.1.weight": np.ones((1, 7, 1, 1), np.float32)}),
}  # fmt: skip


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize("message", MISTAKES)
def test_wrong_weights_are_named(message, tmp_path):
    for name, arrays in zip(("vgg16-397923af", "vgg"), MISTAKES[message](*weights()), strict=True):
        if arrays is not None:
            save_file(arrays, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="^lpips: .*expected") as found:
        load_lpips(tmp_path)
    assert message in str(found.value)


def test_the_command_refuses_what_it_cannot_measure_by(folder, tmp_path):
    run, photos = tmp_path / "run", tmp_path / "photos.npz"
    np.savez(photos, images=np.full((64, 8, 8, 3), 255, np.uint8))
    wrong = ("--method.lpips", tmp_path / "nowhere")
    for words, message in (
        (("tiny", "--method.lpips", folder), "method.distance: expected RGB images (3, h, w) for lpips, found samples"),
        (("npz", "--data.path", photos, *wrong), "method.lpips: expected a folder with"),
    ):
        ended = call(train.main, *words, "--method.distance", "lpips", "--run.dir", run)
        assert (ended.code, message in ended.err) == (2, True), ended.err
        assert not run.exists()


def test_published_presets_take_it():
    for name in ("cifar10-cd", "cifar10-ct"):
        assert presets.PRESETS[name][1].method.distance == "lpips"  # type: ignore[attr-defined]

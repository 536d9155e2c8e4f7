"""DINOv2: the transformer's formula in NumPy with a small network, weights from files, and mistakes."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from equisct.app.cli import evaluate
from equisct.evaluation import extract, load_dinov2
from equisct.evaluation.dinov2 import MEAN, SPREAD, dinov2_from, resized
from test_cli_evaluate import call

WIDTH, DEPTH, PATCH = 64, 2, 56
GRID = 4
"""Places to a side in 224 pixels."""


def weights(grid=GRID):
    """Random ones, by the names of the public files."""
    draw = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + grid * grid, WIDTH), "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
    }  # fmt: skip
    for i in range(DEPTH):
        layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (96, WIDTH),
                  "mlp.fc2": (WIDTH, 96), "norm1": (WIDTH,), "norm2": (WIDTH,)}  # fmt: skip
        for name, shape in layers.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        shapes |= {f"blocks.{i}.ls{k}.gamma": (WIDTH,) for k in (1, 2)}
    large = ("fc1.weight", "ls2.gamma")  # so that the kind of the GELU can be seen
    scale = lambda name: 1.0 if name.endswith(large) else 0.1
    return {name: (scale(name) * draw.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def in_numpy(x, arrays):
    """The formula in float64, for an image of 224 pixels."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    norm = lambda h, name: (
        (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6) * w[f"{name}.weight"]
        + w[f"{name}.bias"]
    )
    dense = lambda h, name: h @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    h = ((x + 1) / 2 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(SPREAD, (3, 1, 1))
    kernel = w["patch_embed.proj.weight"]
    tokens = [w["cls_token"][0, 0]]
    for row in range(GRID):
        for column in range(GRID):
            patch = h[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            tokens.append(np.einsum("dchw,chw->d", kernel, patch) + w["patch_embed.proj.bias"])
    h = np.stack(tokens) + w["pos_embed"][0]
    for i in range(DEPTH):
        name = f"blocks.{i}"
        q, k, v = np.split(dense(norm(h, f"{name}.norm1"), f"{name}.attn.qkv"), 3, axis=1)
        scores = np.exp(q @ k.T / 8)  # one head of 64 channels
        attended = scores / scores.sum(1, keepdims=True) @ v
        h = h + w[f"{name}.ls1.gamma"] * dense(attended, f"{name}.attn.proj")
        inner = dense(norm(h, f"{name}.norm2"), f"{name}.mlp.fc1")
        inner = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        h = h + w[f"{name}.ls2.gamma"] * dense(inner, f"{name}.mlp.fc2")
    return norm(h, "norm")[0]


def test_the_class_token_is_that_of_the_formula():
    x = np.random.default_rng(1).uniform(-1, 1, (3, 224, 224)).astype(np.float32)
    found = eqx.filter_jit(dinov2_from(weights()).features)(jnp.asarray(x))
    np.testing.assert_allclose(found, in_numpy(x.astype(np.float64), weights()), atol=2e-5)


def test_images_of_any_size_are_seen_and_enlarged_first():
    net = dinov2_from(weights())
    x = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 32, 32)), jnp.float32)
    large = jax.image.resize(x, (3, 224, 224), "cubic")
    see = eqx.filter_jit(net.features)
    np.testing.assert_allclose(see(x), see(large), atol=2e-5)
    assert jax.eval_shape(net.features, jax.ShapeDtypeStruct((3, 300, 200), jnp.float32)).shape == (WIDTH,)


def test_places_are_made_fewer_by_cubic_interpolation():
    """A plane comes back but for the border, at coordinates that the added tenth of a place moves; PyTorch's answer
    for random places is compared in benchmarks/dinov2_parity.py."""
    down, right = np.mgrid[:37, :37].astype(np.float32)
    plane = np.stack([down, right, np.ones_like(down)], -1).reshape(-1, 3)
    found = resized(plane, 16).reshape(16, 16, 3)
    at = (np.arange(16) + 0.5) / (16.1 / 37) - 0.5
    np.testing.assert_allclose(found[1:-1, 0, 0], at[1:-1], atol=0.15)  # a = -0.75 bends a line by so much
    np.testing.assert_allclose(found[0, 1:-1, 1], at[1:-1], atol=0.15)
    np.testing.assert_allclose(found[..., 2], 1, rtol=1e-6)
    np.testing.assert_array_equal(resized(plane[:256], 16), plane[:256])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "dinov2.safetensors"
    save_file(weights(grid=5), path)
    return path


def test_a_network_from_a_file_is_known_by_size_and_hash(file):
    net = load_dinov2(file)
    assert (net.name, len(net.weights), net.logits) == ("dinov2-64-56", 64, None)
    found = extract(net, np.random.default_rng(0).uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32))
    assert found.features.shape == (3, WIDTH)
    assert np.isfinite(found.features).all()


def test_the_command_measures_in_it(file, tmp_path):
    photos = tmp_path / "photos.npz"
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    np.savez(photos, images=images)
    words = ("--features", "dinov2", "--weights", file)
    out = tmp_path / "ref.npz"
    assert call(evaluate.main, "stats", photos, *words, "--out", out).code == 0
    ended = call(evaluate.main, "images", photos, *words, "--ref", out, "--metrics", "frechet", "kernel")
    assert ended.code == 0, ended.err
    assert "in features of dinov2-64-56" in ended.out
    assert "no more than the 64 features" in ended.out
    assert call(evaluate.main, "stats", "digits", *words, "--out", tmp_path / "x.npz").code == 2


MISTAKES = {
    "expected blocks.0.ls1.gamma of 1 dimensions, found none": lambda w: without(w, "blocks.0.ls1.gamma"),
    "expected a square of places in pos_embed, found 17": lambda w: (
        w | {"pos_embed": np.zeros((1, 18, 64), np.float32)}
    ),
    "expected those of DINOv2 without registers, found other shapes": lambda w: (
        w | {"blocks.1.mlp.fc2.weight": np.zeros((64, 95), np.float32)}
    ),
    "expected patch_embed.proj.weight of 4 dimensions, found none": lambda w: {},
}


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize("message", MISTAKES)
def test_wrong_weights_are_named_with_their_hash(message, tmp_path):
    path = tmp_path / "wrong.safetensors"
    save_file(MISTAKES[message](weights()), path)
    with pytest.raises(ValueError, match=r"^weights: expected .*; the SHA-256 of .* is [0-9a-f]{64}$") as found:
        load_dinov2(path)
    assert message in str(found.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="weights: expected the file of DINOv2, found nothing at"):
        load_dinov2(tmp_path / "away.pth")
    ended = call(evaluate.main, "stats", "digits", "--features", "dinov2", "--out", tmp_path / "x.npz")
    assert (ended.code, "weights: expected the public checkpoint of DINOv2, found none" in ended.err) == (2, True)

"""EDM's augmentation: what an affine map must do, labels that say what was done, and the way into the network."""

import dataclasses
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct as sct
from equisct.app import methods, presets
from equisct.app.cli import train
from equisct.app.parts.models import consistency_model, transplant
from equisct.app.settings import codec
from equisct.app.settings.config import Torso
from equisct.augmentation import AUGMENT_LABELS, SYM6, Augmentation, affine
from equisct.nn import ddpmpp, ncsnpp
from strategies import untyped
from test_cli_evaluate import call
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING

KEY = jr.key(3)
IMAGE = jr.uniform(KEY, (3, 8, 10), minval=-1, maxval=1)
EYE = jnp.eye(2)
moved = jax.jit(affine)
augmented = eqx.filter_jit(lambda augment, x, key: augment(x, key=key))


# --- the affine map ---


def test_the_wavelet_is_orthogonal_to_its_even_shifts():
    products = [SYM6[2 * k :] @ SYM6[: len(SYM6) - 2 * k] for k in range(6)]
    np.testing.assert_allclose(products, [1, 0, 0, 0, 0, 0], atol=1e-11)
    np.testing.assert_allclose(SYM6.sum(), math.sqrt(2), rtol=1e-12)


@given(st.integers(-7, 7), st.integers(-9, 9))
def test_whole_pixels_move_exactly_and_the_border_is_a_mirror(down, right):
    rows, columns = np.arange(8) - down, np.arange(10) - right
    mirrored = lambda places, n: np.abs((places + n - 1) % (2 * n - 2) - n + 1)
    wanted = np.asarray(IMAGE)[:, mirrored(rows, 8)][:, :, mirrored(columns, 10)]
    with jax.enable_x64(True):
        image, linear, shift = (jnp.asarray(np.asarray(a), jnp.float64) for a in (IMAGE, EYE, [right, down]))
        np.testing.assert_allclose(moved(image, linear, shift), wanted, atol=FLOAT64_ROUNDING)


@given(st.floats(-3, 3), st.floats(0.5, 2), st.floats(-3, 3))
def test_a_plain_image_stays_plain(angle, scale, shift):
    c, s = math.cos(angle), math.sin(angle)
    found = moved(jnp.full((3, 8, 10), 0.7), scale * jnp.array([[c, -s], [s, c]]), jnp.array([shift, -shift]))
    np.testing.assert_allclose(found, 0.7, atol=FLOAT32_ROUNDING)


@pytest.mark.parametrize(("angle", "scale", "shift"), [(math.pi / 2, 1, 0), (0.5, 1.1, 1), (-2.5, 0.9, -0.5)])
def test_a_smooth_image_is_the_function_at_the_mapped_points(angle, scale, shift):
    """Away from the border, to what bilinear interpolation at twice the resolution leaves of a bump 4 pixels wide."""
    n, c, s = 32, math.cos(angle), math.sin(angle)
    right, down = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 2)
    bump = lambda right, down: np.exp(-((right - 3) ** 2 + (down + 2) ** 2) / 40)
    linear = scale * np.array([[c, -s], [s, c]])
    points = np.einsum("ij,jhw->ihw", np.linalg.inv(linear), np.stack([right - shift, down - 2 * shift]))
    found = moved(
        jnp.asarray(bump(right, down)[None], jnp.float32),
        jnp.asarray(linear, jnp.float32),
        jnp.array([shift, 2 * shift], jnp.float32),
    )
    np.testing.assert_allclose(found[0, 8:-8, 8:-8], bump(*points)[8:-8, 8:-8], atol=6e-3)


# --- labels ---


def rebuilt(labels, x, sign, spread=0.2, shift=0.125):
    """What the labels say, done to the image; they leave the sign of the stretch open."""
    mirror, over, scale, cos, sin, right, down, *moves = np.asarray(labels, np.float64)
    x = np.asarray(x)[:, :, ::-1] if mirror else np.asarray(x)
    x = x[:, ::-1] if over else x
    turn = np.array([[cos + 1, -sin], [sin, cos + 1]])
    amount, along = sign * math.hypot(right, down), math.atan2(down, right)
    axis = np.array([[math.cos(along), -math.sin(along)], [math.sin(along), math.cos(along)]])
    stretch = axis @ np.diag([2 ** (spread * amount), 2 ** (-spread * amount)]) @ axis.T
    linear = stretch @ turn * 2 ** (spread * scale)
    move = shift * np.array(moves) * [x.shape[2], x.shape[1]]
    return moved(jnp.asarray(x), jnp.asarray(linear, jnp.float32), jnp.asarray(move, jnp.float32))


def bump(right, down):
    return np.exp(-((right - 3) ** 2 + (down + 2) ** 2) / 40)


RIGHT, DOWN = np.meshgrid(*[np.arange(32) - 15.5] * 2)
BUMP = jnp.asarray(bump(RIGHT, DOWN)[None], jnp.float32)


FIXED = -0.049
"""Right of and below the middle, in pixels: the point that EDM's pipeline leaves in place."""


def published_map(labels, sign, shift):
    """Where a pixel of the result is taken from, by the labels and the matrices of EDM's pipeline in their order.

    Points are (right, down) from the point that is left in place, in pixels; a rotation's matrix takes right to down.
    """
    rotation = lambda c, s: np.array([[c, -s], [s, c]])
    _, _, scale, cos, sin, stretch_right, stretch_up, *moves = np.asarray(labels, np.float64)
    amount = sign * math.hypot(stretch_right, stretch_up)
    c, s = (sign * np.array([stretch_right, stretch_up]) / abs(amount)) if amount else (1.0, 0.0)
    stretch = np.diag([2 ** (-0.2 * amount), 2 ** (0.2 * amount)])
    linear = 2 ** (-0.2 * scale) * rotation(cos + 1, sin) @ rotation(c, -s) @ stretch @ rotation(c, s)
    return linear, -linear @ (shift * np.array(moves))


def test_published_labels_are_those_of_edms_pipeline():
    """A bump lands where the published matrices put it; with the other convention's labels it does not."""
    points, worst = np.stack([RIGHT, DOWN]) - FIXED, {True: 0.0, False: 0.0}
    for seed, published in ((seed, published) for seed in range(8) for published in worst):
        found, labels = augmented(Augmentation(0.6, shift=0.02, published=published), BUMP, jr.key(seed))
        by_sign = []
        for sign in (1, -1):
            linear, move = published_map(labels, sign, 0.02 * 32)
            right, down = np.einsum("ij,jhw->ihw", linear, points) + move[:, None, None] + FIXED
            wanted = bump(right * (1 - 2 * labels[0]), down * (1 - 2 * labels[1]))
            by_sign.append(np.abs(np.asarray(found[0]) - wanted)[10:-10, 10:-10].max())
        worst[published] = max(worst[published], min(by_sign))
    assert worst[True] < 0.01
    assert worst[False] > 0.1


@pytest.mark.parametrize(("centre", "fixed"), [(None, 0.0), (0.0, FIXED)], ids=["ours", "published"])
def test_the_point_that_a_turn_leaves_in_place(centre, fixed):
    """Half a turn about `fixed`, in pixels from the middle, takes a bump at (3, -2) to twice that less (3, -2)."""
    half_turn = affine(BUMP, -EYE, jnp.zeros(2), **({} if centre is None else {"centre": centre}))[0]
    weight = np.maximum(np.asarray(half_turn) - 0.2, 0)
    found = [(weight * axis).sum() / weight.sum() for axis in (RIGHT, DOWN)]
    np.testing.assert_allclose(found, [2 * fixed - 3, 2 * fixed + 2], atol=0.01)


def error(found, labels, x):
    return min(float(jnp.abs(found - rebuilt(labels, x, sign)).max()) for sign in (1, -1))


def test_labels_say_what_was_done():
    seen = np.zeros(AUGMENT_LABELS, bool)
    for seed in range(12):
        found, labels = augmented(Augmentation(0.6), IMAGE, jr.key(seed))
        assert error(found, labels, IMAGE) < 2e-4
        seen |= np.asarray(labels) != 0
    assert seen.all()


def test_each_is_done_as_often_as_it_should_be():
    augment, n = Augmentation(0.3), 4000
    labels = np.asarray(jax.jit(jax.vmap(lambda key: augment(jnp.zeros((1, 2, 2)), key=key)[1]))(jr.split(KEY, n)))
    shares = (labels != 0).mean(0)
    expected = np.array([0.5, 0.15, *[0.3] * 4, 0.15, *[0.3] * 2])  # half of the stretches are along the width
    assert np.all(np.abs(shares - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n))
    done = [labels[labels[:, i] != 0, i] for i in (2, 7, 8)]
    for values in done:  # unit Gaussians
        assert abs(values.mean()) < 4.5 / math.sqrt(len(values))
        assert abs(values.std() - 1) < 4.5 / math.sqrt(2 * len(values))
    np.testing.assert_array_equal(labels[:, 3] != 0, labels[:, 4] != 0)


def test_without_any_an_image_is_itself_or_its_mirror_image():
    for seed in range(4):
        found, labels = augmented(Augmentation(0.0), IMAGE, jr.key(seed))
        np.testing.assert_array_equal(found, IMAGE[..., ::-1] if labels[0] else IMAGE)
        assert not labels[1:].any()


# --- the network ---


@pytest.mark.parametrize(("make", "size"), [(ddpmpp, 55_733_891), (ncsnpp, 56_397_827)])
def test_networks_with_labels_have_their_published_sizes(make, size):
    assert sct.count(eqx.filter_eval_shape(lambda key: make(augment_labels=AUGMENT_LABELS, key=key), KEY)) == size


SMALL = {"channels": 1, "resolution": 4, "width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}


def test_labels_of_zero_are_no_labels_and_others_are_seen():
    told, untold = (untyped(ddpmpp)(**SMALL, augment_labels=labels, key=KEY) for labels in (AUGMENT_LABELS, 0))
    x, labels = jnp.ones((1, 4, 4)), jnp.arange(1.0, 1 + AUGMENT_LABELS)
    embedding = lambda net, **named: net.mapping(0.3, **named)
    np.testing.assert_array_equal(embedding(told), embedding(untold))
    np.testing.assert_array_equal(embedding(told, augment_labels=jnp.zeros(AUGMENT_LABELS)), embedding(told))
    by_hand = told.mapping.embedding(0.3) + labels @ untyped(told.mapping).augment_labels
    wanted = told.mapping.second(jax.nn.silu(told.mapping.first(by_hand)))
    np.testing.assert_allclose(embedding(told, augment_labels=labels), wanted, rtol=FLOAT32_ROUNDING)
    with pytest.raises(ValueError, match="augment_labels: expected none with a network that was built without"):
        untold(x, 0.3, augment_labels=labels)


def test_the_objective_shows_the_model_the_augmented_image_and_its_labels():
    batch = jnp.broadcast_to(IMAGE, (16, *IMAGE.shape))
    plain = sct.EDMTraining().draw(batch, 0, key=KEY)
    draws = sct.EDMTraining(augment=Augmentation(0.5)).draw(batch, 0, key=KEY)
    assert plain.augment_labels is None
    for name in ("z", "sigma"):  # the rest is drawn as without
        np.testing.assert_array_equal(getattr(draws, name), getattr(plain, name))
    assert untyped(draws.augment_labels).shape == (16, AUGMENT_LABELS)
    one = jax.tree.map(lambda leaf: leaf[0], draws)
    assert error(one.x, one.augment_labels, IMAGE) < 2e-4
    seen = []

    def model(x_t, sigma, *, augment_labels=None, key=None):
        seen.append(augment_labels)
        return x_t - untyped(augment_labels).sum()

    sct.EDMTraining(augment=Augmentation(0.5)).sample_losses(model, draws)
    assert len(seen) == 1
    sct.EDMTraining().sample_losses(lambda x_t, sigma, *, key=None: x_t, plain)  # a model without labels


# --- settings ---

EDM = dataclasses.replace(
    presets.DIGITS,
    torso=Torso(architecture="ddpmpp", width=4, multipliers=(1,), blocks=1, attention=()),
    method=methods.EDM(augment=0.12),
)


def test_a_pupil_leaves_the_labels_of_its_teacher_out():
    teacher = untyped(EDM.method.build(EDM, (1, 8, 8)).model(KEY))
    assert teacher.network.mapping.augment_labels.shape == (AUGMENT_LABELS, 4)
    pupil = consistency_model(EDM, (1, 8, 8), key=jr.key(1)).torso
    found = untyped(transplant(pupil, teacher.network))
    assert found.mapping.augment_labels is None
    np.testing.assert_array_equal(found.mapping.first.weight, teacher.network.mapping.first.weight)


def test_the_published_preset_augments():
    published = presets.PRESETS["cifar10-edm"][1]
    assert published.method == methods.EDM(augment=0.12)
    assert not untyped(published.data).flip


def test_what_cannot_be_augmented_is_refused(tmp_path):
    photos = tmp_path / "photos.npz"
    np.savez(photos, images=np.full((64, 8, 8, 3), 255, np.uint8))
    made = {
        "vectors": (dataclasses.replace(presets.TOY, method=methods.EDM(augment=0.1)),
                    "method.augment: expected 0 with"),
        "untold flips": (
            dataclasses.replace(presets.NPZ, data=dataclasses.replace(presets.NPZ.data, path=photos, flip=True),
                                method=methods.EDM(augment=0.1)),
            "data.flip: expected it off with method.augment",
        ),
        "no labels": (dataclasses.replace(EDM, torso=dataclasses.replace(EDM.torso, architecture="ddpm")),
                      "method.augment: expected 0 with torso.architecture ddpm"),
        "a share": (dataclasses.replace(EDM, method=methods.EDM(augment=1.0)), "method.augment: expected a number in"),
    }  # fmt: skip
    for name, (config, message) in made.items():
        path = tmp_path / "settings.json"
        path.write_text(json.dumps(codec.to_json(config)))
        ended = call(train.main, "from-config", path, "--run.dir", tmp_path / "run")
        assert (ended.code, message in ended.err) == (2, True), (name, ended.err)
        assert not (tmp_path / "run").exists()

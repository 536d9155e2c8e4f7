"""Posterior targets: the training set's exact mean against NumPy in float64, its unbiasedness, other sources, mixes."""

import dataclasses
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import PIL.Image
import pytest
import scipy.optimize
from jax.sharding import NamedSharding, PartitionSpec

import equisct as sct
from catalogue import BOUNDARY
from equisct.app import methods, presets
from equisct.app.cli import data
from equisct.app.parts.recipe import build_recipe
from equisct.app.settings.data import Digits, ImageFiles, Npz
from equisct.data import ImageFolder, load_npz
from equisct.objectives.slots import Draw, Keys, draw_pairs
from equisct.oracle import Empirical
from equisct.train import data_mesh
from test_cli_evaluate import call
from tolerances import FLOAT32_CANCELLING, FLOAT32_NETWORK, FLOAT32_ROUNDING

KEY = jr.key(5)
LEVELS = (0.002, 0.05, 0.5, 5.0, 80.0)


def spread_out(rng):
    return rng.normal(size=(1000, 6))


def far_away(rng):
    return 100 + rng.normal(size=(1000, 6))


def near_copies(rng):
    points = rng.uniform(-1, 1, size=(100, 192))
    return np.concatenate([points + size * rng.normal(size=points.shape) for size in (0, 1e-4, 1e-3, 1e-2)])


def naive(points, x_t, sigma, mask=None):
    """Posterior mean, effective number of points and log density, in float64."""
    points = points.astype(float)
    logits = -np.square(x_t.astype(float)[:, None] - points).sum(-1) / (2 * sigma**2)
    if mask is not None:
        logits[:, ~mask] = -np.inf
    top = logits.max(1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(1, keepdims=True)
    weights /= total
    log_prob = (top + np.log(total))[:, 0] - points.shape[1] / 2 * np.log(2 * np.pi * sigma**2) - np.log(len(points))
    return weights @ points, 1 / np.square(weights).sum(1), log_prob


@eqx.filter_jit
def evaluate(law, x_t, sigma, mask):
    one = lambda x_t: (law.denoise(x_t, sigma, mask=mask), law.effective_samples(x_t, sigma, mask=mask))
    return jax.vmap(one)(x_t)


@pytest.mark.parametrize("make", [spread_out, far_away, near_copies], ids=lambda make: make.__name__)
def test_a_data_sets_posterior_mean_is_that_of_float64_in_blocks_over_devices_and_under_a_mask(make):
    """At all levels; 64 rows a block, the last one overlapping; two devices; every third row alone."""
    rng = np.random.default_rng(0)
    points = make(rng).astype(np.float32)
    mesh = data_mesh(2)
    placed = jax.device_put(points, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
    third = np.arange(len(points)) % 3 == 0
    laws = {
        "one block": (Empirical(jnp.asarray(points)), None),
        "blocks": (Empirical(jnp.asarray(points), block=64), None),
        "devices": (Empirical(placed, block=64, mesh=mesh), None),
        "a third": (Empirical(jnp.asarray(points), block=64), third),
        "a third, devices": (Empirical(placed, block=64, mesh=mesh), third),
    }
    scale = np.abs(points - points[0]).max()
    for sigma in map(np.float32, LEVELS):
        x_t = (points[::37] + sigma * rng.normal(size=points[::37].shape)).astype(np.float32)
        for name, (law, mask) in laws.items():
            expected, number, _ = naive(points, x_t, float(sigma), mask)
            found, counted = evaluate(law, x_t, sigma, mask)
            error = np.abs(found - expected).max()
            assert error < FLOAT32_NETWORK * scale + FLOAT32_ROUNDING * np.abs(points).max(), (name, sigma, error)
            np.testing.assert_allclose(counted, number, rtol=5 * FLOAT32_CANCELLING, err_msg=f"{name}, {sigma}")


def test_a_lonely_sample_has_itself_as_its_mean_and_a_high_level_has_everybody():
    law = Empirical(jnp.asarray(np.eye(50, dtype=np.float32)), block=16)
    x_t = law.points[7] + 0.01
    np.testing.assert_array_equal(law.denoise(x_t, 0.002), law.points[7])
    assert float(law.effective_samples(x_t, 0.002)) == 1
    np.testing.assert_allclose(law.effective_samples(x_t, 1e4), 50, rtol=FLOAT32_ROUNDING)
    assert np.isnan(law.denoise(x_t, 1.0, mask=jnp.zeros(50, bool))).all()


def test_points_that_devices_cannot_divide_are_refused():
    with pytest.raises(ValueError, match="points: expected a number that 2 devices divide, found 3"):
        Empirical(jnp.zeros((3, 2)), mesh=data_mesh(2))
    with pytest.raises(ValueError, match="block: expected a finite number >= 1, found 0"):
        Empirical(jnp.zeros((3, 2)), block=0)


# --- targets leave the expected gradient unchanged: exactly, by going through all the data behind one x_t ---

POINTS = jnp.asarray(np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32))
LAW = Empirical(POINTS)
X_T, SIGMA = jnp.array([0.3, -0.4]), 0.7


def denoiser():
    return sct.DenoisingModel(sct.nn.TorsoMLP(2, 8, depth=1, key=KEY), sct.EDMPreconditioning(0.5))


def gradient(objective, model, x):
    """The objective's gradient on one sample with the noise that leads from it to `X_T`."""
    draws = objective.draw(x[None], 0, key=KEY)
    draws = eqx.tree_at(lambda draws: (draws.z, draws.sigma), draws, ((X_T - x)[None] / SIGMA, jnp.full(1, SIGMA)))
    grad = eqx.filter_grad(lambda model: objective.reduce(objective.sample_losses(model, draws)).loss)(model)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grad)])


def test_the_posterior_mean_as_target_leaves_the_expected_gradient_of_denoising_unchanged():
    model, plain = denoiser(), sct.EDMTraining()
    calm = sct.EDMTraining(target=LAW.denoise)
    of_all = eqx.filter_jit(lambda objective: jax.vmap(lambda x: gradient(objective, model, x))(POINTS))
    one_by_one, found = of_all(plain), of_all(calm)
    expected = LAW.posterior(X_T, SIGMA) @ one_by_one
    scale = float(jnp.abs(one_by_one).max())
    np.testing.assert_allclose(found, jnp.broadcast_to(expected, found.shape), atol=FLOAT32_NETWORK * scale)
    assert float(jnp.abs(one_by_one - expected).max()) > 0.1 * scale


SEEN = sct.TorsoPass(X_T, X_T, SIGMA, sct.Readout(X_T, X_T, X_T), KEY)


def field_of(velocity, x, key=KEY, step=0):
    """The field of a velocity for the sample `x` behind `X_T`, at `X_T`."""
    draw = Draw(x, (X_T - x) / SIGMA, sct.LevelPair.from_levels(SIGMA, 0.5), Keys(key, key, key, key, key), step=step)
    return velocity(None, draw, SEEN)(X_T, SIGMA)


def test_a_reference_subset_is_unbiased_however_small_and_calmer_the_larger_it_is():
    """Over every own sample (by its posterior) and all draws of others, the mean is that of the whole set."""
    points = jnp.asarray(np.random.default_rng(7).normal(size=(40, 2)).astype(np.float32))
    law, keys = Empirical(points), jr.split(KEY, 800)
    exact = field_of(sct.DenoiserVelocity(law.denoise), points[0])
    noise = []
    for size in (1, 2, 4, 32):
        velocity = sct.ReferenceVelocity(points, size)
        of_one = lambda x, velocity=velocity: jax.vmap(lambda key: field_of(velocity, x, key))(keys)
        found = jax.jit(jax.vmap(of_one))(points)
        p = law.posterior(X_T, SIGMA)[:, None, None]
        mean, square = (p * found).sum(0).mean(0), (p * jnp.square(found - exact)).sum(0).mean(0).sum()
        error = jnp.sqrt((p * jnp.square(found - mean)).sum(0).mean(0) / len(keys))
        assert (jnp.abs(mean - exact) < 5 * error + FLOAT32_ROUNDING).all(), size
        noise.append(float(square))
    assert noise == sorted(noise, reverse=True)
    assert noise[-1] < 0.15 * noise[0]
    with pytest.raises(ValueError, match="size: expected at most as many references as points, 40, found 41"):
        sct.ReferenceVelocity(points, 41)
    np.testing.assert_allclose(
        field_of(sct.ReferenceVelocity(POINTS, 1), POINTS[2]), (X_T - POINTS[2]) / SIGMA, rtol=FLOAT32_CANCELLING
    )


def test_a_mix_has_its_share_of_each_also_by_level_and_step():
    exact = sct.DenoiserVelocity(LAW.denoise)
    of_both = [field_of(velocity, POINTS[1]) for velocity in (exact, sct.one_sample_velocity)]
    by_step = lambda draw: jnp.where(draw.step < 10, draw.pair.t, 1.0)
    for share, step, expected in ((0, 0, 0.0), (1.0, 0, 1.0), (0.25, 0, 0.25), (by_step, 9, SIGMA), (by_step, 10, 1.0)):
        found = field_of(sct.MixedVelocity(exact, sct.one_sample_velocity, share), POINTS[1], step=step)
        np.testing.assert_allclose(found, expected * of_both[0] + (1 - expected) * of_both[1], rtol=FLOAT32_ROUNDING)
    for share in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"share: expected a number in \[0, 1\]"):
            sct.MixedVelocity(exact, sct.one_sample_velocity, share)


def test_optimal_transport_deals_out_the_same_noise_at_the_least_cost():
    x, z = jr.normal(jr.key(1), (24, 3, 2)), jr.normal(jr.key(2), (24, 3, 2))
    found = np.asarray(jax.jit(sct.optimal_transport)(x, z))
    np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(np.asarray(z).ravel()))
    costs = np.square(np.asarray(x)[:, None] - np.asarray(z)).sum((-2, -1))
    np.testing.assert_allclose(
        np.square(np.asarray(x) - found).sum(), costs[scipy.optimize.linear_sum_assignment(costs)].sum(), rtol=1e-5
    )


def test_source_step_share_coupling_and_target_are_combined_in_a_few_lines_and_train():
    points = jnp.asarray(np.random.default_rng(3).normal(size=(16, 2)).astype(np.float32))
    law = Empirical(points)
    objective = sct.ScoreGuidedTraining(
        curriculum=sct.Constant(11),
        velocity=sct.MixedVelocity(sct.DenoiserVelocity(law.denoise), sct.one_sample_velocity, 0.9),
        step=sct.heun_correction,
        coupling=sct.optimal_transport,
        target=law.denoise,
    )
    cm = sct.ConsistencyModel(sct.nn.TorsoMLP(2, 8, depth=1, key=KEY), BOUNDARY)
    pair = sct.ScoreGuidedModel(cm, sct.ScoreHead(sct.nn.HeadMLP(2, 8, depth=1, torso_width=8, key=KEY), BOUNDARY))
    (loss, _), grads = eqx.filter_jit(eqx.filter_value_and_grad(objective, has_aux=True))(pair, points, 3, key=KEY)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    levels = sct.ConsistencyTraining(curriculum=sct.Constant(11)).levels
    draws = draw_pairs(levels, 11, points, stratify=False, coupling=sct.optimal_transport, key=KEY)
    alone = draw_pairs(levels, 11, points, stratify=False, key=KEY)
    assert np.square(draws.x - draws.z).sum() < np.square(alone.x - alone.z).sum()
    with pytest.raises(ValueError, match="target: expected none with an augmentation"):
        sct.EDMTraining(target=law.denoise, augment=sct.Augmentation(0.1))


def test_the_support_of_a_data_set_is_one_sample_at_low_levels_and_all_at_high_ones():
    """Against NumPy on the same points and noise; two copies of a far pair are half each at every low level."""
    points = np.repeat(np.eye(10, dtype=np.float32) * 3, 2, axis=0)
    levels, key = jnp.array([0.01, 1.0, 1e4]), jr.key(4)
    found = sct.measure_support(Empirical(jnp.asarray(points)), levels, samples=200, key=key)
    x_key, z_key = jr.split(key)
    x = np.asarray(jax.vmap(lambda key: Empirical(jnp.asarray(points)).sample(key=key))(jr.split(x_key, 200)))
    z = np.asarray(jr.normal(z_key, x.shape))
    for k, sigma in enumerate(np.asarray(levels, float)):
        mean, number, _ = naive(points, x + np.float32(sigma) * z, sigma)
        np.testing.assert_allclose(found.effective_samples[k], number.mean(), rtol=FLOAT32_CANCELLING)
        removable = np.square(z - (x + sigma * z - mean) / sigma).mean()
        np.testing.assert_allclose(found.removable[k], removable, atol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(found.effective_samples[::2], [2, 20], rtol=FLOAT32_CANCELLING)


# --- on the command line ---


def velocity_of(method, dataset, source=None, devices=1) -> Any:
    config = dataclasses.replace(presets.TINY, method=method, data=source or Digits())
    recipe = build_recipe(config, method.build(config, dataset.shape), None, dataset, data_mesh(devices))
    return recipe.objective


def test_methods_hold_their_training_set_mirrored_where_batches_are_and_divided_among_devices(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    dataset = load_npz(tmp_path / "images.npz")
    seen = dataset.take(np.arange(7))
    made = velocity_of(methods.ICT(velocity="posterior", heun_steps=1), dataset, devices=2)
    law = made.velocity.denoise.__self__
    np.testing.assert_array_equal(law.points, seen)
    assert made.step is sct.heun_correction
    assert law.mesh is None  # seven rows are not divided by two
    both = velocity_of(methods.ScoreGuidance(target="posterior"), dataset, Npz(flip=True), devices=2)
    law = both.target.__self__
    np.testing.assert_array_equal(law.points, np.concatenate([seen, seen[..., ::-1]]))
    assert law.mesh is not None
    assert both.base.velocity is sct.one_sample_velocity
    for devices in (1, 2):  # the set lies in memory once
        made = velocity_of(methods.ScoreGuidance(velocity="posterior", target="posterior"), dataset, None, devices)
        assert made.target.__self__.points is made.base.velocity.denoise.__self__.points
    few = velocity_of(methods.ICT(velocity="posterior", references=3), dataset).velocity
    assert (few.size, len(few.points)) == (3, 7)
    assert velocity_of(methods.EDM(target="posterior"), dataset).target is not None


def test_what_a_posterior_cannot_do_is_refused_before_the_run(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    on_disk = ImageFolder(tmp_path)
    for method in (methods.ICT(velocity="posterior"), methods.EDM(target="posterior")):
        with pytest.raises(ValueError, match="method: expected velocity and target sample with data that are read"):
            velocity_of(method, on_disk, ImageFiles(tmp_path))
    for method, flag in (
        (methods.ICT(references=4), "references"),
        (methods.ICT(velocity="posterior", references=0), "references"),
        (methods.ICT(heun_steps=2), "heun_steps"),
        (methods.EDM(augment=0.1, target="posterior"), "target"),
    ):
        with pytest.raises(ValueError, match=rf"^method\.{flag}: "):
            method.check(dataclasses.replace(presets.TINY, method=method))


def test_a_data_check_tells_where_a_posterior_helps(tmp_path):
    np.savez(tmp_path / "two.npz", vectors=np.repeat(np.array([[0, 0], [8, 8]], np.float32), 3, axis=0))
    found = call(data.main, "check", tmp_path / "two.npz", "--support")
    assert found.code == 0, found.err
    rows = [line.split("|") for line in found.out.splitlines() if re.match(r" +[0-9]", line)]
    numbers = {float(level): (float(number), share.strip()) for level, number, share in rows}
    assert numbers[0.1] == (3, "0.0%")  # the copies of the sample itself
    assert numbers[50.0][0] == pytest.approx(6, abs=0.1)
    assert found.out.startswith("6 vectors of 2 numbers\n")

"""What one public function returns, the next takes: every producer of levels, times, noise, samples and features with
every consumer of them: traced, which costs little, and where numbers could change on the way, computed."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import equisct as sct
from catalogue import mlp_pair
from equisct import data, evaluation
from strategies import untyped
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(0)
LAW = sct.oracle.Gaussian(mean=0.0, std=0.5, shape=(2,))
PAIR = mlp_pair()
Z = jr.normal(KEY, (2,))
GRID = sct.karras_grid(5)
SCHEDULE = sct.VPSchedule()

# --- levels ---

LEVELS = {
    "search_levels": lambda: sct.search_levels(lambda levels: abs(levels[-1] - 2.5), GRID, count=3),
    "karras_grid, turned round": lambda: GRID[::-1],
    "sigmas of a schedule": lambda: SCHEDULE.sigmas[SCHEDULE.uniform(3)][::-1],
    "levels of a sampler": lambda: sct.Euler(GRID[::-1]).levels,
    "bin_edges": lambda: sct.bin_edges(0.002, 80.0)[::-1],
    "a grid of a table": lambda: sct.LevelTable.from_curriculum(sct.Constant(4), sct.Uniform()).grid[0][::-1],
    "descending_levels": lambda: sct.descending_levels([80, 1.0]),
    "a list": lambda: [80.0, 1.0, 0.1],
    "a list of whole numbers": lambda: [80, 2],
    "a list of NumPy's": lambda: list(GRID[::-1]),
    "a list of JAX's": lambda: [jnp.asarray(80.0), jnp.asarray(1.0)],
}
OF_LEVELS = {
    "multistep": lambda levels: sct.multistep(LAW.denoise, Z, levels, key=KEY),
    "heun": lambda levels: sct.heun(LAW.denoise, Z, levels=levels),
    "euler": lambda levels: sct.euler(LAW.denoise, Z, levels=levels),
    "Multistep": lambda levels: sct.Multistep(levels)(untyped(LAW_AS_MODEL), Z, key=KEY),
    "Heun": lambda levels: sct.Heun(levels)(LAW, Z),
    "Euler": lambda levels: sct.Euler(levels)(LAW, Z),
    "pf_ode_path": lambda levels: sct.pf_ode_path(LAW.denoise, Z, levels),
    "one level of them": lambda levels: LAW.denoise(Z, levels[0]),
    "the range of an objective": lambda levels: sct.bin_edges(levels[-1], levels[0]),
}


class LAW_AS_MODEL:  # noqa: N801  (stands for a model)
    endpoint = denoise = staticmethod(LAW.denoise)


def numbers(found):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]


def agree(found, expected):
    for one, other in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=FLOAT32_CANCELLING, atol=10 * FLOAT32_ROUNDING)


def shape_of(take, value):
    """The shape that a function gives; it is traced, not computed."""
    return jax.eval_shape(lambda: take(value)).shape


@pytest.mark.parametrize("consumer", OF_LEVELS)
@pytest.mark.parametrize("made", LEVELS)
def test_levels_from_anywhere_are_taken_everywhere(made, consumer):
    levels = LEVELS[made]()
    shape = {"pf_ode_path": (len(levels), 2), "the range of an objective": (9,)}.get(consumer, (2,))
    assert shape_of(OF_LEVELS[consumer], levels) == shape
    assert sct.Euler(levels).levels == tuple(map(float, levels))


def test_levels_that_are_traced_are_taken_in_a_list_too():
    run = jax.jit(lambda mid: sct.heun(LAW.denoise, Z, levels=[80.0, mid, 0.1]))
    agree(run(1.0), sct.heun(LAW.denoise, Z, levels=[80.0, 1.0, 0.1]))


# --- noise, samples and batches ---

ONE = {
    "of JAX": lambda: Z,
    "of NumPy": lambda: np.asarray(Z),
    "of NumPy in float64": lambda: np.asarray(Z, np.float64),
    "an oracle's": lambda: LAW.sample(key=KEY),
    "a data set's": lambda: data.VectorSet(np.asarray(Z)[None], "mine").take(np.arange(1))[0],
    "a sampler's": lambda: sct.euler(LAW.denoise, Z, levels=[80.0, 1.0]),
}
OF_ONE = {
    "one_step": lambda z: sct.one_step(PAIR.endpoint, z),
    "multistep": lambda z: sct.multistep(PAIR.endpoint, z, [80.0, 1.0], key=KEY),
    "heun": lambda z: sct.heun(PAIR.denoise, z, levels=[80.0, 1.0]),
    "euler": lambda z: sct.euler(PAIR.denoise, z, levels=[80.0, 1.0]),
    "ddim": lambda z: sct.ddim(PAIR.denoise, z, times=SCHEDULE.uniform(2)),
    "ancestral": lambda z: sct.ancestral(PAIR.denoise, z, key=KEY, schedule=sct.VPSchedule(3, 0.5, 0.9)),
    "a sampler": lambda z: sct.Euler([80.0, 1.0])(PAIR, z),
    "its trajectory": lambda z: sct.Euler([80.0, 1.0]).trajectory(PAIR, z),
    "from_level": lambda z: sct.Euler([80.0, 1.0]).from_level(PAIR, z, 2.0),
    "solve_pf_ode": lambda z: sct.solve_pf_ode(LAW.denoise, z, 80.0, 1.0),
    "pf_ode_path": lambda z: sct.pf_ode_path(LAW.denoise, z, [80.0, 1.0]),
    "endpoint": lambda x: PAIR.endpoint(x, 2.0),
    "score": lambda x: PAIR.score(x, 2.0),
    "perturb": lambda x: sct.perturb(x, Z, 2.0),
    "oracle": lambda x: LAW.transport(x, 2.0, 1.0),
    "distance": lambda x: sct.PseudoHuber()(x, Z),
}


@pytest.mark.parametrize("consumer", OF_ONE)
@pytest.mark.parametrize("made", ONE)
def test_a_sample_from_anywhere_is_taken_everywhere(made, consumer):
    shape = {"its trajectory": (3, 2), "pf_ode_path": (2, 2), "distance": ()}.get(consumer, (2,))
    assert shape_of(OF_ONE[consumer], ONE[made]()) == shape


def test_noise_of_numpy_gives_the_sample_of_its_numbers():
    take = lambda z: sct.one_step(LAW.denoise, z) + sct.multistep(LAW.denoise, z, [80.0, 1.0], key=KEY)
    agree(take(np.asarray(Z, np.float64)), take(Z))


POINTS = np.asarray(0.5 * jr.normal(jr.fold_in(KEY, 1), (12, 2)))
LOADER = data.Loader(data.VectorSet(POINTS, "mine"), 12, seed=0)
BATCHES = {
    "a loader's": lambda: LOADER.batch(0),
    "many of an oracle's": lambda: jax.vmap(lambda key: LAW.sample(key=key))(jr.split(KEY, 12)),
    "a list's rows": lambda: jnp.stack([Z] * 12),
}
OBJECTIVES = {
    "iCT": (sct.ConsistencyTraining(curriculum=sct.Constant(3)), PAIR.cm),
    "score-guided": (sct.ScoreGuidedTraining(curriculum=sct.Constant(3)), PAIR),
    "EDM": (sct.EDMTraining(), sct.DenoisingModel(PAIR.cm.torso, sct.EDMPreconditioning())),
}


@pytest.mark.parametrize("consumer", OBJECTIVES)
@pytest.mark.parametrize("made", BATCHES)
def test_a_batch_from_anywhere_is_taken_by_every_objective(made, consumer):
    batch, (objective, model) = BATCHES[made](), OBJECTIVES[consumer]
    take = lambda batch: objective(model, batch, 0, key=KEY)[0]
    assert shape_of(take, batch) == shape_of(take, sct.Example(batch)) == ()


# --- samples and features to figures ---

NORMAL = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
NET = evaluation.FeatureNetwork("same", "", lambda x: x, lambda x: x)
KINDS = {
    "of JAX": jnp.asarray,
    "of NumPy": np.asarray,
    "in float64": functools.partial(np.asarray, dtype=np.float64),
    "what extract returns": lambda rows: evaluation.extract(NET, rows).features,
    "a data set's": lambda rows: data.VectorSet(rows, "mine").take(np.arange(len(rows))),
}
FIGURES = {
    "extract": lambda a, b: evaluation.extract(NET, a),
    "moments": lambda a, b: evaluation.FeatureMoments.from_features(a).covariance,
    "frechet_distance": evaluation.frechet_distance,
    "frechet_at_infinity": lambda a, b: evaluation.frechet_at_infinity(a, b, sizes=[10, 30]),
    "kernel_distance": evaluation.kernel_distance,
    "precision_recall": evaluation.precision_recall,
    "density_coverage": evaluation.density_coverage,
    "nearest": lambda a, b: evaluation.memorised_share(evaluation.nearest(a, b)),
    "sliced_wasserstein": lambda a, b: evaluation.sliced_wasserstein(a, b, directions=3),
    "energy_distance": evaluation.energy_distance,
    "inception_score": lambda a, b: evaluation.inception_score(jax.nn.softmax(jnp.asarray(a)), splits=2),
    "bootstrap": lambda a, b: evaluation.bootstrap(lambda rows: float(rows.mean()), a, resamples=3),
    "spread": lambda a, b: evaluation.spread(a[:, 0]),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_samples_from_anywhere_are_measured_by_every_figure(figure):
    expected = FIGURES[figure](*NORMAL)
    for one, other in itertools.product(KINDS.values(), repeat=2):
        agree(FIGURES[figure](one(NORMAL[0]), other(NORMAL[1])), expected)

"""The usual mistakes in Python: each ends in one short message that says argument, found, expected and what to do.

Every public kind of entry is there: models, samplers as functions and as modules, solvers, oracles, objectives, the
update, recipes, networks, grids, metrics. What the outputs of one public function are worth as inputs of the next is
`test_chain.py`.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import equisct as sct
from catalogue import BOUNDARY, UNET, mlp_pair
from equisct import data, evaluation, train
from strategies import untyped

KEY = jr.key(0)
LINES, WIDTH = 15, 200
"""At most so many lines, none of which is a page wide."""

PAIR = mlp_pair()
DENOISER = sct.DenoisingModel(PAIR.cm.torso, sct.EDMPreconditioning())
IMAGES = sct.ConsistencyModel(sct.nn.ncsnpp(**untyped(UNET | {"channels": 3}), key=KEY), BOUNDARY)
ONE, BATCH = jnp.zeros(2), jnp.zeros((16, 2))
CURRICULUM = sct.Constant(5)
ICT = sct.ConsistencyTraining(curriculum=CURRICULUM)
GUIDED = sct.ScoreGuidedTraining(curriculum=CURRICULUM)
TIMES = sct.VPSchedule().quadratic(2)
ROWS = np.random.default_rng(0).normal(size=(9, 2))
REFERENCE = evaluation.Reference("data", "pixels", "", np.ones((9, 2), np.float32))


def update(objective: Any, model: Any, batch: Any) -> Any:
    """One update, as a loop of one's own makes it."""
    recipe = train.Recipe(objective, optax.sgd(1e-3))
    return train.train_step(recipe, train.init_state(recipe, model), batch, KEY)


def traced(objective: Any, model: Any, batch: Any) -> Any:
    """An objective's loss of a batch; nothing is computed."""
    return jax.eval_shape(lambda: objective(model, batch, 0, key=KEY)[0])


def slots(**filled: Any) -> sct.Consistency:
    """iCT with some slots filled anew."""
    return sct.ConsistencyTraining(curriculum=CURRICULUM, **filled)


WIDE = sct.oracle.Empirical(jnp.zeros((8, 2, 1)))
NOISES = (sct.one_sample_velocity, sct.one_sample_velocity)


def measure(rows: np.ndarray, *metrics: str) -> Any:
    return evaluation.measure(evaluation.Extracted(rows.astype(np.float32), None), REFERENCE, metrics)


VMAP = ["x_t", "expected one sample (2,)", "found (16, 2)", "jax.vmap"]
IMAGE_VMAP = ["x_t", "expected one sample (3, h, w)", "found (4, 3, 4, 4)", "jax.vmap"]
NO_BATCH = ["x_t", "expected one sample (2,)", "found ()", "takes a batch of samples (2,)"]
WHOLE = ["batch", "expected a floating-point array (batch, *shape)", "found uint8 (8, 2)", "batch / 127.5 - 1"]
LAST = ["x", "expected shape (3, h, w)", "found (4, 4, 3)", "moveaxis(x, -1, -3)"]
METHOD = ["denoise", "expected a function", "found a ScoreGuidedModel", "model.denoise"]
NO_KEY = ["key", "expected a key", "jax.random.key(0)"]
TURNED = ["levels", "strictly descending", "found [2.0000e-03", "levels[::-1]"]
FEW = ["metrics", "precision-recall", "more than 3 rows of 2", "found (3, 2)", "more samples"]

MISTAKES = {
    "vmap forgotten, endpoint": (lambda: PAIR.endpoint(BATCH, 2.0), VMAP),
    "vmap forgotten, denoise": (lambda: PAIR.denoise(BATCH, 2.0), VMAP),
    "vmap forgotten, score": (lambda: PAIR.score(BATCH, 2.0), VMAP),
    "vmap forgotten, denoising model": (lambda: DENOISER(BATCH, 2.0), VMAP),
    "vmap forgotten, torso": (lambda: PAIR.cm.torso(BATCH, 2.0), VMAP),
    "vmap forgotten, images": (lambda: IMAGES.endpoint(jnp.zeros((4, 3, 4, 4)), 2.0), IMAGE_VMAP),
    "vmap forgotten, one_step": (lambda: sct.one_step(PAIR.endpoint, BATCH), VMAP),
    "vmap forgotten, multistep": (lambda: sct.multistep(PAIR.endpoint, BATCH, [80.0, 1.0], key=KEY), VMAP),
    "vmap forgotten, heun": (lambda: sct.heun(PAIR.denoise, BATCH), VMAP),
    "vmap forgotten, euler": (lambda: sct.euler(PAIR.denoise, BATCH), VMAP),
    "vmap forgotten, ddim": (lambda: sct.ddim(PAIR.denoise, BATCH, times=TIMES), VMAP),
    "vmap forgotten, ancestral": (lambda: sct.ancestral(PAIR.denoise, BATCH, key=KEY), VMAP),
    "vmap forgotten, a sampler": (lambda: sct.Heun()(PAIR, BATCH), VMAP),
    "vmap forgotten, solver": (lambda: sct.solve_pf_ode(PAIR.denoise, BATCH, 80.0, 0.002), VMAP),
    "vmap forgotten, path": (lambda: sct.pf_ode_path(PAIR.denoise, BATCH, [80.0, 0.002]), VMAP),
    "many levels at once": (
        lambda: PAIR.endpoint(ONE, jnp.ones(16)), ["sigma", "expected one number", "found float32 (16,)", "jax.vmap"]
    ),
    "a sample where a batch is wanted": (lambda: traced(GUIDED, PAIR, ONE), NO_BATCH),
    "a sample in an update": (lambda: update(GUIDED, PAIR, ONE), NO_BATCH),
    "8 bits in an objective": (lambda: traced(ICT, PAIR, jnp.zeros((8, 2), jnp.uint8)), WHOLE),
    "8 bits in an update": (lambda: update(ICT, PAIR, np.zeros((8, 2), np.uint8)), WHOLE),
    "channels last": (lambda: IMAGES.endpoint(jnp.zeros((4, 4, 3)), 2.0), LAST),
    "channels last in an update": (lambda: update(ICT, IMAGES, np.zeros((2, 4, 4, 3), np.float32)), LAST),
    "another size": (lambda: PAIR.endpoint(jnp.zeros(3), 2.0), ["x", "expected shape (2,)", "size, found (3,)"]),
    "labels in a tuple": (
        lambda: update(ICT, PAIR, (BATCH, jnp.zeros(16, int))),
        ["batch", "an Example", "found tuple (float32 (16, 2), int32 (16,))", "Example(x, condition)"],
    ),
    "a model as a function, heun": (lambda: sct.heun(untyped(PAIR), ONE), METHOD),
    "a model as a function, ddim": (lambda: sct.ddim(untyped(PAIR), ONE, times=TIMES), METHOD),
    "a model as a function, solver": (lambda: sct.solve_pf_ode(untyped(PAIR), ONE, 80.0, 1.0), METHOD),
    "a function as a model": (
        lambda: sct.Heun()(PAIR.denoise, ONE), ["model", "expected one with a method denoise", "found", "function"]
    ),
    "a denoiser asked for endpoints": (
        lambda: sct.Multistep()(DENOISER, ONE), ["model", "method endpoint", "found a DenoisingModel"]
    ),
    "a pair for a denoising objective": (
        lambda: traced(sct.EDMTraining(), PAIR, BATCH),
        ["model", "expected a callable", "DenoisingModel", "found a ScoreGuidedModel"],
    ),
    "a denoiser for consistency": (
        lambda: traced(ICT, DENOISER, BATCH), ["model", "expected a ConsistencyModel", "found DenoisingModel"]
    ),
    "a model without a head": (
        lambda: update(GUIDED, PAIR.cm, BATCH), ["model", "expected a ScoreGuidedModel", "found ConsistencyModel"]
    ),
    "a learning rate as optimiser": (
        lambda: train.Recipe(ICT, untyped(1e-3)),
        ["optimiser", "expected a GradientTransformation", "found 0.001", "optax.adam(0.001)"],
    ),
    "jax.jit of an objective": (
        lambda: jax.jit(untyped(ICT))(PAIR, BATCH, 0, key=KEY), ["objective", "jax.jit expects", "equinox.filter_jit"]
    ),
    "a seed as a key": (lambda: GUIDED(PAIR, BATCH, 0, key=untyped(0)), [*NO_KEY, "found 0"]),
    "no key": (lambda: sct.multistep(PAIR.endpoint, ONE, [80.0, 1.0], key=untyped(None)), [*NO_KEY, "found None"]),
    "a key left out": (lambda: untyped(GUIDED)(PAIR, BATCH, 0), ["missing", "'key'"]),
    "a number as curriculum": (
        lambda: sct.ConsistencyTraining(curriculum=untyped(11)), ["curriculum", "expected a Curriculum", "found 11"]
    ),
    "a word as distance": (
        lambda: sct.ConsistencyTraining(curriculum=CURRICULUM, distance=untyped("lpips")),
        ["distance", "expected a Distance", "found 'lpips'"],
    ),
    "a class as distance": (
        lambda: sct.ConsistencyTraining(curriculum=CURRICULUM, distance=untyped(sct.PseudoHuber)),
        ["distance", "expected a Distance", "found the class PseudoHuber", "PseudoHuber()"],
    ),
    "half a step": (lambda: ICT(PAIR, BATCH, untyped(0.5), key=KEY), ["step", "one whole number", "found 0.5"]),
    "half a point": (lambda: sct.karras_grid(untyped(18.5)), ["points", "expected one whole number", "found 18.5"]),
    "ascending levels, heun": (lambda: sct.heun(PAIR.denoise, ONE, levels=sct.karras_grid(900)), TURNED),
    "ascending levels, multistep": (
        lambda: sct.multistep(PAIR.endpoint, ONE, sct.karras_grid(900), key=KEY), TURNED
    ),
    "ascending levels, a sampler": (lambda: sct.Euler(sct.karras_grid(900)), TURNED),
    "level 0": (lambda: PAIR.denoise(ONE, 0), ["sigma", "expected finite numbers > 0", "found 0"]),
    "two shapes": (
        lambda: sct.perturb(ONE, jnp.zeros(3), 1.0), ["z", "expected", "found float32 (3,)", "beside x float32 (2,)"]
    ),
    "a state that is used up": (
        lambda: [train.train_step(RECIPE, STATE, BATCH, KEY) for _ in range(2)],
        ["state", "expected the one that the last train_step returned", "used up"],
    ),
    "few samples": (lambda: measure(ROWS[:3], "frechet", "precision-recall"), FEW),
    "samples of another width": (
        lambda: measure(np.ones((9, 3)), "frechet"),
        ["ref", "same shape and channels", "2 features of pixels", "found 3"],
    ),
    "another width": (
        lambda: evaluation.frechet_distance(ROWS, np.ones((9, 3))), ["b", "expected 2 features", "found 3"]
    ),
    "a denoiser of another shape": (
        lambda: traced(slots(velocity=sct.DenoiserVelocity(lambda x_t, sigma: jnp.zeros(3))), PAIR, BATCH),
        ["denoise", "expected to return an array of shape (2,)", "found float32 (3,)"],
    ),
    "a denoiser that would broadcast": (
        lambda: traced(slots(velocity=sct.DenoiserVelocity(lambda x_t, sigma: jnp.zeros(1))), PAIR, BATCH),
        ["denoise", "expected to return an array of shape (2,)", "found float32 (1,)"],
    ),
    "a velocity of another shape": (
        lambda: traced(slots(velocity=lambda *given: lambda x_t, sigma: jnp.zeros(())), PAIR, BATCH),
        ["velocity", "expected to return an array of shape (2,)", "found float32 ()"],
    ),
    "a velocity instead of a field": (
        lambda: traced(slots(velocity=lambda model, draw, student: draw.z), PAIR, BATCH),
        ["velocity", "expected to return a function (x_t, sigma) -> velocity", "found float32 (2,)"],
    ),
    "a step of another shape": (
        lambda: traced(slots(step=lambda field, x_t, pair: x_t[:1]), PAIR, BATCH),
        ["step", "expected to return an array of shape (2,)", "found float32 (1,)"],
    ),
    "an origin of another shape": (
        lambda: traced(slots(origin=lambda model, draw: draw.x[:1]), PAIR, BATCH),
        ["origin", "expected to return an array of shape (2,)", "found float32 (1,)"],
    ),
    "a coupling that loses samples": (
        lambda: traced(slots(coupling=lambda x, z: z[:4]), PAIR, BATCH),
        ["coupling", "expected to return an array of shape (16, 2)", "found float32 (4, 2)"],
    ),
    "a target of another shape": (
        lambda: traced(sct.EDMTraining(target=lambda x_t, sigma: jnp.zeros(3)), DENOISER, BATCH),
        ["target", "expected to return an array of shape (2,)", "found float32 (3,)"],
    ),
    "a data set of another shape": (
        lambda: traced(slots(velocity=sct.DenoiserVelocity(WIDE.denoise)), PAIR, BATCH),
        ["x_t", "expected the shape of the data set's samples, (2, 1)", "found (2,)"],
    ),
    "references of another shape": (
        lambda: traced(slots(velocity=sct.ReferenceVelocity(WIDE.points, 2)), PAIR, BATCH),
        ["points", "expected samples of shape (2,)", "found (2, 1)"],
    ),
    "more references than data": (
        lambda: sct.ReferenceVelocity(WIDE.points, 9), ["size", "at most as many references as points, 8", "found 9"]
    ),
    "a share in percent": (
        lambda: sct.MixedVelocity(sct.head_velocity, sct.one_sample_velocity, 50),
        ["share", "expected a number in [0, 1]", "found 50"],
    ),
    "several shares": (
        lambda: traced(slots(velocity=sct.MixedVelocity(*NOISES, lambda draw: draw.x)), PAIR, BATCH),
        ["share", "expected to return one number", "found float32 (2,)"],
    ),
    "too many generated": (lambda: sct.GeneratedOrigin(1.5), ["share", "expected a number in [0, 1]", "found 1.5"]),
    "a head's velocity that nothing trains": (
        lambda: sct.ScoreGuidedTraining(curriculum=CURRICULUM, head_weight=0.0, velocity=sct.MixedVelocity(
            sct.one_sample_velocity, sct.head_velocity, 0.5
        )),
        ["head_weight", "expected > 0 with the head's velocity", "found 0"],
    ),
    "a head that learns from what the model makes": (
        lambda: sct.ScoreGuidedTraining(curriculum=CURRICULUM, origin=sct.GeneratedOrigin()),
        ["origin", "expected none beside a score head", "give the head a head_law or a target"],
    ),
    "no teacher for its head": (
        lambda: traced(slots(velocity=sct.teacher_head_velocity), PAIR, BATCH),
        ["model", "expected a WithTeacher (set Recipe.teacher_share)", "found ScoreGuidedModel"],
    ),
    "a wrong return": (
        lambda: sct.one_step(lambda x_t, sigma: jnp.zeros(3), ONE),
        ["what it returns", "expected a floating-point array", "found float32 (3,)", "beside z float32 (2,)"],
    ),
}  # fmt: skip
RECIPE = train.Recipe(ICT, optax.sgd(1e-3))
STATE = train.init_state(RECIPE, PAIR)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_short_message(name):
    call, words = MISTAKES[name]
    with pytest.raises((TypeError, ValueError)) as refused:
        call()
    message = str(refused.value)
    lines = message.splitlines()
    assert len(lines) <= LINES, message
    assert max(map(len, lines)) <= WIDTH, message
    assert [word for word in words if word not in message] == [], message
    assert re.match(rf"{words[0]}\b", message), f"the argument comes first: {message}"
    assert refused.value.__cause__ is None, "one message, not two"


@pytest.mark.parametrize("scale", [1.0, 127.5])
def test_samples_that_nobody_scaled_are_warned_of(scale, recwarn, monkeypatch):
    """Floats in [0, 255] train without a word otherwise; where the model is told of them, all is well."""
    monkeypatch.setattr("equisct.train.step._update", {}.__getitem__)  # the update itself is not needed
    batch = np.random.default_rng(0).uniform(0, 255, (8, 2)).astype(np.float32)
    form = sct.BoundaryPreconditioning(sigma_data=0.5 * scale)
    for each in (batch, batch / 127.5 - 1):
        with pytest.raises(TypeError, match="takes exactly one argument"):
            update(ICT, sct.ConsistencyModel(PAIR.cm.torso, form), each)
    said = [str(each.message) for each in recwarn if "sigma_data" in str(each.message)]
    assert len(said) == (scale == 1.0)
    assert all(word in line for line in said for word in ("batch: expected", "0.5", "found", "x / 127.5 - 1"))


SHORT = {
    "recipe": lambda: train.Recipe(GUIDED, optax.adam(1e-3)),
    "objective": lambda: sct.ScoreGuidedTraining(curriculum=sct.Doubling(period=9)),
    "images": data.load_digits,
    "vectors": lambda: data.VectorSet(np.zeros((900, 2), np.float32), "mine"),
    "pairs": lambda: data.PairSet(np.zeros((900, 2), np.float32), np.ones((900, 2), np.float32), "teacher", "mine"),
    "reference": lambda: evaluation.Reference("data", "pixels", "", np.ones((900, 2), np.float32)),
    "sampler": functools.partial(sct.Heun, sct.karras_grid(900)[::-1]),
    "times": lambda: sct.DDIM(np.arange(1000)),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_is_printed_in_a_notebook_is_short(name):
    """An array is its type and shape, a long list its ends."""
    found = repr(SHORT[name]())
    assert len(found.splitlines()) <= 25, found
    assert len(found) < 1000, found

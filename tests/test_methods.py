"""The other rows of the paper's Table 1 against closed-form truth: EDM, DDPM, CT, CD, ECT, PD and KD."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import BOUNDARY, Function, Raw, function_cm, function_pair, mlp_pair
from equisct import (
    L1,
    AbstractPreconditioning,
    ConsistencyDistillation,
    ConsistencyModel,
    Constant,
    DDPMTraining,
    DenoisingModel,
    Doubling,
    EasyConsistencyTuning,
    EDMPreconditioning,
    EDMTraining,
    Halving,
    KnowledgeDistillation,
    LevelPair,
    LogNormal,
    NoiseWeighting,
    OriginalConsistencyTraining,
    Pair,
    ProgressiveDistillation,
    ScoreGuided,
    ScoreGuidedTraining,
    ShrinkingPairs,
    SquareRoot,
    VPPreconditioning,
    VPSchedule,
    VPStudentPreconditioning,
    VPTimes,
    WithTeacher,
    ddim,
    denoising_loss,
    euler,
    karras_grid,
    oracle,
    straight_step,
    trainable,
)
from equisct.nn import TorsoMLP
from equisct.objectives.progressive import two_step_target
from equisct.train import Recipe, init_state, train_step
from tolerances import FLOAT32_CANCELLING, FLOAT32_ROUNDING

KEY = jr.key(5)
EDM = EDMPreconditioning()
STD = 0.5
TRUTH = oracle.Gaussian(0.0, STD)
DATA = STD * jr.normal(jr.key(1), (4096, 2))


def mlp(seed: int = 0, preconditioning: AbstractPreconditioning = EDM) -> DenoisingModel:
    return DenoisingModel(TorsoMLP(2, 8, depth=1, key=jr.key(seed)), preconditioning)


def function_denoiser(function):
    """A denoising model whose answer is a plain function `(x_t, sigma, key)`."""
    return DenoisingModel(Function(function), Raw())


# --- denoising ---


def test_edm_loss_of_the_exact_denoiser_is_the_posterior_variance():
    """`weight * s^2 sd^2 / (s^2 + sd^2)` is 1 at every level for Gaussian data of the assumed spread."""
    exact = function_denoiser(lambda x_t, sigma, key: TRUTH.denoise(x_t, sigma))
    loss, terms = eqx.filter_jit(EDMTraining(sigma_data=STD))(exact, DATA, 0, key=KEY)
    assert float(loss) == pytest.approx(1.0, abs=4 * np.sqrt(2 / DATA.size))
    assert list(terms.parts) == ["denoising"]
    assert float(terms["denoising"]) == pytest.approx(float(loss), rel=FLOAT32_ROUNDING)


def test_ddpm_loss_is_the_squared_error_of_the_noise():
    """Against the printed form: the mean of (z - eps(x_vp, n))^2 over the drawn times."""
    schedule = VPSchedule()
    objective = DDPMTraining()
    model = mlp(preconditioning=VPPreconditioning())
    batch = DATA[:16]
    draws = objective.draw(batch, 0, key=KEY)
    times = jax.vmap(schedule.time_at)(draws.sigma)
    np.testing.assert_allclose(times, np.round(times), atol=0.02)
    bars = jnp.asarray(schedule.alpha_bars[np.round(np.asarray(times)).astype(int)])[:, None]
    x_vp = jnp.sqrt(bars) * draws.x + jnp.sqrt(1 - bars) * draws.z
    eps = jax.vmap(lambda x, n: model.network(x, n).raw)(x_vp, times)
    loss, _ = objective(model, batch, 0, key=KEY)
    np.testing.assert_allclose(loss, jnp.mean(jnp.square(draws.z - eps)), rtol=1e-3)


@given(st.integers(0, 2**31 - 1))
def test_every_ddpm_time_is_drawn_alike(seed):
    law = VPTimes(VPSchedule(times=4))
    sigmas = np.asarray(law.schedule.sigmas, np.float32)
    found = jax.vmap(law.level)(jr.uniform(jr.key(seed), (64,)))
    assert set(np.asarray(found)) <= set(sigmas)
    counted = jax.vmap(law.level)((jnp.arange(64) + 0.5) / 64)
    np.testing.assert_array_equal(np.unique(counted, return_counts=True)[1], 16)


def test_log_normal_levels_have_their_quantiles():
    law = LogNormal(-1.2, 1.2)
    u = jnp.array([0.5, 0.8413447, 0.15865526, 0.0])
    found = jax.vmap(law.level)(u)
    np.testing.assert_allclose(found[:3], np.exp([-1.2, 0.0, -2.4]), rtol=1e-5)
    assert 0 < float(found[3]) < 1e-4


@given(st.floats(1e-3, 1e3))
def test_noise_weighting_turns_errors_into_those_of_the_noise(sigma):
    x, denoised = jnp.array([1.0, 2.0]), jnp.array([1.5, 1.0])
    of_noise = jnp.mean(jnp.square((denoised - x) / sigma))
    np.testing.assert_allclose(denoising_loss(denoised, x, NoiseWeighting().at(sigma)), of_noise, rtol=1e-5)


# --- CD against CT ---


EXACT_MAP = function_cm(lambda x, sigma, key: TRUTH.transport(x, sigma, 0.002))


def residual(points, step=None, denoise=TRUTH.denoise):
    more = {} if step is None else {"step": step}
    objective = ConsistencyDistillation(denoise=denoise, curriculum=Constant(points), distance=L1(), **more)
    return float(eqx.filter_jit(objective)(EXACT_MAP, DATA, 0, key=KEY)[0])


def original_residual(points):
    curriculum = SquareRoot(points - 1, points - 1, total_steps=10)
    objective = OriginalConsistencyTraining(curriculum=curriculum, distance=L1())
    return float(eqx.filter_jit(objective)(WithTeacher(EXACT_MAP, EXACT_MAP), DATA, 5, key=KEY)[0])


def test_distillation_of_the_exact_denoiser_leaves_what_the_solver_leaves():
    """With L1 and weight 1: an Euler step errs like gap^2, a Heun step like gap^3; data alone like the gap."""
    counts = (21, 41, 81)
    heun, straight = ([residual(n, step) for n in counts] for step in (None, straight_step))
    np.testing.assert_allclose(np.log2(np.divide(heun[:-1], heun[1:])), 3, atol=0.35)
    np.testing.assert_allclose(np.log2(np.divide(straight[:-1], straight[1:])), 2, atol=0.35)
    from_data = [original_residual(n) for n in counts]
    np.testing.assert_allclose(np.log2(np.divide(from_data[:-1], from_data[1:])), 1, atol=0.2)


def test_distillation_of_the_models_own_head_is_that_of_the_head_given_from_outside():
    pair = function_pair(
        lambda x, sigma, key: TRUTH.transport(x, sigma, 0.002), lambda x, sigma: TRUTH.denoise(x, sigma)
    )
    own, given_one = (ConsistencyDistillation(denoise=d, distance=L1()) for d in (None, TRUTH.denoise))
    guided = dataclasses.replace(ScoreGuidedTraining(curriculum=Constant(18)), base=own)
    assert isinstance(guided, ScoreGuided)
    _, terms = guided(pair, DATA[:64], 0, key=KEY)
    expected, _ = given_one(pair.cm, DATA[:64], 0, key=KEY)
    np.testing.assert_allclose(terms["consistency"], expected, rtol=FLOAT32_CANCELLING)


def test_own_head_gets_no_gradient_from_the_small_step():
    own = ConsistencyDistillation(denoise=None)
    pair = mlp_pair()
    gradient = eqx.filter_grad(lambda model: own(model, DATA[:8], 0, key=KEY)[0])(pair)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(gradient.head, eqx.is_array)))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(gradient.cm, eqx.is_array)))


# --- CT 2023 and its teacher ---


def test_moving_average_teacher_follows_the_printed_recursion():
    curriculum = SquareRoot(total_steps=40)
    recipe = Recipe(
        OriginalConsistencyTraining(curriculum=curriculum), optax.sgd(1e-2), teacher_share=curriculum.teacher_share
    )
    model = ConsistencyModel(TorsoMLP(2, 8, depth=1, key=KEY), BOUNDARY)
    state = init_state(recipe, model)
    expected = weights(model)
    for step in range(6):
        before = weights(state.teacher)
        np.testing.assert_allclose(before, expected, rtol=1e-5, atol=1e-7)
        state, _ = train_step(recipe, state, DATA[8 * step : 8 * step + 8], jr.fold_in(KEY, step))
        mu = float(curriculum.decay(step))
        expected = mu * before + (1 - mu) * (weights(state.model))
    assert not np.array_equal(weights(state.teacher), weights(state.model))


def weights(model):
    """Every trained number, in one array."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(model, trainable(model)))])


def test_the_teacher_judges_and_learns_nothing_by_gradient():
    curriculum = SquareRoot(total_steps=40)
    objective = OriginalConsistencyTraining(curriculum=curriculum)
    student, teacher = mlp_pair(0).cm, mlp_pair(1).cm
    value = lambda given: objective(given, DATA[:8], 39, key=KEY)[0]
    gradient = eqx.filter_grad(value)(WithTeacher(student, teacher))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(gradient.teacher, eqx.is_array)))
    assert value(WithTeacher(student, teacher)) != value(WithTeacher(student, student))


def test_share_is_one_less_the_rate_to_full_precision():
    curriculum = SquareRoot(total_steps=800_000)
    for step in (0, 1, 1000, 799_999):
        exact = -np.expm1(2 * np.log(0.9) / (curriculum.points[int(curriculum.stage(step))] - 1))
        np.testing.assert_allclose(curriculum.teacher_share(step), exact, rtol=1e-6)


# --- ECT ---


@given(st.integers(0, 7), st.floats(0, 1, exclude_max=True, width=32))
def test_shrinking_pairs_are_ordered_and_as_printed(stage, u):
    levels = ShrinkingPairs(Doubling(first=2, last=256, period=10))
    pair = levels.draw(stage, jnp.float32(u))
    t, r, gap = (float(level) for level in (pair.t, pair.r, pair.gap))
    assert 0.002 <= r < t <= 80
    share = (1 + 8 / (1 + np.exp(t))) / 2 ** (stage + 1)
    assert gap == pytest.approx(min(share * t, t - 0.002), rel=1e-4, abs=1e-9)
    assert gap == pytest.approx(t - r, rel=1e-3, abs=1e-6 * t)


def test_shrinking_levels_have_the_law_cut_to_the_range():
    levels = ShrinkingPairs(Doubling(first=2, last=256, period=10))
    t = np.asarray(jax.vmap(lambda u: levels.draw(0, u).t)((jnp.arange(20_000) + 0.5) / 20_000))
    assert np.median(t) == pytest.approx(np.exp(-1.1), rel=0.02)
    assert t.min() < 0.0025
    assert t.max() > 40


def test_ect_begins_as_denoising():
    """In the first stages the teacher stands at sigma_min, where it is the identity: nearly the clean sample."""
    objective = EasyConsistencyTuning(curriculum=Doubling(first=2, last=256, period=10), distance=L1())
    draws = objective.draw(DATA[:256], 0, key=KEY)
    low = np.asarray(draws.pair.t) < 1
    np.testing.assert_array_equal(np.asarray(draws.pair.r)[low], np.float32(0.002))


def test_ect_measures_the_norm_over_the_gap():
    """Of a map that is off by d everywhere above sigma_min, in the first stage: the mean of |x + d - x_r| / gap."""
    objective = EasyConsistencyTuning(curriculum=Doubling(first=2, last=256, period=10))
    draws = objective.draw(DATA[:64], 0, key=KEY)
    cm = ConsistencyModel(TorsoMLP(2, 8, depth=1, key=KEY), BOUNDARY)
    losses = objective.sample_losses(cm, draws)["consistency"].value
    for i in np.flatnonzero(np.asarray(draws.pair.r) == np.float32(0.002))[:5]:
        x, z, t, gap = (np.asarray(a)[i] for a in (draws.x, draws.z, draws.pair.t, draws.pair.gap))
        student = cm.endpoint(jnp.asarray(x + t * z), jnp.asarray(t))
        np.testing.assert_allclose(losses[i], np.linalg.norm(student - (x + 0.002 * z)) / gap, rtol=1e-3)


def test_ects_loss_near_the_lowest_level_is_its_authors():
    """Theirs: EDM's form, the clean sample as target, 1 / t. Here the weight is larger, the residual as much less."""
    objective = EasyConsistencyTuning(curriculum=Doubling(first=2, last=256, period=10), distance=L1())
    draws = objective.draw(DATA, 0, key=KEY)
    keep = np.flatnonzero(np.asarray(draws.pair.t) < 0.006)
    assert len(keep) > 32
    draws = jax.tree.map(lambda leaf: leaf[keep], draws)
    cm = ConsistencyModel(mlp().network, BOUNDARY)
    ours = eqx.filter_jit(objective.sample_losses)(cm, draws)["consistency"].value
    t, x_t = draws.pair.t, draws.x + draws.pair.t[:, None] * draws.z
    theirs = jnp.abs(jax.vmap(mlp().denoise)(x_t, t) - draws.x).mean(1) / t
    np.testing.assert_allclose(ours, theirs, rtol=0.1)
    assert float((t / draws.pair.gap).max()) > 10


# --- PD ---


def jump(denoise, x_t, pair):
    """One Euler step from t to r."""
    return x_t + (pair.r - pair.t) * (x_t - denoise) / pair.t


@given(st.floats(0.01, 40), st.floats(1.1, 4.0))
def test_one_step_to_the_target_is_two_steps_of_the_teacher(t, ratio):
    pair = LevelPair.from_levels(jnp.float32(t), jnp.float32(t / ratio))
    x_t = jnp.array([0.3, -1.2])
    target = two_step_target(TRUTH.denoise, x_t, pair, 7.0)
    middle = ((t ** (1 / 7) + (t / ratio) ** (1 / 7)) / 2) ** 7
    x_m = jump(TRUTH.denoise(x_t, t), x_t, LevelPair.from_levels(t, middle))
    x_r = jump(TRUTH.denoise(x_m, middle), x_m, LevelPair.from_levels(middle, t / ratio))
    np.testing.assert_allclose(jump(target, x_t, pair), x_r, rtol=1e-4, atol=1e-4)


def test_middles_are_the_grid_of_twice_the_steps():
    coarse, fine = karras_grid(9), karras_grid(17)
    middle = ((coarse[1:] ** (1 / 7) + coarse[:-1] ** (1 / 7)) / 2) ** 7
    np.testing.assert_allclose(middle, fine[1::2], rtol=1e-12)


def test_halving_keeps_the_map_of_the_exact_teacher(x64):
    """A student that fits its target exactly makes the teacher's map in half the steps, stage after stage.

    So after every halving the error against the exact flow is that of the first teacher's 64 Euler steps.
    """
    z = jnp.array([0.7, -1.1])
    exact = TRUTH.transport(80 * z, 80.0, 0.002)

    def walk(denoise, intervals):
        grid, x_t = karras_grid(intervals + 1)[::-1], 80 * z
        for t, r in zip(grid[:-1], grid[1:], strict=True):
            x_t = jump(denoise(x_t, t), x_t, LevelPair.from_levels(t, r))
        return x_t

    denoise, first = TRUTH.denoise, walk(TRUTH.denoise, 64)
    for intervals in (32, 16, 8, 4, 2, 1):
        grid = karras_grid(intervals + 1)

        def student(x_t, t, denoise=denoise, grid=grid):
            r = grid[int(np.argmin(np.abs(grid - t))) - 1]
            return two_step_target(denoise, x_t, LevelPair.from_levels(jnp.asarray(t), jnp.asarray(r)), 7.0)

        denoise = student
        np.testing.assert_allclose(walk(denoise, intervals), first, rtol=1e-7)
    assert float(jnp.abs(first - exact).max()) < 0.1 * float(jnp.abs(exact).max())


def test_stages_hand_the_student_over_and_an_update_at_fault_does_too():
    curriculum = Halving.from_periods(4, 1, period=2, last_period=3)
    assert curriculum.starts == (0, 2, 5)
    assert curriculum.points == (5, 3, 2)
    recipe = Recipe(
        ProgressiveDistillation.from_curriculum(curriculum), optax.sgd(1e-2), teacher_share=curriculum.teacher_share
    )
    state = init_state(recipe, mlp())
    for step in range(7):
        before = weights(state.teacher)
        batch = DATA[:8] if step != 4 else jnp.full((8, 2), jnp.nan)
        state, report = train_step(recipe, state, batch, jr.fold_in(KEY, step))
        assert bool(report.finite) == (step != 4)
        if step in (1, 4):  # the last update of a stage
            np.testing.assert_array_equal(weights(state.teacher), weights(state.model))
        else:
            np.testing.assert_array_equal(weights(state.teacher), before)


def test_the_target_is_the_teachers_alone_and_gives_no_gradient():
    objective = ProgressiveDistillation.from_curriculum(Halving(8, 1, starts=(0, 1, 2, 3)))
    a, b = mlp(0), mlp(1)
    value = lambda given: objective(given, DATA[:8], 0, key=KEY)[0]
    assert not np.any(weights(eqx.filter_grad(value)(WithTeacher(a, b)).teacher))
    draws = objective.draw(DATA[:8], 0, key=KEY)
    losses = objective.sample_losses(WithTeacher(a, b), draws)["denoising"].value
    for i in range(8):
        draw = jax.tree.map(lambda leaf, i=i: leaf[i], draws)
        x_t = draw.x + draw.pair.t * draw.z
        error = a.denoise(x_t, draw.pair.t) - two_step_target(b.denoise, x_t, draw.pair, 7.0)
        weight = max(1 / float(draw.pair.t) ** 2, 1.0)
        np.testing.assert_allclose(losses[i], weight * np.mean(np.square(error)), rtol=2e-3)


def test_the_last_student_samples_in_one_evaluation():
    one_step_levels = karras_grid(2)[:0:-1].copy()
    np.testing.assert_array_equal(one_step_levels, [80.0])
    z = jnp.array([0.3, 0.1])
    np.testing.assert_array_equal(euler(TRUTH.denoise, z, levels=one_step_levels), TRUTH.denoise(80 * z, 80.0))


# --- KD ---


def test_knowledge_distillation_regresses_the_reference_endpoint():
    """The pairs of the exact sampler; a student that is the exact map has no loss, one that is off by d has d."""
    z = jr.normal(KEY, (16, 2))
    pairs = Pair(z, jax.vmap(lambda z: TRUTH.transport(80 * z, 80.0, 0.002))(z))
    objective = KnowledgeDistillation()
    for offset in (0.0, 0.25):
        student = function_denoiser(lambda x, sigma, key, offset=offset: TRUTH.transport(x, sigma, 0.002) + offset)
        loss, terms = objective(student, pairs, 0, key=KEY)
        np.testing.assert_allclose(loss, offset, atol=1e-5)
        assert float(terms["consistency"]) == float(loss)


@pytest.mark.parametrize("objective", ["KD", "PD"])
def test_a_student_of_ddpms_own_form_warns(objective):
    """Before the first update: its network's error in the sample is 157 times as large, 80 times in PD's last stage."""
    made, factor = {
        "KD": (KnowledgeDistillation(float(VPSchedule().sigmas[-1])), 157),
        "PD": (ProgressiveDistillation.from_curriculum(Halving(4, 1, starts=(0, 1, 2))), 80),
    }[objective]
    with pytest.warns(UserWarning, match=f"VPPreconditioning, which multiplies the network's error by {factor}; "):
        init_state(Recipe(made, optax.sgd(1e-2)), mlp(preconditioning=VPPreconditioning()))


def test_the_student_of_a_ddpm_learns_a_sample_in_the_size_of_its_error():
    """Against what it replaced: the same network in DDPM's own form stays dozens of times further from the pairs."""
    top, times = float(VPSchedule().sigmas[-1]), VPSchedule().quadratic(20)
    z = jr.normal(KEY, (256, 2))
    pairs = Pair(z, jax.vmap(lambda z: ddim(TRUTH.denoise, z, times=times))(z))
    objective, optimiser, left = KnowledgeDistillation(top), optax.adam(1e-3), {}
    for form in (VPStudentPreconditioning(), VPPreconditioning()):

        @eqx.filter_jit
        def trained(model, objective=objective):
            arrays, static = eqx.partition(model, eqx.is_inexact_array)

            def update(state, key):
                loss = lambda arrays: objective(eqx.combine(arrays, static), pairs, 0, key=key)[0]
                value, gradient = jax.value_and_grad(loss)(state[0])
                updates, memory = optimiser.update(gradient, state[1])
                return (eqx.apply_updates(state[0], updates), memory), value

            return jax.lax.scan(update, (arrays, optimiser.init(arrays)), jr.split(KEY, 400))[1][-1]

        left[type(form)] = float(trained(mlp(preconditioning=form)))
    assert left[VPStudentPreconditioning] < 0.1
    assert left[VPPreconditioning] > 24 * left[VPStudentPreconditioning]


# --- bad input ---

BAD = {
    "halves": (lambda: Halving(6, 1, starts=(0, 1, 2)), "first: expected last = 1 doubled.*found 6"),
    "starts": (lambda: Halving(4, 1, starts=(0, 2, 2)), "starts: expected 3 ascending steps"),
    "levels": (lambda: ShrinkingPairs(Constant(3), sigma_min=2.0, sigma_max=1.0), "sigma_min: expected less than"),
    "k": (lambda: ShrinkingPairs(Constant(3), k=-1.0), "k: expected.*>= 0, found -1.0"),
    "sigma_max": (lambda: KnowledgeDistillation(sigma_max=0.0), "sigma_max: expected.*found 0.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_without_what_the_objective_needs_is_refused():
    with pytest.raises(TypeError, match="expected a ScoreGuidedModel.*found ConsistencyModel"):
        ConsistencyDistillation(denoise=None)(mlp_pair().cm, DATA[:4], 0, key=KEY)
    with pytest.raises(TypeError, match="expected a WithTeacher.*found ConsistencyModel"):
        OriginalConsistencyTraining(curriculum=SquareRoot(total_steps=4))(mlp_pair().cm, DATA[:4], 0, key=KEY)

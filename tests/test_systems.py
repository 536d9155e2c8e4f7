"""Every method of the command line: trained, gone on with, sampled; teachers and pairs that do not fit are refused."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import save_file

import equisct as sct
from equisct import DDIM, VPSchedule
from equisct.app import methods, presets
from equisct.app.cli import sample, train
from equisct.app.cli.plan import describe
from equisct.app.parts.models import denoising_model, transplant
from equisct.app.parts.recipe import build_optimiser, build_oracle, build_recipe
from equisct.app.runs import loop, pictures, stored
from equisct.app.runs.stored import load_run, load_teacher, weights_hash
from equisct.app.settings import codec
from equisct.app.settings.config import Ema, Head, Log, Noise, Optim, Parallel, Run, Sample, Torso
from equisct.app.settings.data import Mixture, Pairs
from equisct.app.settings.method import Method
from equisct.data import DataError, load_pairs, save_pairs
from equisct.evaluation import lpips
from equisct.model import ConsistencyModel, DenoisingModel, ScoreGuidedModel, WithTeacher
from equisct.objectives import slots
from equisct.train import (
    ConstantDecay,
    PowerFunction,
    RampedDecay,
    data_mesh,
    init_state,
    manifest,
    restarting,
    train_step,
)
from equisct.train.reading import find_checkpoint, load_tree
from equisct.train.weights import named_arrays, with_arrays
from strategies import untyped
from test_lpips import weights as lpips_weights
from tolerances import FLOAT32_ROUNDING

ROOT = pathlib.Path(__file__).parent.parent
SMALL = dataclasses.replace(
    presets.TOY,
    torso=Torso(width=8, blocks=1, dropout=0.0, fourier_scale=1.0),
    head=Head(width=8, blocks=1),
    run=Run(steps=8, batch=16, save_every=4),
    optim=Optim(lr=1e-3),
    log=Log(every=4, tensorboard=False),
    sample=Sample(n=4, heun_steps=3),
    parallel=Parallel(devices=1),
)
"""The mixture in the plane by MLPs that compile in no time."""

METHODS = {
    "EDM": methods.EDM(),
    "DDPM": methods.DDPM(),
    "ScoreGuided": methods.ScoreGuidance(last=40),
    "ICT": methods.ICT(last=40),
    "SCT": methods.SCT(),
    "CT": methods.CT(last=4),
    "CD of itself": methods.CD(points=6),
}


PUBLISHED = [name for name in presets.PRESETS if name.startswith("cifar10")]
UNETS = PUBLISHED if os.environ.get("EQUISCT_FULL") == "1" else ["cifar10-ddpm", "cifar10-edm"]


def write(config, path):
    path.write_text(json.dumps(codec.to_json(config)))
    return str(path)


def run(config, folder, *flags):
    """Trains with a configuration as the command does."""
    train.main(["from-config", write(config, folder.with_suffix(".json")), "--run.dir", str(folder), *flags])
    return folder


def refusal(config, folder, capsys):
    """What the command says against a configuration; it may leave nothing behind."""
    with pytest.raises(SystemExit) as end:
        run(config, folder)
    assert end.value.code == 2
    assert not folder.exists()
    return capsys.readouterr().err


@pytest.fixture(scope="module", autouse=True)
def agreement_of_edm_alone():
    """Each of the others would solve for the truth again; tests/test_cli_evaluate.py looks at that of a pair."""
    whole = loop.report_agreement

    def told(config, *rest):
        if isinstance(config.method, methods.EDM):
            whole(config, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "report_agreement", told)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def edm(runs):
    """A finished run of a denoiser in EDM's form."""
    return run(dataclasses.replace(SMALL, method=methods.EDM()), runs / "edm")


@pytest.fixture(scope="module")
def ddpm(runs):
    """A finished run of a denoiser in DDPM's form."""
    return run(dataclasses.replace(SMALL, method=methods.DDPM()), runs / "ddpm")


@pytest.fixture(scope="module")
def pairs(runs, ddpm):
    """Pairs of its weights."""
    path = runs / "pairs.npz"
    sample.main([str(ddpm), "--sampler", "ddim", "--steps", "5", "--n", "32", "--pairs", "--out", str(path)])
    return path


# --- settings reach what they are named after ---

NOISE = Noise(sigma_min=0.01, sigma_max=50.0, sigma_data=0.8, rho=5.0)
GRID: dict = {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0, "stratify": True}
LAW = sct.LogNormal(mean=-0.5, std=0.7)
FOUR = sct.Doubling(2, 8, period=3)


def denoise(x, sigma):
    """A teacher's posterior mean."""
    return x / (1 + sigma)


LAWFUL: dict = {"law_mean": -0.5, "law_std": 0.7, "stratify": True}
STAGES: dict = {"first": 2, "last": 8, "period": 3}
WIRED = {
    "EDM": (
        methods.EDM(**LAWFUL),
        sct.EDMTraining(sigma_data=0.8, law=LAW, stratify=True, sigma_min=0.01, sigma_max=50.0),
    ),
    "DDPM": (methods.DDPM(stratify=True), sct.DDPMTraining(stratify=True)),
    "KD of EDM": (methods.KD(distance="squared-l2"), sct.KnowledgeDistillation(50.0, sct.SquaredL2())),
    "KD of DDPM": (
        methods.KD(preconditioning="vp"),
        sct.KnowledgeDistillation(float(sct.VPSchedule().sigmas[-1]), sct.L1()),
    ),
    "PD": (
        methods.PD(first=8, last=2, period=3, stratify=True),
        sct.ProgressiveDistillation.from_curriculum(sct.Halving(8, 2, starts=(0, 3, 6)), **GRID),
    ),
    "CD": (
        methods.CD(distance="l1", teacher=pathlib.Path("t"), points=7, solver="euler", stratify=True),
        sct.ConsistencyDistillation(
            denoise=denoise, curriculum=sct.Constant(7), distance=sct.L1(), step=slots.straight_step, **GRID
        ),
    ),
    "CD of itself": (
        methods.CD(points=7, head_weight=0.4, head_weighting="constant", stratify=True),
        sct.ScoreGuided(
            sct.ConsistencyDistillation(
                denoise=None, curriculum=sct.Constant(7), distance=sct.SquaredL2(), step=slots.heun_correction, **GRID
            ),
            0.4,
            sct.ConstantWeighting(),
        ),
    ),
    "CT": (
        methods.CT(first=3, last=9, initial_decay=0.8, stratify=True),
        sct.OriginalConsistencyTraining(
            curriculum=sct.SquareRoot(3, 9, total_steps=12, initial_decay=0.8), distance=sct.SquaredL2(), **GRID
        ),
    ),
    "ECT": (
        methods.ECT(**LAWFUL, **STAGES, c=0.1, widening=4.0, narrowing=2.0),
        sct.EasyConsistencyTuning(
            curriculum=FOUR, distance=sct.PseudoHuberNorm(0.1), law=LAW, k=4.0, b=2.0,
            sigma_min=0.01, sigma_max=50.0, stratify=True,
        ),
    ),
    "ICT": (
        methods.ICT("pseudo-huber-rms", 0.1, **LAWFUL, **STAGES),
        sct.ConsistencyTraining(curriculum=FOUR, distance=sct.PseudoHuberRMS(0.1), law=LAW, **GRID),
    ),
    "SCT": (
        methods.SCT(**LAWFUL, tangent_c=0.2),
        sct.ContinuousConsistency(
            law=LAW, warmup=1, tangent_c=0.2, sigma_data=0.8, stratify=True, sigma_min=0.01, sigma_max=50.0
        ),
    ),
    "SCT, its own warm-up": (
        methods.SCT(warmup=7, tangent_c=None),
        sct.ContinuousConsistency(warmup=7, tangent_c=None, sigma_data=0.8, sigma_min=0.01, sigma_max=50.0),
    ),
    "ScoreGuidance": (
        methods.ScoreGuidance("pseudo-huber", 0.1, **LAWFUL, **STAGES, head_weight=0.4),
        sct.ScoreGuidedTraining(
            curriculum=FOUR, distance=sct.PseudoHuber(0.1), law=LAW, head_weight=0.4,
            head_weighting=sct.EDMWeighting(sigma_data=0.8), **GRID,
        ),
    ),
}  # fmt: skip


class Teaching:
    """What a run of a denoiser leaves to its students."""

    denoise = staticmethod(denoise)


@pytest.mark.parametrize("name", WIRED)
def test_the_objective_of_a_method_is_the_one_built_by_hand(name):
    method, expected = WIRED[name]
    config = dataclasses.replace(SMALL, method=method, noise=NOISE, run=Run(steps=12, batch=16))
    found = method.build(config, (2,)).objective(Teaching if getattr(method, "teacher", None) else None, None)
    assert type(found) is type(expected)
    arrays = [eqx.filter(objective, eqx.is_array_like) for objective in (found, expected)]
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), *arrays)
    assert all(jax.tree.leaves(same)), same
    assert jax.tree.structure(found) == jax.tree.structure(expected)


def test_stages_are_those_of_the_run():
    config = dataclasses.replace(SMALL, run=Run(steps=12, batch=16))
    halving = methods.PD(first=4)
    system = halving.build(dataclasses.replace(config, method=halving), (2,))
    assert untyped(system.curriculum).starts == (0, 2, 6)  # two periods for two steps and for one
    assert system.restarts == (2, 6)
    names = [system.samplers(step)[0].name for step in (0, 2, 3, 7)]
    assert names == ["euler-4", "euler-4", "euler-2", "euler-1"]
    assert untyped(system.teacher_share)(1) == 1.0
    doubling = methods.ICT(first=2, last=8)
    assert untyped(doubling.build(config, (2,)).curriculum).period == 4


# --- systems ---


def check_update(config, shape, teacher):
    """One update changes the weights and stays finite; the samplers give samples of the right shape."""
    system = config.method.build(config, shape)
    model = system.start(system.model(jr.key(0)), teacher)
    recipe = build_recipe(config, system, teacher)
    batch = np.asarray(jr.uniform(jr.key(1), (2, *shape), minval=-1.0))
    if isinstance(config.method, methods.KD):
        batch = sct.Pair(batch, batch)
    after, report = train_step(recipe, init_state(recipe, model), batch, jr.key(2))
    assert bool(report.finite)
    assert isinstance(after.objective_model, WithTeacher) == (system.teacher_share is not None)
    assert weights_hash(after.model) != weights_hash(model)
    for sampler in system.samplers(1) + system.last_samplers:
        found = jax.eval_shape(lambda z, s=sampler: s(model, z, key=jr.key(3)), jnp.zeros(shape))
        assert found.shape == shape


def test_distillation_of_its_own_head_makes_an_update():
    check_update(dataclasses.replace(SMALL, method=METHODS["CD of itself"]), (2,), None)


@pytest.mark.parametrize("kind", ["edm", "vp"])
@pytest.mark.parametrize("method", ["PD", "KD", "CD", "ECT"])
def test_every_method_with_a_teacher_starts_from_its_weights(edm, ddpm, method, kind):
    path = edm if kind == "edm" else ddpm
    made = {
        "PD": lambda: methods.PD(path, preconditioning=kind, first=2),
        "KD": lambda: methods.KD(path, preconditioning=kind),
        "CD": lambda: methods.CD(teacher=path),
        "ECT": lambda: methods.ECT(teacher=path, last=4),
    }[method]()
    config = dataclasses.replace(SMALL, method=made)
    teacher = untyped(load_teacher(config, (2,)))
    system = made.build(config, (2,))
    begun = system.start(system.model(jr.key(5)), teacher.model)
    network = begun.torso if isinstance(begun, ConsistencyModel) else begun.network
    assert weights_hash(network) == weights_hash(teacher.model.network)
    assert teacher.hash == weights_hash(load_run(path).ema)


def test_kinds_of_models():
    kinds = {"EDM": DenoisingModel, "ICT": ConsistencyModel, "CT": ConsistencyModel, "CD of itself": ScoreGuidedModel}
    for name, kind in kinds.items():
        config = dataclasses.replace(SMALL, method=METHODS[name])
        assert isinstance(config.method.build(config, (2,)).model(jr.key(0)), kind)
    for kd, form in (
        (methods.KD(), sct.EDMPreconditioning),
        (methods.KD(preconditioning="vp"), sct.VPStudentPreconditioning),
    ):
        assert isinstance(kd.build(SMALL, (2,)).model(jr.key(0)).preconditioning, form)


def test_a_method_that_forgets_to_build_is_no_method():
    """Neither does it train as its parent, nor does it wait for the first update to say so."""
    with pytest.raises(TypeError, match="Forgetful: expected a method build of its own, found none"):
        type("Forgetful", (methods.ICT,), {})
    with pytest.raises(TypeError, match="Forgetful: expected a method build"):
        type("Forgetful", (methods.Method,), {})
    with pytest.raises(TypeError, match="abstract"):
        untyped(methods.AbstractDoubling)()


def test_samplers_that_cannot_be_are_refused_before_anything_is_written(runs, monkeypatch, capsys):
    """And not when the first picture is drawn, after all updates."""
    build, ascending = methods.ICT.build, lambda step: (sct.Heun((1.0, 2.0)),)
    wrong = lambda *words: dataclasses.replace(build(*words), samplers=ascending)
    monkeypatch.setattr(methods.ICT, "build", wrong)
    config = dataclasses.replace(SMALL, method=methods.ICT(last=20))
    assert "levels: expected strictly descending levels" in refusal(config, runs / "ascending", capsys)


def test_a_method_that_is_no_dataclass_is_refused_when_it_is_made():
    """Its settings would be no flags, and be stored nowhere; in a process of its own, since a class stays known."""
    body = "    share: float = 0.5\n    build = methods.ICT.build\n"
    words = f"from equisct.app import methods\nclass Bare(methods.ICT):\n{body}Bare()"
    ended = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert "Bare: expected a frozen dataclass, or its settings are no flags" in ended.stderr


def write_lpips(folder):
    """Weights of a narrow network for LPIPS."""
    for name, arrays in zip(lpips.FILES, lpips_weights(), strict=True):
        save_file(arrays, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets_build_at_full_size_and_train_at_reduced_width(name, tmp_path):
    """One update of the U-Net, where no other preset of the suite has trained such a one; else of the MLP."""
    preset = presets.PRESETS[name][1]
    full = eqx.filter_eval_shape(preset.method.build(preset, (3, 32, 32)).model, jr.key(0))
    assert sct.count(full) > 3e7
    tiny = {"width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}
    narrow = dataclasses.replace(
        preset,
        torso=dataclasses.replace(preset.torso, **tiny),
        head=dataclasses.replace(preset.head, **tiny),
        optim=dataclasses.replace(preset.optim, warmup=0),  # whose first update changes nothing
    )
    shape = (3, 4, 4) if name in UNETS else (2,)
    if getattr(narrow.method, "distance", None) == "lpips":
        by = {"lpips": write_lpips(tmp_path)} if len(shape) == 3 else {"distance": "squared-l2"}
        narrow = dataclasses.replace(narrow, method=dataclasses.replace(narrow.method, **by))
    if isinstance(narrow.method, methods.EDM) and len(shape) == 1:
        narrow = dataclasses.replace(narrow, method=dataclasses.replace(narrow.method, augment=0.0))
    teacher = None
    if getattr(narrow.method, "teacher", None) is not None:
        kind = getattr(narrow.method, "preconditioning", "edm")
        teacher = denoising_model(narrow, shape, kind, key=jr.key(9))
    check_update(narrow, shape, teacher)


# --- as commands ---


@pytest.fixture(scope="module")
def pd(edm, runs):
    """A finished run of progressive distillation: the stages of two steps and one begin at updates 0 and 4."""
    method = methods.PD(edm, first=2)
    optim = Optim("adam", lr=1e-3, decay=True)
    config = dataclasses.replace(SMALL, method=method, optim=optim, run=Run(steps=8, batch=16, save_every=3, keep=4))
    return run(config, runs / "pd")


def test_sampling_reads_each_file_once_and_no_more_than_the_weights(pd, monkeypatch):
    hashed, asked = [], []
    describe, restore = manifest._describe, ocp.args.PyTreeRestore
    monkeypatch.setattr(manifest, "_describe", lambda path: (hashed.append(path), describe(path))[1])
    monkeypatch.setattr(
        ocp.args, "PyTreeRestore", lambda tree, **rest: (asked.append([*tree]), restore(tree, **rest))[1]
    )
    load_run(pd)
    place = pd / "checkpoints" / "8"
    assert sorted(hashed) == sorted(p for p in place.rglob("*") if p.is_file() and p.name != manifest.NAME)
    assert [{name.partition("/")[0] for name in names} for names in asked] == [{"model", "ema"}]
    monkeypatch.undo()
    expected = {name: np.asarray(leaf) for name, leaf in arrays_in(pd, 8).items()}
    for group in ("model", "ema"):
        for name, leaf in named_arrays(getattr(load_run(pd), group)).items():
            np.testing.assert_array_equal(leaf, expected[f"{group}/{name}"])


def arrays_in(folder, step):
    """Every array of a run's checkpoint by its name."""
    found = find_checkpoint(folder / "checkpoints", step)
    return load_tree(found, found.shapes)


def test_a_run_with_a_teacher_goes_on_with_the_same_bits(pd, runs):
    """From the middle of the first stage: the teacher beside the model and the optimiser's restart come after it."""
    again = runs / "pd-again"
    shutil.copytree(pd, again)
    for step in (6, 8):
        shutil.rmtree(again / "checkpoints" / str(step))
    (again / "STATUS.json").unlink()
    train.main(["resume", str(again)])
    expected, found = (arrays_in(folder, 8) for folder in (pd, again))
    assert expected.keys() == found.keys()
    assert {name.split("/")[0] for name in found} >= {"model", "ema", "teacher", "optimiser_state"}
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert (again / "metrics.jsonl").read_bytes() == (pd / "metrics.jsonl").read_bytes()


def test_the_student_becomes_the_teacher_at_the_next_stage(pd, edm):
    first = weights_hash(load_run(edm).ema)
    arrays = {step: arrays_in(pd, step) for step in (3, 6, 8)}
    teachers = {
        step: {n: np.asarray(a) for n, a in arrays[step].items() if n.startswith("teacher/")} for step in arrays
    }
    like = load_run(edm).ema
    begun = {name.removeprefix("teacher/"): array for name, array in teachers[3].items()}
    assert weights_hash(with_arrays(like, begun)) == first
    assert any(not np.array_equal(teachers[3][name], teachers[6][name]) for name in teachers[3])
    assert all(np.array_equal(teachers[6][name], teachers[8][name]) for name in teachers[6])


def test_another_teacher_is_seen_by_its_hash_when_a_run_goes_on(pd, edm, runs, capsys):
    other, again = runs / "edm-other", runs / "pd-other"
    shutil.copytree(edm, other)
    shutil.rmtree(other / "checkpoints" / "8")
    shutil.copytree(pd, again)
    shutil.rmtree(again / "checkpoints" / "8")
    (again / "STATUS.json").unlink()
    before = sorted(path for path in again.rglob("*") if path.is_file())
    with pytest.raises(SystemExit) as end:
        train.main(["resume", str(again), "--method.teacher", str(other)])
    assert end.value.code == 6
    err = capsys.readouterr().err
    expected, found = (weights_hash(load_run(folder).ema)[:12] for folder in (edm, other))
    assert f"method.teacher: expected the teacher that this run began with, {expected}, found {found}" in err
    assert set(before) <= {path for path in again.rglob("*") if path.is_file()}


def test_a_moved_teacher_is_still_the_same(pd, edm, runs, capsys):
    moved, again = runs / "edm-moved", runs / "pd-moved"
    shutil.copytree(edm, moved)
    shutil.copytree(pd, again)
    shutil.rmtree(again / "checkpoints" / "8")
    (again / "STATUS.json").unlink()
    train.main(["resume", str(again), "--method.teacher", str(moved)])
    assert "changed: method.teacher" in capsys.readouterr().err


def test_pairs_hold_the_noise_the_samples_came_from(pairs, ddpm):
    found = load_pairs(pairs)
    stored = load_run(ddpm)
    assert found.teacher == weights_hash(stored.ema)
    assert (found.size, found.shape) == (32, (2,))
    again = found.take(np.array([3, 1]))
    np.testing.assert_array_equal(again.z, found.z[[3, 1]])
    np.testing.assert_array_equal(again.x, found.samples[[3, 1]])
    sampler = DDIM(VPSchedule().quadratic(5))
    made = jax.vmap(lambda z: sampler(stored.ema, z))(jnp.asarray(found.z[:3]))
    np.testing.assert_allclose(made, found.samples[:3], rtol=1e-4, atol=1e-5)


def test_knowledge_distillation_as_a_command(ddpm, pairs, runs):
    method = methods.KD(ddpm, preconditioning="vp")
    config = dataclasses.replace(SMALL, method=method, data=Pairs(pairs))
    assert "32 samples of shape (2,)" in describe(config, load_pairs(pairs), data_mesh(1), goes_on=False)
    folder = run(config, runs / "kd")
    sample.main([str(folder), "--n", "3", "--out", str(runs / "kd.npz")])
    assert np.load(runs / "kd.npz")["samples"].shape == (3, 2)


def other_pairs(pairs, path):
    found = load_pairs(pairs)
    save_pairs(path, found.z, found.samples, "0" * 64)
    return path


def test_settings_that_do_not_fit_are_refused_with_one_message(edm, ddpm, pairs, runs, capsys):
    kd = methods.KD(ddpm, preconditioning="vp")
    other = other_pairs(pairs, runs / "other.npz")
    cases = {
        "method.teacher: expected the folder of a run of equisct-train, found none at nowhere": (
            dataclasses.replace(SMALL, method=methods.ECT(teacher=pathlib.Path("nowhere")))
        ),
        "method.preconditioning: expected the teacher's, vp, found edm": (
            dataclasses.replace(SMALL, method=methods.PD(ddpm, first=2))
        ),
        "method.teacher: expected a network of the same settings as torso": (
            dataclasses.replace(
                SMALL, method=methods.PD(edm, first=2), torso=dataclasses.replace(SMALL.torso, width=12)
            )
        ),
        "noise: expected that of the teacher": (
            dataclasses.replace(SMALL, method=methods.CD(teacher=edm), noise=Noise(sigma_data=0.7))
        ),
        "data.path: expected pairs made by the weights of method.teacher": (
            dataclasses.replace(SMALL, method=kd, data=Pairs(other))
        ),
        "method, data: expected Pairs as data with the method KD and with no other": (
            dataclasses.replace(SMALL, method=kd)
        ),
        "optim.head_lr: expected none with a method without a score head": (
            dataclasses.replace(SMALL, method=methods.EDM(), optim=Optim(head_lr=1e-2))
        ),
        "method.first: expected method.last = 3 doubled some number of times, found 8": (
            dataclasses.replace(SMALL, method=methods.PD(edm, first=8, last=3))
        ),
        "run.steps: expected at least one update per period (10), found 8": (
            dataclasses.replace(SMALL, method=methods.PD(edm, first=128))
        ),
    }
    for message, config in cases.items():
        assert message in refusal(config, runs / "refused", capsys)


def test_a_teacher_of_another_shape_or_without_a_denoiser_is_refused(edm, monkeypatch):
    config = dataclasses.replace(SMALL, method=methods.CD(teacher=edm))
    with pytest.raises(ValueError, match=r"method.teacher: expected a model of samples \(3,\), found one of \(2,\)"):
        load_teacher(config, (3,))
    found = load_run(edm)
    cm = dataclasses.replace(found, ema=ConsistencyModel(found.ema.network, found.ema.preconditioning))
    monkeypatch.setattr(stored, "load_run", lambda path: cm)
    with pytest.raises(ValueError, match="expected a run that trained a denoiser"):
        load_teacher(config, (2,))
    student = dataclasses.replace(found, config=dataclasses.replace(found.config, method=methods.PD(edm)))
    monkeypatch.setattr(stored, "load_run", lambda path: student)
    with pytest.raises(ValueError, match="expected a run that trained a denoiser, found one of method PD"):
        load_teacher(config, (2,))


@dataclasses.dataclass(frozen=True)
class OneStep:
    """The student that progressive distillation would end with, moved: one Euler step leads beside the path's end."""

    shift: float

    def denoise(self, x_t, sigma):
        return build_oracle(Mixture()).transport(x_t, sigma, 0.0) + self.shift


def test_a_distilled_student_is_judged_by_its_own_samples(tmp_path, capsys):
    """And by no posterior mean, which its `denoise` is not: at most levels that is far from where the path ends."""
    config = dataclasses.replace(presets.TOY, method=methods.PD(first=1))
    pictures.report_agreement(config, OneStep(0.3), jr.key(0), tmp_path)
    text = (tmp_path / "agreement.txt").read_text()
    rms, median = re.findall(r"noise: ([\d.]+) root mean square, ([\d.]+) median", text)[0]
    np.testing.assert_allclose([float(rms), float(median)], 0.3 * 2**0.5, atol=1e-4)
    assert "euler-1" in text
    assert "posterior mean" not in text
    assert capsys.readouterr().out == text
    assert {name for name, method in codec.kinds(Method).items() if method.learns_steps} == {"KD", "PD"}


def test_a_teacher_is_laid_out_over_the_devices_of_the_run(edm, runs):
    config = dataclasses.replace(SMALL, method=methods.CD(teacher=edm), parallel=Parallel(devices=2))
    words = ["from-config", write(config, runs / "cd-two.json"), "--run.dir", str(runs / "cd-two"), "--run.steps", "2"]
    ended = call(runs, "-m", "equisct", "train", *words)  # a process of its own: this one has settled on one device
    assert ended.returncode == 0, ended.stderr


BAD_SAMPLING = {
    "jumps of a denoiser": (
        ["--sampler", "one-step"],
        "sampler: expected one of heun, euler, ddim, ancestral, found",
    ),
    "more steps than levels": (
        ["--sampler", "euler", "--steps", "4"],
        "steps: expected at most 2, the levels",
    ),
}


@pytest.mark.parametrize("name", BAD_SAMPLING)
def test_bad_sampling_is_refused(name, pd, tmp_path, monkeypatch, capsys):
    words, message = BAD_SAMPLING[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        sample.main([str(pd), *words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


BAD_PAIRS = {
    "no noise": ({"samples": np.zeros((4, 2), np.float32), "teacher": np.array("x")}, "no array 'z'"),
    "other shapes": (
        {"z": np.zeros((4, 2), np.float32), "samples": np.zeros((3, 2), np.float32), "teacher": np.array("x")},
        "samples",
    ),
    "doubles": ({"z": np.zeros((4, 2)), "samples": np.zeros((4, 2)), "teacher": np.array("x")}, "z"),
    "a number as teacher": (
        {"z": np.zeros((4, 2), np.float32), "samples": np.zeros((4, 2), np.float32), "teacher": np.array(3)},
        "a text of at most 64 characters",
    ),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_bad_pairs_are_refused(name, tmp_path):
    arrays, message = BAD_PAIRS[name]
    np.savez(tmp_path / "pairs.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_pairs(tmp_path / "pairs.npz")


# --- a method of one's own ---


def test_a_method_of_ones_own_is_one_file(tmp_path):
    """The file of docs/extend.md, as it stands there: trained by itself, sampled where it is named."""
    page = (ROOT / "docs" / "extend.md").read_text()
    (code,) = re.findall(r'^```py title="mixed.py"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    assert code.count("\n") < 55
    (tmp_path / "mixed.py").write_text(code)
    tiny = ["--run.steps", "2", "--run.batch", "8", "--method.last", "20", "--sample.n", "1", "--log.no-tensorboard",
            "--parallel.devices", "1", "--torso.width", "4", "--torso.blocks", "1", "--head.width", "4",
            "--head.blocks", "1", "--sample.heun-steps", "2"]  # fmt: skip
    ended = call(tmp_path, "mixed.py", "toy-mixed", "--method.share", "0.3", "--run.dir", "run", *tiny)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method"]["share"] == 0.3
    refused = call(tmp_path, "mixed.py", "toy-mixed", "--method.share", "2", "--run.dir", "other")
    assert (refused.returncode, "method.share: expected a number in [0, 1], found 2" in refused.stderr) == (2, True)
    words = ["-m", "equisct", "sample", "run", "--n", "1", "--out", "a.npz"]
    named = tmp_path / "mixed-1.0.dist-info"
    named.mkdir()
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: mixed\nVersion: 1.0\n")
    (named / "entry_points.txt").write_text("[equisct_methods]\nmixed = mixed\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    drawn = call(tmp_path, *words, PYTHONPATH=paths)
    assert drawn.returncode == 0, drawn.stderr
    assert np.isfinite(np.load(tmp_path / "a.npz")["samples"]).all()
    shutil.rmtree(named)
    unknown = call(tmp_path, *words)
    assert (unknown.returncode, "found 'Mixed'; one of your own: put EQUISCT_METHODS" in unknown.stderr) == (2, True)
    told = re.findall(r"^draw more with (EQUISCT_METHODS=(.*)) \S*equisct-sample run$", ended.stdout, re.MULTILINE)
    assert told == [(f"EQUISCT_METHODS={tmp_path / 'mixed.py'}", str(tmp_path / "mixed.py"))]
    again = call(tmp_path, *words[:-1], "b.npz", EQUISCT_METHODS=told[0][1])
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["samples"], np.load(tmp_path / "b.npz")["samples"])
    wrong = call(tmp_path, *words, EQUISCT_METHODS="nothing.py")
    assert (wrong.returncode, "EQUISCT_METHODS: expected Python files that are there" in wrong.stderr) == (2, True)


OWN = '''
"""A method from scratch: the squared error of a denoiser, and how large its samples are."""

import dataclasses

import jax, jax.numpy as jnp, jax.random as jr
import equisct as sct
from equisct.app import methods, presets
from equisct.app.parts.models import denoising_model


def objective(model, batch, step, *, key):
    z = jr.normal(key, batch.shape)
    denoised = jax.vmap(lambda x, z: model(x + z, 1.0))(batch, z)
    loss = jnp.square(denoised - batch).mean()
    return loss, {"size": jnp.square(denoised).mean()}


@dataclasses.dataclass(frozen=True)
class Plain(methods.Method):
    """A denoiser at one level."""

    def build(self, config, shape):
        return methods.System(
            model=lambda key: denoising_model(config, shape, "edm", key=key),
            objective=lambda teacher, dataset: objective,
            samplers=lambda step: (sct.Heun((2.0, 1.0, 0.1)),),
        )


presets.PRESETS["plain"] = ("One level.", dataclasses.replace(presets.TOY, preset="plain", method=Plain()))
'''
EVERY_COMMAND = """
from equisct.app.cli import evaluate, sample, train
train.main("plain --run.dir run --run.steps 2 --run.batch 8 --sample.n 1 --log.no-tensorboard --log.every 1 "
           "--torso.width 4 --torso.blocks 1 --parallel.devices 1 --data.samples 64 --optim.no-decay".split())
train.main("resume run --run.steps 4".split())
sample.main("run --n 2 --out a.npz".split())
evaluate.main("model run --n 16 --features pixels --metrics frechet --out record.json".split())
"""
ALONE = "from equisct.app.cli import report; report.main(['run', '--n', '2', '--levels', '2'])"


def test_a_method_from_scratch_works_in_every_command_and_its_terms_are_drawn(tmp_path):
    (tmp_path / "plain.py").write_text(OWN)
    for words in (EVERY_COMMAND, ALONE):
        ended = call(tmp_path, "-c", words, EQUISCT_METHODS=str(tmp_path / "plain.py"))
        assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["size"] > 0 for row in rows)
    assert not {"consistency", "denoising"} & set(rows[0]), "zeros for parts that it does not have"
    assert json.loads((tmp_path / "record.json").read_text())["made"]["sampler"] == "heun-3"
    assert ">Size</" in (tmp_path / "run" / "report.html").read_text()


def call(folder, *words, **variables):
    """A process in a folder."""
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )


# --- the optimiser ---


def test_edms_average_is_short_at_first_and_reaches_back_half_a_million_images():
    edm = presets.PRESETS["cifar10-edm"][1]
    system = SMALL.method.build(SMALL, (2,))
    rule = build_recipe(dataclasses.replace(SMALL, ema=edm.ema), system, None).average
    assert rule == RampedDecay(0.99929, 0.05)
    np.testing.assert_allclose(0.5 ** (edm.run.batch / 500_000), 0.99929, atol=1e-5)
    for ema, expected in ((Ema(0.9), ConstantDecay(0.9)), (Ema(None, 0.05), PowerFunction.from_std(0.05))):
        assert build_recipe(dataclasses.replace(SMALL, ema=ema), system, None).average == expected


def test_the_papers_optimiser_and_average_at_both_ends():
    """Five updates of plain momentum, 0.0258 of a normalised one at the sixth; 9,902 updates ago counts half."""
    paper = presets.CIFAR
    optimiser, gradient = build_optimiser(paper.optim, paper.run.steps), jnp.array([3.0, -0.02])
    state = optimiser.init(jnp.zeros(2))
    for number in range(1, 7):
        update, state = optimiser.update(gradient, state)
        direction, rounding = (gradient, 1e-5) if number < 6 else (0.0258 * jnp.sign(gradient), 0.02)
        np.testing.assert_allclose(
            untyped(update), -1e-4 * direction, rtol=rounding
        )  # optax rectifies in float32: 1 % off here
    np.testing.assert_allclose(untyped(paper.ema.decay) ** 9902, 0.5, rtol=1e-4)


def test_the_preset_of_ect_samples_as_its_authors_do():
    """In two steps by 0.821; their noise there is 0.821 z, which ours is to 3e-6."""
    ect = presets.PRESETS["cifar10-ect"][1]
    _, two = ect.method.build(ect, (2,)).samplers(0)
    assert isinstance(two, sct.Multistep)
    assert two.levels == (80.0, 0.821)
    np.testing.assert_allclose(two.renoise(0.821, two.sigma_min), sct.renoise_full(0.821, 0.002), rtol=4e-6)
    assert not untyped(ect.data).flip


def test_a_restarted_optimiser_is_a_fresh_one():
    """From each restart on, the updates are those of a run of its own; before, those of the plain optimiser."""
    gradients = [jnp.array([float(i), -1.0]) for i in range(1, 7)]

    def updates(optimiser, gradients):
        state, found = optimiser.init(gradients[0]), []
        for gradient in gradients:
            update, state = optimiser.update(gradient, state)
            found.append(update)
        return np.array(found)

    adam = optax.scale_by_adam()
    found = updates(restarting(adam, (2, 5)), gradients)
    expected = np.concatenate([updates(adam, part) for part in (gradients[:2], gradients[2:5], gradients[5:])])
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="at: expected a finite number >= 1, found 0"):
        restarting(adam, (0,))


def test_the_rate_falls_to_zero_in_each_stage():
    optimiser = build_optimiser(Optim("adam", lr=1.0, b1=0.0, b2=0.0, decay=True), 8, (4,))
    state, found = optimiser.init(jnp.ones(1)), []
    for _ in range(8):
        update, state = optimiser.update(jnp.ones(1), state)
        found.append(-float(untyped(update)[0]))
    np.testing.assert_allclose(found, [1, 0.75, 0.5, 0.25] * 2, rtol=FLOAT32_ROUNDING)


def test_transplant_keeps_what_is_no_array(edm):
    teacher = load_run(edm).ema
    fresh = methods.EDM().build(SMALL, (2,)).model(jr.key(3))
    moved = transplant(fresh, teacher)
    assert weights_hash(moved) == weights_hash(teacher)
    assert weights_hash(fresh) != weights_hash(teacher)

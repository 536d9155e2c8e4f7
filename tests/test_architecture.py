"""The house, held by tests: layers, modules abstract or final, small files, quick imports, checked calls."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import equisct as sct
from catalogue import BOUNDARY, mlp_pair
from equisct import nn, train
from equisct.objectives import slots
from strategies import untyped

ROOT = pathlib.Path(__file__).parent.parent
SOURCE = ROOT / "src" / "equisct"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}

LAYERS = [
    {"_base"},
    {
        "augmentation",
        "diffusion",
        "discretization",
        "curriculum",
        "preconditioning",
        "distance",
        "oracle",
        "nn",
        "variance_preserving",
    },
    {"guidance", "level_sampling", "likelihood", "weighting", "model", "pf_ode"},
    {"losses", "samplers"},
    {"objectives"},
    {"diagnostics", "data", "train", "evaluation"},
    {"app/report", "app/tracking"},
    {"app/settings"},
    {"app/parts"},
    {"app/methods"},
    {"app/presets"},
    {"app/runs"},
    {"app/cli", "__main__"},
]
"""Files and packages, from the bottom up; inside a package everything may see everything."""

SIDEWAYS = {
    ("__main__", "app/cli"),
    ("oracle", "diffusion"),
    ("preconditioning", "variance_preserving"),
}
"""Every import within a layer: a new one is an entry here, with the review that this asks for."""

NOT_CORE = {"data", "train", "evaluation"}
HEAVY = {"optax", "tyro", "tqdm", "sklearn", "matplotlib", "PIL", "safetensors"}


# --- layers ---


def unit(path: pathlib.Path) -> str:
    """The file or package of the table that a source file belongs to."""
    return unit_of(path.relative_to(SOURCE).with_suffix("").parts)


def unit_of(parts: tuple[str, ...]) -> str:
    return "/".join(parts[: 2 if parts[0] == "app" else 1])


def imported(path: pathlib.Path) -> set[str]:
    """The units that a source file imports, itself excluded."""
    package = path.relative_to(SOURCE).parts[:-1]
    units = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            module = tuple(node.module.split(".")) if node.module else ()
            units |= {unit_of(above + module + (alias.name,)) for alias in node.names}
    return units - {unit(path)}


def test_every_file_has_its_layer():
    placed = [name for layer in LAYERS for name in layer]
    assert sorted(placed) == sorted({unit(path) for path in FILES} - {"__init__", "app/__init__"})


def test_imports_point_down():
    layer = {name: i for i, names in enumerate(LAYERS) for name in names}
    edges = {(unit(path), name) for path in FILES if path != SOURCE / "__init__.py" for name in imported(path)}
    assert edges, "no import found: the test is blind"
    assert {(a, b) for a, b in edges if layer[a] < layer[b]} == set()
    assert {(a, b) for a, b in edges if layer[a] == layer[b]} == SIDEWAYS


def test_package_is_imported_relatively():
    for path, tree in TREES.items():
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        assert {name for name in names if name.split(".")[0] == "equisct"} == set(), path


def test_no_import_hides_in_a_string():
    """So that the tests above, and a type checker, see every arrow."""
    for path, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        named = [ast.unparse(call) for call in calls if ast.unparse(call.func).endswith("import_module")]
        assert not [call for call in named if "equisct" in call or "('." in call], path


# --- files and code ---


def test_no_file_is_long():
    assert {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 300} == {}


def test_no_super_and_no_hasattr():
    found = {
        (path.name, node.lineno, node.id)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in ("hasattr", "super")
    }
    # An exception that is no module fills in its message: the one place where `super()` is Python's own idiom.
    assert {entry for entry in found if (entry[0], entry[2]) != ("errors.py", "super")} == set()
    assert len(found) <= 1


def path_strings(node: ast.AST) -> list[str]:
    """The strings at a node that are surely paths: with a slash, an operand of `/`, or the name of a file."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and "/" in node.value else []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        parts = node.args if name in ("Path", "PurePath", "open", "join", "joinpath", "load", "glob") else []
    else:
        return []
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


EVERYTHING = [path for folder in ("src", "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_annotations_are_evaluated_and_no_outside_folder_is_read():
    outside = "".join(["sha", "red"])
    for path in EVERYTHING:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        futures = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        assert futures == [], f"{path}: jaxtyping needs annotations that are objects, not strings"
        paths = [text for node in nodes for text in path_strings(node)]
        assert [text for text in paths if outside in text.split("/")] == [], path


def any_in_signatures(path: pathlib.Path) -> list[str]:
    """Parameters and returns of a file that are annotated by `Any` alone."""
    found = []
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            asked = [each for each in ast.walk(node.args) if isinstance(each, ast.arg)]
            pairs = [*((each.arg, each.annotation) for each in asked), ("return", node.returns)]
            found += [f"{path.name}:{node.name}:{name}" for name, annotation in pairs
                      if annotation is not None and ast.unparse(annotation).split(".")[-1] == "Any"]  # fmt: skip
    return found


def test_few_signatures_of_the_library_take_or_give_anything():
    found = [name for path in FILES if not unit(path).startswith("app") for name in any_in_signatures(path)]
    assert len(found) < 20, found
    assert any(any_in_signatures(path) for path in FILES), "none found anywhere: the test is blind"


def test_every_rule_that_is_waived_says_why():
    waived = [(path.name, found) for path in EVERYTHING
              for found in re.findall(r"# (?:ruff: )?noqa(.*)", path.read_text())]  # fmt: skip
    assert waived, "none found: the test is blind"
    assert [each for each in waived if not re.fullmatch(r": [A-Z]+[0-9]+(, [A-Z]+[0-9]+)*  ?\(.+\)", each[1])] == []


# --- modules: abstract or final ---


def bases() -> dict[str, list[str]]:
    """Class -> its bases, by their last name, for every class of the package."""
    classes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert len({node.name for node in classes}) == len(classes), "two classes of one name"
    return {node.name: [ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases] for node in classes}


def modules() -> dict[str, list[str]]:
    """The same, for the descendants of `eqx.Module` alone."""
    every = bases()

    def descends(name: str) -> bool:
        return name == "Module" or any(descends(base) for base in every.get(name, []))

    return {name: of for name, of in every.items() if descends(name)}


def test_modules_are_abstract_or_final():
    found = modules()
    parents = {base for of in found.values() for base in of if base != "Module"}
    assert len(found) > 40, "too few modules found: the test is blind"
    assert {name for name in parents if not name.startswith("Abstract")} == set(), "a final module has a subclass"
    assert {name for name in found if name.startswith("Abstract")} == parents, "an interface that nothing implements"


def test_abstract_modules_cannot_be_built_and_only_they_have_abstract_methods():
    homes = [importlib.import_module("equisct." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
             for path in FILES if path.name != "__init__.py"]  # fmt: skip
    classes = {name: value for home in homes for name, value in vars(home).items()
               if inspect.isclass(value) and value.__module__ == home.__name__}  # fmt: skip
    for name in modules():
        assert inspect.isabstract(classes[name]) == name.startswith("Abstract"), name
        if name.startswith("Abstract"):
            with pytest.raises(TypeError, match="abstract"):
                classes[name]()


# --- public names ---


def public_names() -> set[str]:
    return set(dir(sct))


def test_stub_and_modules_agree():
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    assert stub.body, "an empty stub"
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert [ast.unparse(node) for node in stub.body if node not in imports] == ["__version__: str"]
    for node in imports:
        assert node.level == 1
        home = importlib.import_module("." + (node.module or ""), "equisct") if node.module else sct
        for alias in node.names:
            assert alias.asname == alias.name, "`X as X`: one public home per name"
            assert getattr(sct, alias.name) is getattr(home, alias.name), alias.name
    assert public_names() == {alias.name for node in imports for alias in node.names}
    with pytest.raises(AttributeError, match="nonsense"):
        untyped(sct).nonsense  # noqa: B018  (that it raises is the test)


def test_core_needs_none_of_the_extras():
    core = sorted(public_names() - NOT_CORE)
    code = (
        f"import sys, equisct\nfor name in {core}: getattr(equisct, name)\nprint(sorted(sys.modules.keys() & {HEAVY}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "without", "code"),
    [("app.cli.train", "tyro", 2), ("app.cli.sample", "filelock", 2), ("train", "orbax", 1)],
)
def test_a_core_install_says_what_is_missing(module, without, code):
    words = f"import sys; sys.modules['{without}'] = None; import equisct.{module}"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    last = found.stderr.strip().splitlines()[-1]
    assert (found.returncode, "pip install" in last, "[train]" in last) == (code, True, True), found.stderr
    assert ("Traceback" in found.stderr) == (code == 1)


# --- every public function checks its arguments ---

KEY = jr.key(0)
X, Y, WHOLE = jnp.ones(2), jnp.ones(3), jnp.ones(2, int)
TWO = jnp.array([1.0, 2.0])
CURRICULUM = sct.Constant(3)
OBJECTIVE = sct.ScoreGuidedTraining(curriculum=CURRICULUM)
RECIPE = train.Recipe(OBJECTIVE, optax.sgd(1e-3))
MODEL = mlp_pair()
ORACLE = sct.oracle.Gaussian(shape=(2,))
LAYERS_OF_A_STACK = jnp.ones((2, 2, 1, 1))


def identity(x_t, sigma):
    return x_t


DRAW = slots.Draw(X, X, sct.LevelPair.from_levels(2.0, 1.0), slots.Keys(KEY, KEY, KEY, KEY, KEY))
HALVING = sct.Halving(4, starts=(0, 1, 2))

WRONG_CALLS = {
    "ancestral": lambda: sct.ancestral(identity, WHOLE, key=KEY),
    "bin_edges": lambda: sct.bin_edges(TWO, 80.0),
    "collect_terms": lambda: sct.collect_terms(untyped(3)),
    "ConsistencyDistillation": lambda: sct.ConsistencyDistillation(denoise=identity, curriculum=untyped(3)),
    "count_evaluations": lambda: sct.count_evaluations(untyped(3)),
    "ddim": lambda: sct.ddim(identity, X, times=untyped(np.ones(2))),
    "DDPMTraining": lambda: sct.DDPMTraining(schedule=untyped(3)),
    "EasyConsistencyTuning": lambda: sct.EasyConsistencyTuning(curriculum=untyped(3)),
    "EDMTraining": lambda: sct.EDMTraining(law=untyped(3)),
    "gradient_statistics": lambda: sct.gradient_statistics(OBJECTIVE, MODEL, [TWO], key=untyped(3)),
    "head_velocity": lambda: sct.head_velocity(MODEL, DRAW, untyped(3)),
    "heun_correction": lambda: sct.heun_correction(identity, X, untyped(3)),
    "flow_residual": lambda: sct.flow_residual(identity, X, Y, 1.0),
    "score_from_endpoint": lambda: sct.score_from_endpoint(identity, X, TWO),
    "measure_denoiser": lambda: sct.measure_denoiser(identity, ORACLE, jnp.ones(()), samples=2, key=KEY),
    "measure_endpoint_score": lambda: sct.measure_endpoint_score(identity, untyped(X), TWO, samples=2, key=KEY),
    "measure_excess_alignment": lambda: sct.measure_excess_alignment(
        identity, identity, ORACLE, jnp.ones(()), sigma_min=0.002, samples=2, key=KEY
    ),
    "measure_flow_map": lambda: sct.measure_flow_map(
        identity, ORACLE, TWO, sigma_min=0.002, quantiles=untyped(0.9), samples=2, key=KEY
    ),
    "measure_residual": lambda: sct.measure_residual(identity, ORACLE, TWO, denoise=untyped(3), samples=2, key=KEY),
    "measure_self_consistency": lambda: sct.measure_self_consistency(
        identity, ORACLE, TWO, sigma_min=0.002, samples=untyped(2.5), key=KEY
    ),
    "measure_support": lambda: sct.measure_support(untyped(ORACLE), jnp.ones(1), samples=2, key=KEY),
    "noise_law": lambda: sct.noise_law(identity, identity, X, TWO),
    "optimal_transport": lambda: sct.optimal_transport(WHOLE, TWO),
    "one_sample_velocity": lambda: sct.one_sample_velocity(MODEL, DRAW, untyped(3)),
    "OriginalConsistencyTraining": lambda: sct.OriginalConsistencyTraining(curriculum=untyped(CURRICULUM)),
    "same_weights": lambda: sct.same_weights(untyped(3)),
    "search_levels": lambda: sct.search_levels(sum, np.ones((2, 2)), 1),
    "straight_step": lambda: sct.straight_step(identity, X, untyped(3)),
    "teacher_head_velocity": lambda: sct.teacher_head_velocity(MODEL, DRAW, untyped(3)),
    "teacher_weights": lambda: sct.teacher_weights(sct.WithTeacher(3, 3)),
    "nn.ddpm": lambda: nn.ddpm(width=untyped(8.5), key=KEY),
    "consistency_loss": lambda: sct.consistency_loss(X, Y, jnp.ones(()), sct.L1()),
    "ConsistencyTraining": lambda: sct.ConsistencyTraining(curriculum=untyped(3)),
    "denoised_from_score": lambda: sct.denoised_from_score(X, Y, 1.0),
    "denoising_loss": lambda: sct.denoising_loss(X, X, TWO),
    "encode": lambda: sct.encode(identity, WHOLE),
    "euler": lambda: sct.euler(identity, X, levels=jnp.ones((2, 2))),
    "euler_step": lambda: sct.euler_step(X, Y, 2.0, 1.0),
    "guided": lambda: sct.guided(identity, identity, untyped("strong")),
    "classifier_guided": lambda: sct.classifier_guided(untyped(3), identity),
    "heun": lambda: sct.heun(identity, WHOLE),
    "heun_step": lambda: sct.heun_step(identity, X, TWO, 1.0),
    "in_precision": lambda: sct.in_precision(MODEL, untyped(3)),
    "independent": lambda: sct.independent(untyped(2.5), key=KEY),
    "karras_grid": lambda: sct.karras_grid(untyped(2.5)),
    "measure_agreement": lambda: sct.measure_agreement(
        MODEL, ORACLE, jnp.ones(()), samples=2, sigma_min=0.002, key=KEY
    ),
    "measure_alignment": lambda: sct.measure_alignment(identity, identity, X, jnp.ones(()), centre=X, key=KEY),
    "multistep": lambda: sct.multistep(identity, X, jnp.ones((1, 1)), key=KEY),
    "one_step": lambda: sct.one_step(identity, WHOLE),
    "log_likelihood": lambda: sct.log_likelihood(identity, WHOLE),
    "bits_per_dimension": lambda: sct.bits_per_dimension(untyped("many"), 4),
    "perturb": lambda: sct.perturb(X, Y, 1.0),
    "pf_drift": lambda: sct.pf_drift(X, X, TWO),
    "pf_ode_path": lambda: sct.pf_ode_path(identity, X, jnp.ones(())),
    "population_optimum": lambda: sct.population_optimum(untyped(ORACLE), TWO),
    "precondition": lambda: sct.precondition(BOUNDARY.scalings(1.0), X, Y),
    "renoise_full": lambda: sct.renoise_full(TWO, 0.002),
    "renoise_to_level": lambda: sct.renoise_to_level(TWO, 0.002),
    "score_from_denoised": lambda: sct.score_from_denoised(X, Y, 1.0),
    "ScoreGuidedTraining": lambda: sct.ScoreGuidedTraining(curriculum=CURRICULUM, distance=untyped(abs)),
    "solve_pf_ode": lambda: sct.solve_pf_ode(identity, X, TWO, 1.0),
    "descending_levels": lambda: sct.descending_levels(untyped(3)),
    "stratified": lambda: sct.stratified(untyped(2.5), key=KEY),
    "trigflow_tangent": lambda: sct.trigflow_tangent(identity, X, Y, 1.0),
    "nn.conv2d": lambda: nn.conv2d(jnp.ones((4, 4, 3)), LAYERS_OF_A_STACK, padding=0),
    "nn.ddpmpp": lambda: nn.ddpmpp(width=untyped(8.5), key=KEY),
    "nn.ncsnpp": lambda: nn.ncsnpp(multipliers=untyped((1.5,)), key=KEY),
    "train.compile_step": lambda: train.compile_step(RECIPE, untyped(MODEL), jnp.ones((2, 2)), KEY),
    "train.data_mesh": lambda: train.data_mesh(untyped(1.5)),
    "train.fit": lambda: list(train.fit(untyped(OBJECTIVE), untyped(None), [], key=KEY, steps=1)),
    "train.init_state": lambda: train.init_state(untyped(OBJECTIVE), MODEL),
    "train.load_weights": lambda: train.load_weights(untyped(3), MODEL),
    "train.read_checkpoint": lambda: train.read_checkpoint(untyped(3), MODEL),
    "train.reconstruct": lambda: train.reconstruct("folder", MODEL, untyped(0.1)),
    "train.restarting": lambda: train.restarting(untyped(3), (1,)),
    "train.save_snapshot": lambda: train.save_snapshot("folder", [MODEL], untyped([0.1]), 1),
    "train.save_weights": lambda: train.save_weights(untyped(3), model=MODEL, ema=MODEL),
    "train.train_step": lambda: train.train_step(RECIPE, untyped(MODEL), jnp.ones((2, 2)), KEY),
}

TAKES_ANYTHING = {"count", "cut", "trainable"}
"""Verbs on any pytree."""


def is_function(value: object) -> bool:
    return inspect.isfunction(inspect.unwrap(untyped(value)))


def test_table_of_wrong_calls_is_complete():
    core = {name for name in public_names() if is_function(getattr(sct, name))}
    inner = {f"{home}.{name}" for home, module in (("nn", nn), ("train", train))
             for name, value in vars(module).items() if is_function(value)}  # fmt: skip
    assert (core - TAKES_ANYTHING) | inner == set(WRONG_CALLS)


@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
def test_wrong_call_is_refused(call):
    with pytest.raises(TypeError, match=r"(?i)type-?check|beartype|violates"):
        call()


def test_the_message_about_a_large_model_fits_a_screen():
    """The argument, what was found and what was expected come first; a U-Net is one line of the rest."""
    unet = eqx.filter_eval_shape(nn.ncsnpp, key=KEY)
    body = f"UNetBody(3 resolutions, {sct.count(unet.body):,} parameters)"
    assert body in repr(unet)
    assert "ResidualBlock(" in repr(unet.body.encoder)
    with pytest.raises(TypeError) as refused:
        OBJECTIVE(sct.ConsistencyModel(unet, BOUNDARY), jnp.ones((2, 3, 32, 32)), untyped(0.5), key=KEY)
    assert str(refused.value).splitlines() == [
        "step: expected one whole number, found 0.5",
        "(type-check of equisct.objectives.terms.AbstractSplitObjective.__call__)",
    ]
    state = train.init_state(RECIPE, MODEL)
    assert repr(state) == f"TrainState(step=0, {sct.count(MODEL):,} parameters)"


def unet(x):
    return nn.ncsnpp(channels=1, resolution=8, width=4, multipliers=(1, 1), blocks=1, attention=(), key=KEY)(x, 1.0)


WIDER = sct.ScoreGuidedModel(MODEL.cm, sct.ScoreHead(nn.HeadMLP(2, 8, torso_width=9, key=KEY), BOUNDARY))
WRONG_VALUES = {
    "level 0": (lambda: MODEL.denoise(X, 0.0), "sigma: expected finite numbers > 0, found 0.0"),
    "level below 0": (lambda: MODEL.score(X, -1.0), "sigma: expected finite numbers > 0, found -1.0"),
    "another size": (lambda: MODEL.endpoint(Y, 2.0), "x: expected shape (2,), the network's size, found (3,)"),
    "another torso": (
        lambda: WIDER.denoise(X, 1.0), "features: expected shape (9,), the network's torso_width, found (8,)"
    ),
    "other channels": (
        lambda: unet(jnp.ones((3, 8, 8))), "x: expected shape (1, h, w), h and w multiples of 2, found (3, 8, 8)"
    ),
    "cannot be halved": (lambda: unet(jnp.ones((1, 8, 7))), "multiples of 2, found (1, 8, 7)"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_value_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


WRONG_METHODS = {
    "PseudoHuber": lambda: sct.PseudoHuber()(X, Y),
    "LevelPair": lambda: sct.LevelPair(TWO, 1.0, 1.0),
    "Readout": lambda: sct.Readout(X, X, jnp.ones((2, 2))),
    "InverseGap": lambda: sct.InverseGap()(untyped(1.0)),
    "BoundaryPreconditioning": lambda: BOUNDARY.scalings(TWO),
    "ConsistencyModel": lambda: MODEL.cm(X, TWO),
    "ScoreGuidedModel": lambda: MODEL.endpoint(jnp.ones((2,), int), 1.0),
    "ScoreGuided": lambda: OBJECTIVE(MODEL, jnp.ones(2, int), 0, key=KEY),
    "Gaussian": lambda: ORACLE.transport(X, TWO, 1.0),
    "Recipe": lambda: train.Recipe(OBJECTIVE, untyped("sgd")),
    "DenoisingModel": lambda: sct.DenoisingModel(MODEL.cm.torso, BOUNDARY)(X, TWO),
    "Denoising": lambda: sct.EDMTraining()(identity, jnp.ones(2, int), 0, key=KEY),
    "ProgressiveDistillation": lambda: sct.ProgressiveDistillation.from_curriculum(HALVING)(
        untyped(MODEL), jnp.ones((2, 2)), 0, key=KEY
    ),
    "KnowledgeDistillation": lambda: sct.KnowledgeDistillation()(identity, jnp.ones(2, int), 0, key=KEY),
    "ShrinkingPairs": lambda: sct.ShrinkingPairs(CURRICULUM).draw(0, TWO),
    "VPSchedule": lambda: sct.VPSchedule().time_at(TWO),
}


@pytest.mark.parametrize("call", WRONG_METHODS.values(), ids=WRONG_METHODS.keys())
def test_wrong_method_call_is_refused(call):
    with pytest.raises(TypeError, match=r"(?i)type-?check|beartype|violates"):
        call()

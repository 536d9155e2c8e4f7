"""The documentation is true: its code runs, its commands parse, its names and links exist, and every name has words.

An HTML comment `<!-- test: ... -->` on a page is code that runs before the next block, in the same namespace: it gives
what the block leaves open, such as data. Blocks of one page share a namespace, from the top to the bottom.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import pathlib
import re
import shlex
import sys
import types
import typing

import equinox as eqx
import jax
import pytest

import equisct as sct
from equisct import data, nn, oracle, train
from equisct.app import tracking
from equisct.app.cli import data as data_command
from equisct.app.cli import evaluate, report, sample
from equisct.app.cli import train as train_command
from equisct.app.presets import PRESETS
from equisct.app.settings import codec, config
from equisct.app.settings import data as data_settings
from equisct.app.settings.codec import to_json
from strategies import untyped

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]

COMMENT = re.compile(r"^<!-- test:(?P<code>.*?)-->$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```$", re.DOTALL | re.MULTILINE)


def each_page(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)(test)


def code_of(page: pathlib.Path) -> list[tuple[int, str]]:
    """The line and the text of everything on a page that runs, hidden or not, in order."""
    text = page.read_text()
    pieces = [m for m in FENCE.finditer(text) if m["language"] == "python"] + list(COMMENT.finditer(text))
    pieces.sort(key=re.Match.start)
    return [(text.count("\n", 0, piece.start("code")), inspect.cleandoc("\n" + piece["code"])) for piece in pieces]


def prose_of(page: pathlib.Path) -> str:
    """The text of a page outside its fences."""
    return FENCE.sub("", page.read_text())


# --- code and commands ---


@each_page
def test_code_runs_as_written(page, monkeypatch, tmp_path):
    module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for line, code in code_of(page):
        exec(compile("\n" * line + code, str(page), "exec"), vars(module))


def test_hidden_code_and_blocks_are_found_in_order(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n<!-- test:\na = 1\n-->\n```python\nb = a\n```\n\n```text\nno\n```\n<!-- test: c = b -->\n"
    )
    assert [code.strip() for _, code in code_of(page)] == ["a = 1", "b = a", "c = b"]
    assert [line for line, _ in code_of(page)] == [2, 6, 12]


@each_page
def test_commands_are_understood(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in {"runs/digits", *re.findall(r"\bruns/[\w-]+", page.read_text())}:  # for resume, from-config, reports
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(to_json(PRESETS["digits"][1])))
    for name in ("pt_inception-2015-12-05-6726825d.pth", "dinov2_vitl14_pretrain.pth"):
        (tmp_path / name).touch()
    for block in FENCE.finditer(page.read_text()):
        for line in block["code"].splitlines() if block["language"] in ("bash", "console", "sh") else ():
            words = itertools.dropwhile(lambda word: "=" in word, shlex.split(line, comments=True))
            program, *arguments = *words, ""
            arguments = arguments[:-1]
            if program == "equisct-train":
                train_command.parse(arguments)
            if program == "equisct-sample":
                sample.parse(arguments)
            if program == "equisct-data":
                data_command.parse(arguments)
            if program == "equisct-eval":
                evaluate.parse(arguments)
            if program == "equisct-report":
                report.parse(arguments)


def flags() -> set[str]:
    def of(group: str, cls: object) -> set[str]:
        return (
            {f"{group}.{field.name}" for field in dataclasses.fields(untyped(cls))} if inspect.isclass(cls) else set()
        )

    groups = [of(field.name, field.default_factory) for field in dataclasses.fields(config.Config)]
    methods = (of("method", kind) for kind in codec.kinds(config.Method).values())
    return set().union(*groups, *methods, *(of("data", kind) for kind in typing.get_args(data_settings.Data)))


@each_page
def test_flags_exist(page):
    named = re.findall(r"--([a-z]+\.)(?:no-)?([a-z0-9-]+)", page.read_text())
    assert {group + name for group, name in named if group + name.replace("-", "_") not in flags()} == set()


@each_page
def test_names_in_the_text_exist(page):
    for name in re.findall(r"`(?:sct|equisct)\.([A-Za-z_][\w.]*)", prose_of(page)):
        value = sct
        for part in name.split("."):
            if inspect.ismodule(value) and not hasattr(value, part):
                value = importlib.import_module(f"{value.__name__}.{part}")
            elif part in getattr(value, "__annotations__", {}):
                break
            else:
                value = getattr(value, part)


def test_table_of_presets_is_that_of_the_presets():
    text = (ROOT / "docs" / "train.md").read_text()
    sizes = {
        data_settings.Digits: (1, 8, 8),
        data_settings.IDX: (1, 28, 28),
        data_settings.Mixture: (2,),
        data_settings.CIFAR10: (3, 32, 32),
    }
    sizes |= dict.fromkeys((data_settings.ImageFiles, data_settings.ArrayRecord), (3, 32, 32))
    for name, (_, preset) in PRESETS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert f"| {preset.run.steps:,} x {preset.run.batch:,} |" in row
        first, last = (getattr(preset.method, name, None) for name in ("first", "last"))
        assert ("| - |" if first is None else f"| {first:,} to {last:,} |") in row
        if type(preset.data) in sizes:
            system = preset.method.build(preset, sizes[type(preset.data)])
            model = untyped(eqx.filter_eval_shape(system.model, jax.random.key(0)))
            parts = [model.cm, model.head] if isinstance(model, sct.ScoreGuidedModel) else [model]
            assert f"| {' + '.join(f'{sct.count(part):,}' for part in parts)} |" in row


@each_page
def test_arguments_in_the_text_exist(page):
    for name, arguments in re.findall(r"`(?:\w+\.)*(\w+)\(([^`]*)\)`", prose_of(page)):
        values = [value for full, value in PUBLIC.items() if full.split(".")[-1] == name]
        for value in values[:1]:
            known = inspect.signature(untyped(value)).parameters
            assert {word for word in re.findall(r"(\w+)=", arguments) if word not in known} == set(), name


# --- links ---


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


# --- what must not be in any file ---

FOREIGN_PATH = re.compile(r"(?<![\w.~/:-])/(?:" + "|".join(["root", "work", "home", "tmp"]) + r")(?![\w.-])")
INDEX_HOST = re.compile(r"\b(?:" + "|".join(["py" + r"pi\.org", r"python" + r"hosted\.org"]) + r")\b", re.IGNORECASE)

HOSTILE = {("test_data_cifar10.py", "/" + "tmp")}
"""Absolute names inside archives that the readers must refuse; nothing is opened there."""


def text_files() -> list[tuple[pathlib.Path, str]]:
    """Every text file of the project: its top level and its folders, without caches and environments."""
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "docs", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    found = []
    for path in [*ROOT.iterdir(), *files]:
        try:
            found += [(path, path.read_text(encoding="utf-8"))] if path.is_file() else []
        except UnicodeDecodeError:
            continue
    return found


def test_no_machine_path_and_no_index_host():
    files = text_files()
    assert {path.name for path, _ in files} >= {"pyproject.toml", "__init__.py", "test_documentation.py", "run"}
    for path, text in files:
        for pattern in (FOREIGN_PATH, INDEX_HOST):
            for found in pattern.finditer(text):
                where = f"{path}: line {text.count(chr(10), 0, found.start()) + 1}: {found.group()}"
                assert (path.name, found.group()) in HOSTILE, where


def test_patterns_see_what_they_should():
    assert FOREIGN_PATH.search("open('/" + "tmp/x')")
    assert FOREIGN_PATH.search("in /" + "work")
    assert not FOREIGN_PATH.search("https://host/home/x and a/tmp/b and /workshop")
    assert INDEX_HOST.search("https://py" + "pi.org/simple")


# --- docstrings ---


def has_words(value: object, name: str) -> bool:
    """Whether there is a docstring, and not the one that `dataclasses` makes up."""
    return bool(value.__doc__) and not str(value.__doc__).startswith((f"{name}(", "Create a collection"))


def explained_aliases(module: types.ModuleType) -> set[str]:
    """The assignments of a file that a string follows."""
    body = ast.parse(inspect.getsource(module)).body
    pairs = zip(body, body[1:], strict=False)
    is_text = lambda node: isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return {ast.unparse(a.target) for a, b in pairs if isinstance(a, ast.AnnAssign) and is_text(b)}


PUBLIC = {name: getattr(sct, name) for name in dir(sct)} | {
    f"{home.__name__.split('.')[-1]}.{name}": value
    for home in (nn, oracle, data, tracking, train)
    for name, value in vars(home).items()
    if not (name.startswith("_") or inspect.ismodule(value))
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_a_docstring(name):
    value, last = PUBLIC[name], name.split(".")[-1]
    if not (inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value))):
        assert last in explained_aliases(nn.interface), f"{name}: an alias without a string under it"
        return
    assert has_words(value, last), name
    if inspect.isclass(value):
        methods = {key: method for key, method in vars(value).items() if not key.startswith("_")}
        for key, method in methods.items():
            function = getattr(method, "__func__", getattr(method, "fget", getattr(method, "method", method)))
            if inspect.isfunction(inspect.unwrap(function)):
                assert has_words(function, key), f"{name}.{key}"


def test_every_module_says_what_lives_in_it():
    for path in sorted((ROOT / "src").rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), path

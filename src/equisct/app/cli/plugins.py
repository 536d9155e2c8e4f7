"""Methods from elsewhere: files that `EQUISCT_METHODS` names, and entry points of the group `equisct_methods`."""

import importlib.machinery
import importlib.metadata
import os
import pathlib
import shlex
import sys
import types

GROUP, VARIABLE = "equisct_methods", "EQUISCT_METHODS"


def load_plugins() -> None:
    """Imports the modules that installed packages name, and the files in the variable, separated as those of `PATH`.

    Each registers its methods and presets by being imported.

    Raises:
        ValueError: if the variable names what is no file of Python.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()
    for path in map(pathlib.Path, filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))):
        _import_file(path)


def _import_file(path: pathlib.Path) -> None:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{VARIABLE}: expected Python files that are there, found {path}")
    name = f"{GROUP}_{path.stem}"  # a file may be called as a module of Python's own
    if path.resolve() in {_file_of(each) for each in ("__main__", path.stem, name)}:
        return
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    loader.exec_module(module)


def _file_of(module: str) -> pathlib.Path | None:
    found = getattr(sys.modules.get(module), "__file__", None)
    return pathlib.Path(found).resolve() if found else None


def words_before(method: object) -> str:
    """What must stand before a command that meets this method again; nothing for one of the library or a package."""
    module = type(method).__module__
    named = {entry.module for entry in importlib.metadata.entry_points(group=GROUP)}
    file = None if module.startswith("equisct.") or module in named else _file_of(module)
    return f"{VARIABLE}={shlex.quote(str(file))} " if file else ""

"""Methods from elsewhere: files that `EQUISCT_METHODS` names, and entry points of the group `equisct_methods`."""

import importlib.machinery
import importlib.metadata
import os
import pathlib
import shlex
import sys
import types

from ..._base.files import as_path

GROUP, VARIABLE = "equisct_methods", "EQUISCT_METHODS"


def load_plugins() -> None:
    """Imports the modules that installed packages name, and the files in the variable, separated as those of `PATH`.

    Each registers its methods and presets by being imported.

    Raises:
        ValueError: if the variable names what is no file of Python.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()
    for path in _named_files():
        _import_file(path)


def _named_files() -> list[pathlib.Path]:
    return [as_path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


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


def words_before(*own: object) -> str:
    """What must stand before a command that meets these methods and actions, and all else that was named so, again.

    Nothing where they are of the library or a package, and the variable names no file.
    """
    packaged = {entry.module for entry in importlib.metadata.entry_points(group=GROUP)}
    modules = {each.__module__ for each in own if not each.__module__.startswith("equisct.")} - packaged
    files = [*_named_files(), *filter(None, map(_file_of, sorted(modules)))]
    names = dict.fromkeys(str(path.resolve()) for path in files)
    return f"{VARIABLE}={shlex.quote(os.pathsep.join(names))} " if names else ""

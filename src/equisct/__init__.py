"""equisct: score-guided consistency training in Equinox.

Every public name is listed once, with its home, in `__init__.pyi`; it is imported at first use, so that
`import equisct` is quick and needs nothing but the core dependencies. Every module but those that commands are made
of (`cli`, `runs`, `assembly`, `settings`, `data`, `tracking`) is checked by jaxtyping and beartype while tracing;
`JAXTYPING_DISABLE=1` switches that off.
"""

import ast as _ast
import importlib as _importlib
import pathlib as _pathlib
import pkgutil as _pkgutil
from typing import Any as _Any

from jaxtyping import install_import_hook as _install_import_hook

# jaxtyping's decorator imports JAX, and a command must understand its arguments and data before that.
_UNCHECKED = {"__main__", "_beartype", "_check", "_replace", "_version"}
_UNCHECKED |= {"assembly", "cli", "data", "runs", "settings", "tracking"}
_CHECKED = [f"equisct.{module.name}" for module in _pkgutil.iter_modules(__path__) if module.name not in _UNCHECKED]

_importlib.import_module("._beartype", __name__)
_install_import_hook(_CHECKED, "equisct._beartype.checked")


def _homes() -> dict[str, str | None]:
    """Public name -> module that defines it (None: the name is itself a module), read from the stub."""
    stub = _ast.parse(_pathlib.Path(__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, _ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}


_HOME = _homes()


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module 'equisct' has no attribute {name!r}")
    home = _HOME[name]
    module = _importlib.import_module(f".{home or name}", __name__)
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)

"""equisct: score-guided consistency training in Equinox.

Every public name is listed once, with its home, in `__init__.pyi`; it is imported at first use, so that
`import equisct` is quick and needs nothing but the core dependencies. Every module but those that commands are made of
(`app`, `data`) is checked by jaxtyping and beartype while tracing; `JAXTYPING_DISABLE=1` switches that off.
"""

import pkgutil as _pkgutil

import lazy_loader as _lazy
from jaxtyping import install_import_hook as _install_import_hook

from ._base import typecheck as _typecheck

__version__ = "0.1.0"

# jaxtyping's decorator imports JAX, and a command must understand its arguments and data before that.
_UNCHECKED = {"__main__", "_base", "app", "data"}
_CHECKED = [f"equisct.{module.name}" for module in _pkgutil.iter_modules(__path__) if module.name not in _UNCHECKED]
_CHECKED += [f"equisct._base.{name}" for name in ("concrete", "random", "tree", "types")]

_install_import_hook(_CHECKED, f"{_typecheck.__name__}.checked")

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

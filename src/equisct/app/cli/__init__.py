"""The commands: `NAME.py` is what one can be asked for and its entry, free of JAX; `NAME_work.py` does it with JAX.

The work is imported once the words are read. What training can be asked for is `equisct.app.settings`, and its work
`equisct.app.runs`.
"""

import importlib.util as _util
import sys as _sys

if _util.find_spec("tyro") is None or _util.find_spec("filelock") is None:
    print('equisct: error: the commands need more than the library does: pip install ".[train]"', file=_sys.stderr)
    _sys.exit(2)

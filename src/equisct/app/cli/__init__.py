"""The commands. `NAME.py` is one's entry, `NAME_options.py` what it can be asked for, `NAME_work.py` does it.

Entries and options are free of JAX; the work is imported once the words are read. What training can be asked for is
`equisct.app.settings`, and its work `equisct.app.runs`.
"""

import importlib.util as _util
import sys as _sys

if _util.find_spec("tyro") is None or _util.find_spec("filelock") is None:
    print('equisct: error: the commands need more than the library does: pip install ".[train]"', file=_sys.stderr)
    _sys.exit(2)

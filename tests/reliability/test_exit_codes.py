"""Which error ends the command with which code."""

import errno

import pytest

from equisct.app.runs import exits
from equisct.train import CheckpointError

TABLE = [
    (CheckpointError("checkpoint: Orbax found RESOURCE_EXHAUSTED: No space left on device"), exits.CHECKPOINT),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), exits.OUT_OF_MEMORY),
    (OSError(errno.ENOSPC, "No space left on device"), exits.CHECKPOINT),
    (OSError(errno.EACCES, "Permission denied"), None),
    (KeyError("a bug"), None),
]


@pytest.mark.parametrize(("error", "code"), TABLE)
def test_table(error, code):
    assert exits.code_of(error) == code

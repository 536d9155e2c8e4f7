"""`hooked.py` with one more hook: `indices=FILE` notes the samples of every batch that is loaded, one JSON row each."""

import importlib
import json
import pathlib
import sys
from typing import Any

from reliability import hooked


def note_indices(value: str) -> None:
    """Appends `{step, indices}` to a file for each batch."""

    def make(original: Any) -> Any:
        def batch(self: Any, step: int) -> Any:
            with pathlib.Path(value).open("a") as file:
                file.write(json.dumps({"step": step, "indices": self.indices(step).tolist()}) + "\n")
            return original(self, step)

        return batch

    hooked.replace("equisct.data", "Loader.batch", make)


if __name__ == "__main__":
    importlib.import_module(
        "equisct.app.cli.xla"
    ).prefer_quick_compilation()  # before JAX comes in, as the command does
    note_indices(sys.argv.pop(1).removeprefix("indices="))
    hooked.main()

"""`python -m equisct train|sample|eval|report|data ...` is the same as `equisct-train`, `equisct-sample` and so on."""

import importlib
import sys

COMMANDS = {"train": "train", "sample": "sample", "eval": "evaluate", "report": "report", "data": "data"}
"""And the modules of `equisct.cli` that they are in."""


def main() -> None:
    """Hands the words after the command's name to that command; exits with code 2 if it is none."""
    name, *words = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(f"equisct: expected one of {', '.join(COMMANDS)}, found {name or 'nothing'}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f"equisct.cli.{COMMANDS[name]}").main(words)


if __name__ == "__main__":
    main()

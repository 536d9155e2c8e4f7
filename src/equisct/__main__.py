"""`python -m equisct train|sample|data ...` is the same as `equisct-train`, `equisct-sample`, `equisct-data`."""

import importlib
import sys

COMMANDS = ("train", "sample", "data")


def main() -> None:
    """Hands the words after the command's name to that command; exits with code 2 if it is none."""
    name, *words = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(f"equisct: expected one of {', '.join(COMMANDS)}, found {name or 'nothing'}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f"equisct.cli.{name}").main(words)


if __name__ == "__main__":
    main()

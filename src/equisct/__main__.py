"""`python -m equisct train|sample|eval|report|data ...` is the same as `equisct-train`, `equisct-sample` and so on."""

import sys


def main() -> None:
    """Hands the words after the command's name to that command; exits with code 2 if it is none."""
    name, *words = sys.argv[1:] or [""]
    match name:
        case "train":
            from .app.cli.train import main as command
        case "sample":
            from .app.cli.sample import main as command
        case "eval":
            from .app.cli.evaluate import main as command
        case "report":
            from .app.cli.report import main as command
        case "data":
            from .app.cli.data import main as command
        case _:
            found = name or "nothing"
            print(f"equisct: expected one of train, sample, eval, report, data, found {found}", file=sys.stderr)
            sys.exit(2)
    command(words)


if __name__ == "__main__":
    main()

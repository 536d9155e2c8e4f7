"""`python -m equisct train|sample|eval|report|data ...` is the same as `equisct-train`, `equisct-sample` and so on."""

import importlib
import sys

COMMANDS = {
    "train": ("train", "Train a model, or go on with a run."),
    "sample": ("sample", "Draw samples from a run."),
    "eval": ("evaluate", "Measure samples against data."),
    "report": ("report", "Write a page about one or more runs."),
    "data": ("data", "Look at data, and pack it into one file."),
}
"""Each command's file in `app/cli`, and what it is for."""


def main() -> None:
    """Hands the words after the command's name to that command; exits with code 2 if it is none."""
    from .app.cli.words import choose
    from .app.runs.exits import refusing_wrong_input

    texts = {name: text for name, (_, text) in COMMANDS.items()}
    about = "Each is also a program of its own: equisct-train, equisct-sample, and so on. COMMAND --help says more."
    with refusing_wrong_input("equisct"):
        name, words = choose("python -m equisct", about, texts, sys.argv[1:], usage="COMMAND ...")
    importlib.import_module(f".app.cli.{COMMANDS[name][0]}", __package__).main(words)


if __name__ == "__main__":
    main()

"""`equisct-train PRESET|from-config FILE|resume RUN [--group.field VALUE ...]`: JAX is imported once all is read."""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence

import numpy as np

from ..._base.batch import as_example
from ..._base.files import as_path
from ...data import DataError, Dataset
from ..parts.condition_size import with_size
from ..parts.data import fingerprint, load_data, open_loader
from ..presets import DIGITS, PRESETS
from ..runs.exits import STOPPED, refusing_wrong_input, stopping_cleanly
from ..runs.folder import (
    changes,
    check_not_held,
    choose_folder,
    read_config,
    read_config_file,
    read_status,
    refused_changes,
)
from ..runs.progress import say, telling
from ..settings.check import check, check_secrets, check_trackers, flat_values
from ..settings.codec import whole_paths
from ..settings.config import Config
from ..tracking import redact
from ..tracking.redaction import PUBLIC
from .next_step import as_typed, check_run
from .plugins import load_plugins, words_before
from .words import choose, read
from .xla import prefer_quick_compilation

PROGRAM = "equisct-train"

DESCRIPTION = """Train a consistency model with a score head (score-guided consistency training).

Choose a preset, then change what you like, for example

  equisct-train digits
  equisct-train digits --run.steps 2000 --method.head-weight 0.1
  equisct-train cifar10 --data.path cifar-10-batches-bin
  equisct-train from-config runs/digits/config.json --run.seed 1
  equisct-train resume runs/digits

The same command again goes on with a run that was stopped. PRESET --help lists the flags.
"""

USAGE = "PRESET|from-config FILE|resume RUN [--group.field VALUE ...]"

STORED = {
    "from-config": "A file config.json after it: a new run with its settings; flags change some.",
    "resume": "A run's folder after it: go on with that run and its own settings; flags change some.",
}


def parse(arguments: Sequence[str] | None = None) -> Config:
    """The configuration of a command line, checked; exits with code 2 and one message if it is wrong."""
    load_plugins()
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name, (_, config) in PRESETS.items():
        if config.preset != name:
            raise ValueError(f"PRESETS: expected preset={name!r} in the one of that name, found {config.preset!r}")
    texts = {name: text for name, (text, _) in PRESETS.items()} | STORED
    path = pathlib.Path(*words[:1])
    word = "resume" if (path / "config.json").is_file() else "from-config" if path.suffix == ".json" else None
    if word and words and words[0] not in texts:
        raise ValueError(f"expected a preset, found a path; did you mean {PROGRAM} {shlex.join([word, *words])}?")
    first, flags = choose(PROGRAM, DESCRIPTION, texts, words, usage=USAGE)
    if first in PRESETS:
        default = PRESETS[first][1]
    elif flags[:1] == ["--help"]:  # of the flags, whatever the settings are that they change
        default = DIGITS
    elif not flags or flags[0].startswith("-"):
        wanted = "a file" if first == "from-config" else "a run folder"
        raise ValueError(f"{first}: expected {wanted} after it, found {' '.join(flags[:1]) or 'none'}")
    else:
        path, *flags = flags
        default = _read_stored(first, as_path(path))
    config = read(Config, program=f"{PROGRAM} {first}", description=texts[first], words=flags, default=default)
    PUBLIC.update(str(value) for _, preset in PRESETS.values() for _, value in flat_values(preset))
    config = whole_paths(config)
    check(config)
    check_secrets(config)
    return config


def _read_stored(word: str, path: pathlib.Path) -> Config:
    """The settings that `from-config FILE` or `resume RUN` begins with."""
    if word == "resume":
        check_run("resume", path)
        stored = read_config(path)
        run = dataclasses.replace(stored.run, dir=path, resume="must", allow_change=(), dry_run=False)
    else:
        stored = read_config_file(path / "config.json" if path.is_dir() else path)
        run = dataclasses.replace(stored.run, dir=None, resume="auto", allow_change=(), dry_run=False)
    return dataclasses.replace(stored, run=run)


def check_changes(stored: Config, config: Config) -> None:
    """Raises `ValueError` if a run would go on with what it may not change; names the settings."""
    refused = refused_changes(stored, config)
    if refused:
        shown = "\n  ".join(map(str, refused))
        names = " ".join(change.name for change in refused)
        raise ValueError(
            f"run.allow_change: expected the settings of the run in {stored.run.dir}, found others:\n  {shown}\n"
            f"take another --run.dir, or allow them: --run.allow-change {names}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with refusing_wrong_input(PROGRAM):
        config = parse(arguments)
        dataset = load_data(config.data, seed=config.run.seed)
        if config.run.batch > dataset.size:
            found = f"{config.run.batch}, more than the data's {dataset.size:,} samples"
            raise DataError("run.batch", found, f"at most {dataset.size}", "choose a smaller batch")
        open_loader(dataset, config).close()
        config = with_size(config, dataset)
        check_trackers(config.log)
        folder, stored = choose_folder(config)
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=folder))
        if stored is not None:
            check_changes(stored, config)
        if stored is not None and _is_finished(folder, config):
            print(f"the run in {redact(str(folder))} is finished: {read_status(folder).get('step')} updates")
            return
        if not config.parallel.distributed:
            with stopping_cleanly(PROGRAM):
                check_not_held(folder)
        prefer_quick_compilation()
        from ..runs import places, run
        from ..runs.actions import MORE
        from ..runs.halt import check_halts
        from ..runs.interrupt import Interrupted

        places.join_processes(config.parallel)
        mesh = places.choose_mesh(config)
        data = fingerprint(dataset)
        run.try_to_build(config, dataset, mesh, folder, data=data)
        check_halts(config, folder)
        if config.run.dry_run:
            from .plan import describe

            _tell(config, stored, dataset)
            print(redact(describe(config, dataset, mesh, goes_on=stored is not None)))
            return
    before = words_before(config.method, *MORE)
    command = before + shlex.join([PROGRAM, "resume", str(folder)])
    with stopping_cleanly(PROGRAM), places.locked_together(folder):
        words = [PROGRAM, *(sys.argv[1:] if arguments is None else arguments)]
        if places.leads():  # nothing is refused any more
            _tell(config, stored, dataset)
            note = "(the first update is compiled now: up to a minute on a CPU)"
            say(f"run folder: {folder} {note}")
        try:
            run.train(config, dataset, mesh, folder, command=words, resume_command=command, data=data)
        except Interrupted:
            again = before + as_typed(PROGRAM, "resume", folder)
            say(f"{PROGRAM}: stopped and saved; go on with\n  {again}")
            sys.exit(STOPPED)
        if places.leads():
            if config.sample.n:
                picture = folder / "samples" / f"step_{config.run.steps:08d}_ema.png"
                print(redact(f"done: look at {picture} and {folder / 'curves.png'};"))
            print(redact(f"draw more with {before}{as_typed('equisct-sample', folder)}"))
            if config.run.report:
                from .report import main as report

                with telling("writing the report"):
                    report([str(folder)])


def _tell(config: Config, stored: Config | None, dataset: Dataset) -> None:
    """What a person should know before the run begins: what has changed, and what looks unwise."""
    for change in changes(stored, config) if stored else ():
        say(f"changed: {change}")
    _note_on_scale(config, dataset)
    _note_on_average(config)


def _note_on_scale(config: Config, dataset: Dataset) -> None:
    """Says so where the standard deviation of vectors is far from what the settings assume."""
    if len(dataset.shape) != 1:
        return
    found = float(as_example(dataset.take(np.arange(min(dataset.size, 1024)))).x.std())
    assumed = config.noise.sigma_data
    if not 2 / 3 < found / assumed < 3 / 2:
        say(
            f"note: the data's standard deviation is about {found:.3g}; --noise.sigma-data is {assumed:g}. In few "
            "dimensions --method.distance squared-l2 --method.c None gives a truer map (docs/distances.md)"
        )


def _note_on_average(config: Config) -> None:
    """Says so where the average would still hold much of the random start at the end."""
    begins_anew, ema = getattr(config.method, "teacher", None) is None, config.ema
    if not begins_anew or ema.decay is None or ema.ramp:  # the last two are short at first
        return
    left = ema.decay**config.run.steps
    if left > 1 / 3:
        say(
            f"note: after {config.run.steps:,} updates the average (--ema.decay {ema.decay:g}) still holds {left:.0%} "
            "of the random start; take --ema.decay None, which follows the length of the run, or draw with "
            "equisct-sample --weights model"
        )


def _is_finished(folder: pathlib.Path, config: Config) -> bool:
    status = read_status(folder)
    return status.get("status") == "finished" and status.get("step", 0) >= config.run.steps

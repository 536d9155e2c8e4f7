"""What a page says of a run beside its curves: settings, sizes, data, time, machine, and the command that goes on."""

import json
import pathlib
import shlex
from typing import Any

import numpy as np

from .. import presets
from ..report import RunRows
from ..runs.folder import changes, read_config, read_status
from ..settings.config import Config
from .data import summary
from .plan import average_in_words, parameters_in_words
from .plugins import words_before
from .report_models import Loaded

NOT_OF_A_PRESET = ("run.dir", "preset")
"""Settings that each run has for itself."""


def facts(path: pathlib.Path, run: RunRows, loaded: Loaded | None) -> dict[str, str]:
    """What is known of a run, in words, by its name; `loaded` adds the sizes of data and networks."""
    config, status = read_config(path), read_status(path)
    done, batch = max(status.get("step", 0), run.metrics[-1]["step"]), config.run.batch  # a status may be an old one
    found = {"preset": config.preset, "set otherwise": _otherwise(config), "method": type(config.method).__name__}
    updates = f"{done:,} of {config.run.steps:,}, of {batch:,} samples each"
    data = " ".join([type(config.data).__name__, str(getattr(config.data, "path", ""))]).strip()
    if loaded is not None:
        dataset = loaded.dataset
        data = f"{data}: {summary(dataset.size, dataset.shape)}"
        updates += f": {done * batch / dataset.size:,.3g} epochs"
        found["parameters"] = parameters_in_words(loaded.stored.ema)
    found |= {"data": data, "updates": updates, "average": average_in_words(config)}
    found |= {"time": _time(run), **_machine(path)}
    commands = path / "command.txt"
    if commands.is_file() and (lines := commands.read_text().splitlines()):
        found["command"] = lines[-1]
    draws = f"{words_before(config.method)}equisct-sample {shlex.quote(str(path))}"
    found |= {"go on with": status["resume"]} if status.get("resume") else {"draw more with": draws}
    return found


def _otherwise(config: Config) -> str:
    """The settings that are not the preset's, as flags."""
    if config.preset not in presets.PRESETS:
        return "(this preset is not known here; all settings are below)"
    _, preset = presets.PRESETS[config.preset]
    differ = [each for each in changes(preset, config) if each.name not in NOT_OF_A_PRESET]
    return ", ".join(f"{each.name} {_shown(each.before)} → {_shown(each.after)}" for each in differ) or "nothing"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _time(run: RunRows) -> str:
    """Seconds of the rows: with evaluations and pictures, without what came after the last update."""
    rows = run.throughput
    seconds, compiling = (sum(row.get(name) or 0.0 for row in rows) for name in ("seconds", "compile_seconds"))
    speeds = [row["images_per_second"] for row in rows if row.get("images_per_second")]
    if not speeds:
        return "-"
    speed = f"{np.median(speeds):,.0f} samples a second (median)"
    return f"{_clock(seconds)} to the last update, {_clock(compiling)} of it compiling; {speed}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _machine(path: pathlib.Path) -> dict[str, str]:
    """From `environment.json`; empty where it is not there or none of ours."""
    try:
        found = json.loads((path / "environment.json").read_text())
        devices, packages = found["devices"], {"Python": found["python"], **found["packages"]}
        machine = f"{devices['count']} x {devices['kind']}, {found['platform']}"
        machine += f", {found['processes']} processes" * (found["processes"] > 1)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"machine": machine, "versions": ", ".join(f"{name} {version}" for name, version in packages.items())}

"""The runs of the study of branches (branching.py): a trunk of four stages, and branches that go on with four more."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

from reproduction_runs import CENTRE
from table_runs import quietly

STAGES, EVALUATIONS = 8, 3
SAMPLES, BATCHES = 10_000, 64
LENGTHS = (0.05, 0.10)
"""Relative standard deviations of the further averages."""


@dataclasses.dataclass(frozen=True)
class Design:
    """What all runs share: updates of the whole run, width of the torso, and what the velocity is."""

    updates: int = 2_400
    width: int = 16
    velocity: str = "sample"

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.velocity}-{self.width}"

    def words(self, seed: int) -> list[str]:
        """The settings, after the preset `digits`."""
        period = self.updates // STAGES
        given = {
            "run.seed": seed, "run.save-every": period // EVALUATIONS, "run.keep": EVALUATIONS, "eval.every": 0,
            "sample.n": 0, "sample.every": 0, "log.every": max(period // 10, 1),
            "torso.width": self.width, "head.width": self.width // 2,
            "method.last": 10 * 2 ** (STAGES - 1), "method.period": period, "method.velocity": self.velocity,
            "method.c": CENTRE.c, "method.head-weight": CENTRE.weight,
            "ema.decay": 1 - 1 / (0.036 * self.updates),
        }  # fmt: skip
        off = ["--method.no-stratify", "--optim.no-decay", "--log.no-tensorboard", "--run.no-report"]
        stds = ["--ema.stds", *map(str, LENGTHS)]
        return [word for name, value in given.items() for word in (f"--{name}", str(value))] + off + stds


GUIDE = {"on": "--head.guide", "off": "--head.no-guide"}
"""Whether the head's gradient reaches the torso."""


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A trunk, and every branch of it: the unit of work of one core."""

    design: Design
    seed: int
    early: str
    late: tuple[str, ...]
    place: pathlib.Path

    def folder(self, late: str = "trunk") -> pathlib.Path:
        """Of a branch, or of what they share."""
        return self.place / f"{self.design.name}-{self.early}-{late}-{self.seed}"

    def __call__(self) -> dict[str, dict[str, dict[str, float]]]:
        """The figures of the branches, which share their trunk to the bit; from their notes where there are any."""
        return {late: self._branch(late) for late in self.late}

    def _branch(self, late: str) -> dict[str, dict[str, float]]:
        folder = self.folder(late)
        note = folder.with_name(f"{folder.name}.json")
        if note.is_file():
            return json.loads(note.read_text())
        if not _finished(folder):
            if not _finished(self.folder()):
                self._train(self.folder(), self.early, self.design.updates // 2)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.folder(), folder)
            change = ("--run.resume", "must", "--run.allow-change", "head.guide", "run.steps")
            self._train(folder, late, self.design.updates, *change)
        found = measure(folder) | {"noise": measure_noise(folder)}
        note.write_text(json.dumps(found, indent=1) + "\n")
        return found

    def _train(self, folder: pathlib.Path, guided: str, steps: int, *more: str) -> None:
        from equisct.app.cli import train

        if not more:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        words = ("digits", *self.design.words(self.seed), GUIDE[guided], "--run.steps", str(steps))
        quietly(train.main, *words, "--run.dir", str(folder), *more)


def _finished(folder: pathlib.Path) -> bool:
    status = folder / "STATUS.json"
    return status.is_file() and json.loads(status.read_text())["status"] == "finished"


def measure(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """The figures of a branch's samples, by weights and sampler, each the mean over the last stage's checkpoints.

    The average of 3.6 % of the run and the current weights are measured at each of them, the other averages at the
    last; precision and recall for one step of the first alone.
    """
    import jax.random as jr
    import numpy as np

    from equisct.app.parts.data import load_data
    from equisct.app.parts.features import draw_features, network_of, reference_of
    from equisct.app.parts.sampling import jumps
    from equisct.app.runs.stored import load_run
    from equisct.app.settings.features import Network
    from equisct.evaluation import measure as compare
    from equisct.train import data_mesh
    from equisct.train.reading import steps_in

    found: dict[str, list[dict[str, float]]] = {}
    steps = sorted(steps_in(folder / "checkpoints"))[-EVALUATIONS:]
    mesh, network = data_mesh(), None
    for step in steps:
        stored = load_run(folder, step)
        models: dict[str, Any] = {"average": stored.ema, "current": stored.model}
        if step == steps[-1]:
            models |= further_averages(folder, step)
        dataset = load_data(stored.config.data, seed=stored.config.run.seed)
        network = network or network_of(Network(features="digits"), "digits", stored.shape)
        reference = reference_of(dataset, network)
        for weights, model in models.items():
            for sampler in jumps(stored.config):
                if sampler.name == "two-step" and weights != "average":
                    continue
                drawn = draw_features(
                    sampler, model, stored.shape, SAMPLES, network, "round", key=jr.key(step), mesh=mesh
                )
                more = ("precision-recall", "memorised") if (weights, sampler.name) == ("average", "one-step") else ()
                figures = compare(drawn, reference, ("frechet", *more))
                found.setdefault(f"{weights}/{sampler.name}", []).append({n: float(v) for n, v in figures.items()})
    return {
        name: {each: float(np.mean([figures[each] for figures in rows])) for each in rows[0]}
        for name, rows in found.items()
    }


def further_averages(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """The averages of power-function shape in a run's checkpoint, by their relative width."""
    import equinox as eqx
    import jax.random as jr

    from equisct.app.runs.folder import read_config
    from equisct.app.runs.stored import shape_of
    from equisct.train.reading import find_checkpoint, load_tree

    config, stored = read_config(folder), find_checkpoint(folder / "checkpoints", step)
    like = eqx.filter_eval_shape(config.method.build(config, shape_of(stored.notes)).model, jr.key(0))
    loaded = load_tree(stored, {"averages": (like,) * len(LENGTHS)}, partial=True)["averages"]
    return {f"{std:.2f}": average for std, average in zip(LENGTHS, loaded, strict=True)}


def measure_noise(folder: pathlib.Path) -> dict[str, float]:
    """The noise of the torso's gradient of the consistency loss alone, at the frozen weights of a branch's end.

    Over fresh batches of the run's size, the same for every branch: `trace` of the covariance between batches, `signal`
    the squared norm of the mean, `critical` the batch at which the two are of one size.
    """
    import jax
    import jax.random as jr
    import numpy as np

    import equisct as sct
    from equisct.app.parts.data import load_data
    from equisct.app.runs.stored import load_run
    from equisct.model import consistency_part

    stored = load_run(folder)
    config = stored.config
    size, dataset = config.run.batch, load_data(config.data, seed=config.run.seed)
    guided: Any = config.method.build(config, stored.shape).objective(None, dataset)
    rows = np.random.default_rng(0).integers(0, dataset.size, (BATCHES, size))
    found = sct.gradient_statistics(
        guided.base, stored.model, map(dataset.take, rows), parts=2, step=config.run.steps - 1,
        where=lambda model: consistency_part(model).torso, key=jr.key(0),
    )  # fmt: skip
    trace, signal, critical = jax.device_get((found.covariance_trace, found.square_norm, found.critical_batch))
    return {"trace": float(trace) / size, "signal": float(signal), "critical": float(critical)}

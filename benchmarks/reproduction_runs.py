"""The runs of the small reproduction (reproduction.py): what its arms are, and how each is trained."""

import dataclasses
import json
import pathlib
import shutil

from equisct.app import presets
from equisct.app.cli import train
from equisct.app.methods import ScoreGuidance
from equisct.app.settings import codec
from equisct.app.settings.config import Config, Ema, Log, Run, Sample
from equisct.app.settings.features import Eval
from table_runs import quietly

SAMPLES = 1_797
"""As many as there are digits."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One setting of the two that the paper's Figure 4 varies.

    Weight 0 is plain iCT: the head is trained (by the weight 0.3), but its gradient does not reach the torso, whose
    first weights, batches, noise levels and noise are those of the other arms with the same seed, to the bit.
    """

    weight: float
    c: float

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"weight-{self.weight:g}-c-{self.c:g}"


CENTRE = Arm(0.3, 0.003)
PLAIN = Arm(0.0, 0.003)
BY_WEIGHT = [PLAIN, Arm(0.05, 0.003), Arm(0.1, 0.003), CENTRE, Arm(1.0, 0.003)]
BY_CONSTANT = [Arm(0.3, 0.0003), Arm(0.3, 0.001), CENTRE, Arm(0.3, 0.01), Arm(0.3, 0.03)]
ARMS = list(dict.fromkeys([PLAIN, CENTRE, *BY_WEIGHT, *BY_CONSTANT]))


def configuration(arm: Arm, updates: int, seed: int) -> Config:
    """The preset `digits`, of another length, in one arm."""
    base = presets.DIGITS
    method = base.method
    assert isinstance(method, ScoreGuidance)
    return dataclasses.replace(
        base,
        preset=f"reproduction-{arm.name}",
        ema=Ema(0.999),
        head=dataclasses.replace(base.head, guide=arm.weight > 0),
        method=dataclasses.replace(method, head_weight=arm.weight or CENTRE.weight, c=arm.c),
        run=Run(steps=updates, batch=base.run.batch, seed=seed, save_every=updates),
        log=Log(every=max(updates // 200, 1), tensorboard=False, gradient_parts=arm == CENTRE),
        eval=Eval(every=max(updates // 10, 1), n=SAMPLES, metrics=("frechet", "precision-recall")),
        sample=Sample(n=0),
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """One run: the unit of work of one core."""

    arm: Arm
    seed: int
    place: pathlib.Path
    updates: int

    @property
    def folder(self) -> pathlib.Path:
        """Where the run is."""
        return self.place / f"{self.arm.name}-seed-{self.seed}"

    def __call__(self) -> pathlib.Path:
        """Trains, if it has not been done; one that was stopped begins anew."""
        status = self.folder / "STATUS.json"
        if status.is_file() and json.loads(status.read_text())["status"] == "finished":
            return self.folder
        shutil.rmtree(self.folder, ignore_errors=True)
        settings = self.folder.with_name(f"{self.folder.name}.settings.json")
        settings.write_text(json.dumps(codec.to_json(configuration(self.arm, self.updates, self.seed))))
        quietly(train.main, "from-config", str(settings), "--run.dir", str(self.folder))
        return self.folder

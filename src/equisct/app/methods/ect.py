"""Easy consistency tuning."""

import dataclasses
import pathlib

from ..._base.check import check_at_least
from ..._base.defaults import ECT_NARROWING, ECT_WIDENING
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling, Distance, Source, from_network_of


@dataclasses.dataclass(frozen=True)
class ECT(AbstractDoubling):
    """Easy consistency tuning: from a denoiser's weights, by a gap that shrinks in stages (Geng et al. 2024)."""

    velocity: Source = "sample"
    """Direction of the small step: the noise of this one sample (as published), or its exact mean given x_t, the
    posterior mean over the training set (held in memory)."""
    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the denoiser's run, an EDM or one with a score head; training starts from its averaged weights."""
    distance: Distance = "pseudo-huber-norm"
    """Distance between student and teacher; the authors' is the plain norm, a pseudo-Huber with a tiny knee."""
    c: float | None = 1e-8
    """Knee of the pseudo-Huber, per root dimension but for the element-wise one."""
    first: int = 2
    """Inverse of the relative gap in the first stage, the authors' q."""
    last: int = 256
    """Inverse of the relative gap in the last stage."""
    widening: float = ECT_WIDENING
    """How many times the gap is wider at low levels than at high ones, less one; >= 0. The authors' k."""
    narrowing: float = ECT_NARROWING
    """How fast it narrows with the level, >= 0. The authors' b."""

    def check(self, config: Config) -> None:
        AbstractDoubling.check(self, config)
        check_at_least("method.widening", self.widening, 0)
        check_at_least("method.narrowing", self.narrowing, 0)

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...objectives.easy_tuning import EasyConsistencyTuning
        from ..parts.models import consistency_model

        own = lambda law: {"k": self.widening, "b": self.narrowing}
        system = self.build_system(config, shape, consistency_model, EasyConsistencyTuning, own)
        return dataclasses.replace(system, start=from_network_of)

"""Knowledge distillation."""

import dataclasses
import pathlib
from typing import ClassVar, Literal

from ..settings.config import Config
from ..settings.method import Method, System


@dataclasses.dataclass(frozen=True)
class KD(Method):
    """Knowledge distillation: regress the samples that a teacher's sampler made of known noise (Luhman 2021)."""

    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the teacher's run, an EDM or DDPM; training starts from its averaged weights."""
    preconditioning: Literal["edm", "vp"] = "edm"
    """The teacher's: vp of DDPM, edm of EDM."""
    distance: Literal["l1", "squared-l2"] = "l1"
    """Distance between the student's sample and the teacher's."""

    learns_pairs: ClassVar[bool] = True
    learns_steps: ClassVar[bool] = True

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...distance import L1, SquaredL2
        from ...objectives.knowledge import KnowledgeDistillation
        from ...variance_preserving import VPSchedule
        from ..parts.models import denoising_model, transplant
        from ..parts.sampling import euler

        # The level at which the student sees the noise.
        top = float(VPSchedule().sigmas[-1]) if self.preconditioning == "vp" else config.noise.sigma_max
        distance = L1() if self.distance == "l1" else SquaredL2()
        return System(
            model=lambda key: denoising_model(config, shape, self.preconditioning, key=key),
            objective=lambda teacher: KnowledgeDistillation(top, distance),
            samplers=lambda step: (euler(1, dataclasses.replace(config.noise, sigma_max=top)),),
            start=transplant,
        )

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
    """The teacher's: edm of EDM; vp of DDPM, whose student gives `z - network(z, 999)`, as the paper's does."""
    distance: Literal["l1", "squared-l2"] = "l1"
    """Distance between the student's sample and the teacher's."""

    learns_pairs: ClassVar[bool] = True
    learns_steps: ClassVar[bool] = True

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...distance import L1, SquaredL2
        from ...model import DenoisingModel
        from ...objectives.knowledge import KnowledgeDistillation
        from ...preconditioning import EDMPreconditioning, VPStudentPreconditioning
        from ..parts.models import build_torso, transplant
        from ..parts.sampling import euler

        # How the student makes a sample of noise, and the level at which it sees it.
        form, top = EDMPreconditioning(sigma_data=config.noise.sigma_data), config.noise.sigma_max
        if self.preconditioning == "vp":
            form = VPStudentPreconditioning()
            top = float(form.schedule.sigmas[-1])
        distance = L1() if self.distance == "l1" else SquaredL2()
        return System(
            model=lambda key: DenoisingModel(build_torso(config, shape, key=key), form),
            objective=lambda teacher, dataset: KnowledgeDistillation(top, distance),
            samplers=lambda step: (euler(1, dataclasses.replace(config.noise, sigma_max=top)),),
            start=transplant,
        )

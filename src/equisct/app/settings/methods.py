"""The methods of the paper's Table 1 as settings: plain frozen dataclasses, free of JAX.

Each has its `System` in `systems.py`. A method of your own is a subclass of `Method` and a system for it
(docs/extend.md). The docstring under a field is its help text.
"""

import dataclasses
import math
import pathlib
from typing import Literal

from ..._base.check import check_at_least, check_fraction, check_positive

Distance = Literal["pseudo-huber", "pseudo-huber-rms", "pseudo-huber-norm", "squared-l2", "l1", "lpips"]
HeadWeighting = Literal["edm", "constant"]


@dataclasses.dataclass(frozen=True)
class Method:
    """What is trained and by which loss; every method is a subclass.

    A field `teacher`, where a subclass has one, is the folder of the run whose averaged weights teach.
    """

    def check(self, steps: int) -> None:
        """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""

    @property
    def is_laid_out(self) -> bool:
        """Whether the stages depend on the length of the run, which may then not change when it goes on."""
        return False


# --- diffusion models ---


@dataclasses.dataclass(frozen=True)
class EDM(Method):
    """EDM: a denoiser alone, log-normal levels, EDM's weighting (Karras et al. 2022)."""

    law_mean: float = -1.2
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = 1.2
    """Standard deviation of ln sigma in the law of the noise level."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""

    augment: float = 0.0
    """Probability of each geometric augmentation of images, told to the network by labels, in [0, 1) (EDM: 0.12, and no
    data.flip: flips are among them)."""

    def check(self, steps: int) -> None:
        """See `Method`."""
        del steps
        check_positive("method.law_std", self.law_std)
        check_fraction("method.augment", self.augment)


@dataclasses.dataclass(frozen=True)
class DDPM(Method):
    """DDPM: a network that predicts the noise, a thousand times alike (Ho et al. 2020); DDIM samples from it too."""

    stratify: bool = False
    """Spread each batch's times evenly."""


@dataclasses.dataclass(frozen=True)
class KD(Method):
    """Knowledge distillation: regress the samples that a teacher's sampler made of known noise (Luhman 2021)."""

    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the teacher's run, an EDM or DDPM; training starts from its averaged weights."""
    preconditioning: Literal["edm", "vp"] = "edm"
    """The teacher's: vp of DDPM, edm of EDM."""
    distance: Literal["l1", "squared-l2"] = "l1"
    """Distance between the student's sample and the teacher's."""


@dataclasses.dataclass(frozen=True)
class PD(Method):
    """Progressive distillation: the student learns two of its teacher's steps as one, then teaches (Salimans 2022)."""

    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the first teacher's run, an EDM or DDPM; training starts from its averaged weights."""
    preconditioning: Literal["edm", "vp"] = "edm"
    """The teacher's: vp of DDPM, edm of EDM."""
    first: int = 512
    """Steps of the student's first stage."""
    last: int = 1
    """Steps of its last stage: the first halved some number of times."""
    period: int | None = None
    """Updates per stage, twice as many where one or two steps are left; default such that they fill the run."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the grid."""

    @property
    def is_laid_out(self) -> bool:
        """See `Method`."""
        return self.period is None

    @property
    def units(self) -> int:
        """Periods in all the stages: two for the stages of one and two steps, one for each of the others."""
        stages = [self.first // 2**i for i in range(64) if self.first // 2**i >= max(self.last, 1)]
        return sum(2 if n <= 2 else 1 for n in stages)

    def check(self, steps: int) -> None:
        """See `Method`."""
        check_at_least("method.last", self.last, 1)
        check_at_least("method.first", self.first, self.last)
        if self.first % self.last or (self.first // self.last).bit_count() != 1:
            raise ValueError(
                f"method.first: expected method.last = {self.last} doubled some number of times, found {self.first}"
            )
        if self.period is not None:
            check_at_least("method.period", self.period, 1)
        elif 1 <= steps < self.units:
            raise ValueError(f"run.steps: expected at least one update per period ({self.units}), found {steps}")


# --- consistency models ---


@dataclasses.dataclass(frozen=True)
class _Matching(Method):
    """What all consistency methods have: a distance between student and teacher."""

    distance: Distance = "pseudo-huber"
    """Distance between student and teacher; the paper's is pseudo-huber, element-wise."""
    c: float | None = None
    """Knee of the pseudo-Huber, in data units; default 0.003 element-wise, 0.00054 per root dimension otherwise."""
    lpips: pathlib.Path = pathlib.Path("lpips")
    """Folder of the weights of the distance lpips (RGB images only): vgg16-397923af.pth of torchvision and vgg.pth of
    LPIPS 0.1, or the same as .safetensors."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""

    def check(self, steps: int) -> None:
        """See `Method`."""
        del steps
        if self.c is not None:
            check_positive("method.c", self.c)
            if not self.distance.startswith("pseudo-huber"):
                raise ValueError(f"method.c: expected none with the distance {self.distance}, found {self.c}")


@dataclasses.dataclass(frozen=True)
class ICT(_Matching):
    """Improved consistency training, a consistency model alone (Song & Dhariwal 2024)."""

    first: int = 10
    """Grid intervals of the curriculum's first stage."""
    last: int = 1280
    """Grid intervals of its last stage."""
    law_mean: float = -1.1
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = 2.0
    """Standard deviation of ln sigma in the law of the noise level."""
    period: int | None = None
    """Updates between doublings of the grid; default run.steps divided by the number of stages."""

    @property
    def is_laid_out(self) -> bool:
        """See `Method`."""
        return self.period is None

    def check(self, steps: int) -> None:
        """See `Method`."""
        _Matching.check(self, steps)
        check_at_least("method.first", self.first, 1)
        check_at_least("method.last", self.last, self.first)
        check_positive("method.law_std", self.law_std)
        stages = math.log2(self.last // self.first) + 1
        if self.period is not None:
            check_at_least("method.period", self.period, 1)
        elif 1 <= steps < stages:
            raise ValueError(
                f"run.steps: expected at least one update per curriculum stage ({stages:g}), found {steps}"
            )


@dataclasses.dataclass(frozen=True)
class ScoreGuidance(ICT):
    """The paper's: improved consistency training plus the head's denoising."""

    head_weight: float = 0.3
    """Factor of the denoising loss, >= 0."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of the denoising loss over noise levels: EDM's (the released code), or none (the paper's text)."""

    def check(self, steps: int) -> None:
        """See `Method`."""
        ICT.check(self, steps)
        check_at_least("method.head_weight", self.head_weight, 0)


@dataclasses.dataclass(frozen=True)
class ECT(ICT):
    """Easy consistency tuning: from a denoiser's weights, by a gap that shrinks in stages (Geng et al. 2024)."""

    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the denoiser's run; training starts from its averaged weights."""
    distance: Distance = "pseudo-huber-norm"
    """Distance between student and teacher; the authors' is the plain norm, a pseudo-Huber with a tiny knee."""
    c: float | None = 1e-8
    """Knee of the pseudo-Huber, per root dimension but for the element-wise one."""
    first: int = 2
    """Inverse of the relative gap in the first stage, the authors' q."""
    last: int = 256
    """Inverse of the relative gap in the last stage."""
    widening: float = 8.0
    """How many times the gap is wider at low levels than at high ones, less one; >= 0. The authors' k."""
    narrowing: float = 1.0
    """How fast it narrows with the level, >= 0. The authors' b."""

    def check(self, steps: int) -> None:
        """See `Method`."""
        ICT.check(self, steps)
        check_at_least("method.widening", self.widening, 0)
        check_at_least("method.narrowing", self.narrowing, 0)


@dataclasses.dataclass(frozen=True)
class CT(_Matching):
    """Consistency training as first published: a moving-average teacher, uniform levels (Song et al. 2023)."""

    distance: Distance = "squared-l2"
    """Distance between student and teacher; the paper's best is lpips."""
    first: int = 2
    """Grid points at the start."""
    last: int = 150
    """Grid intervals at the end of the run."""
    initial_decay: float = 0.9
    """Averaging rate of the teacher's weights at the start, in (0, 1)."""

    @property
    def is_laid_out(self) -> bool:
        """See `Method`."""
        return True

    def check(self, steps: int) -> None:
        """See `Method`."""
        _Matching.check(self, steps)
        check_at_least("method.first", self.first, 1)
        check_at_least("method.last", self.last, self.first)
        check_positive("method.initial_decay", self.initial_decay)
        check_fraction("method.initial_decay", self.initial_decay)


@dataclasses.dataclass(frozen=True)
class CD(_Matching):
    """Consistency distillation: the small step follows a denoiser (Song et al. 2023)."""

    distance: Distance = "squared-l2"
    """Distance between student and teacher; the paper's best is lpips."""
    teacher: pathlib.Path | None = None
    """Folder of a denoiser's run; training starts from its averaged weights. None: a score head, trained beside it."""
    points: int = 18
    """Grid points."""
    solver: Literal["heun", "euler"] = "heun"
    """How the small step follows the denoiser."""
    head_weight: float = 0.3
    """Factor of the denoising loss of the score head, >= 0; without a teacher."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of that loss over noise levels."""

    def check(self, steps: int) -> None:
        """See `Method`."""
        _Matching.check(self, steps)
        check_at_least("method.points", self.points, 2)
        check_at_least("method.head_weight", self.head_weight, 0)

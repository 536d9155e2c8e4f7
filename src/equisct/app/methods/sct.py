"""Continuous-time consistency training, sCT."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from ..._base.check import check_at_least, check_positive
from ..._base.defaults import SCT_LAW_MEAN, SCT_LAW_STD, SCT_TANGENT_C, SCT_WARMUP
from ..settings.config import Config
from ..settings.method import Method, System
from .consistency import Source, check_references, velocity_slot

if TYPE_CHECKING:
    from ...model import ConsistencyModel


@dataclasses.dataclass(frozen=True)
class SCT(Method):
    """Consistency training in the limit of a fine grid, sCT: no grid, no distance (Lu & Song 2024)."""

    law_mean: float = SCT_LAW_MEAN
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = SCT_LAW_STD
    """Standard deviation of ln sigma in the law of the noise level."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""
    velocity: Source = "sample"
    """Direction along which the endpoint is to stay: the noise of this one sample (as published), or its exact mean
    given x_t, the posterior mean over the training set (held in memory)."""
    references: int | None = None
    """With the velocity posterior: over the sample and random others, this many in all; default the whole set."""
    warmup: int | None = None
    """Updates over which training goes from denoising to consistency; default 10000, or a tenth of a shorter run."""
    tangent_c: float | None = SCT_TANGENT_C
    """Constant of the tangent's normalisation, in data units; None: not normalised."""
    learned_weight: bool = True
    """Train a weight of the noise levels with the network (as published). Better without where the tangent can vanish:
    under an exact velocity, and in few dimensions."""
    preconditioning: Literal["trigflow", "edm"] = "trigflow"
    """Form of the model: TrigFlow's (as published), or EDM's, whose network is told ln(sigma) / 4, not an angle."""

    @property
    def is_laid_out(self) -> bool:
        return self.warmup is None

    def check(self, config: Config) -> None:
        check_positive("method.law_std", self.law_std)
        check_references(self.velocity, self.references, config)
        if self.warmup is not None:
            check_at_least("method.warmup", self.warmup, 0)
        if self.tangent_c is not None:
            check_positive("method.tangent_c", self.tangent_c)

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...level_sampling import LogNormal
        from ...objectives.continuous import ContinuousConsistency
        from ..parts.posterior import training_posterior
        from ..parts.sampling import jumps

        noise = config.noise
        warmup = min(SCT_WARMUP, config.run.steps // 10) if self.warmup is None else self.warmup
        objective = lambda teacher, dataset: ContinuousConsistency(
            law=LogNormal(mean=self.law_mean, std=self.law_std),
            velocity=velocity_slot(self.velocity, 1.0, self.references, lambda: training_posterior(config, dataset)),
            warmup=warmup,
            tangent_c=self.tangent_c,
            sigma_data=noise.sigma_data,
            stratify=self.stratify,
            sigma_min=noise.sigma_min,
            sigma_max=noise.sigma_max,
        )
        return System(
            model=lambda key: self.build_model(config, shape, key),
            objective=objective,
            samplers=lambda step: jumps(config),
        )

    def build_model(self, config: Config, shape: tuple[int, ...], key: Any) -> "ConsistencyModel":
        """The consistency model, with a weight of its own where one is learned."""
        import jax.random as jr

        from ...model import ConsistencyModel
        from ...nn import LogWeight
        from ...preconditioning import EDMPreconditioning, TrigFlowPreconditioning
        from ..parts.models import build_torso

        form = TrigFlowPreconditioning if self.preconditioning == "trigflow" else EDMPreconditioning
        weight = LogWeight(key=jr.fold_in(key, 1)) if self.learned_weight else None
        return ConsistencyModel(build_torso(config, shape, key=key), form(config.noise.sigma_data), weight)

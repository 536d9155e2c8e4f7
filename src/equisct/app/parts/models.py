"""The models that the settings of `torso`, `head` and `noise` describe, with fresh weights."""

import jax.random as jr

from ..._base.types import Key
from ...model import ConsistencyModel, DenoisingModel, EndpointScaling, ScoreGuidedModel, ScoreHead
from ...preconditioning import AbstractPreconditioning, BoundaryPreconditioning, EDMPreconditioning, VPPreconditioning
from ..settings.config import Config
from .networks import build_head, build_torso

Shape = tuple[int, ...]
"""Of a sample: `(c, h, w)` or `(d,)`."""


def _boundary(config: Config) -> BoundaryPreconditioning:
    return BoundaryPreconditioning(sigma_data=config.noise.sigma_data, sigma_min=config.noise.sigma_min)


def consistency_model(config: Config, shape: Shape, *, key: Key) -> ConsistencyModel:
    """The consistency model that `torso` describes."""
    return ConsistencyModel(build_torso(config, shape, key=key), _boundary(config))


def score_guided_model(config: Config, shape: Shape, *, key: Key) -> ScoreGuidedModel:
    """The consistency model and score head that `torso` and `head` describe."""
    torso_key, head_key = jr.split(key)
    head, sigma_data = config.head, config.noise.sigma_data
    return ScoreGuidedModel(
        consistency_model(config, shape, key=torso_key),
        ScoreHead(
            build_head(config, shape, key=head_key),
            _boundary(config) if head.preconditioning == "boundary" else EDMPreconditioning(sigma_data=sigma_data),
            guide=head.guide,
            endpoint_scaling=EndpointScaling(head.endpoint_scaling),
            sigma_data=sigma_data,
        ),
    )


def denoising_model(config: Config, shape: Shape, kind: str, *, augment_labels: int = 0, key: Key) -> DenoisingModel:
    """The denoiser that `torso` describes, with EDM's (`edm`) or DDPM's (`vp`) preconditioning.

    It may be told `augment_labels` numbers about augmentation.
    """
    scalings: AbstractPreconditioning = EDMPreconditioning(sigma_data=config.noise.sigma_data)
    torso = build_torso(config, shape, augment_labels=augment_labels, key=key)
    return DenoisingModel(torso, VPPreconditioning() if kind == "vp" else scalings)

"""The consistency model, the score head, and the pair, on one sample.

Notation: the torso's raw output F becomes `endpoint = c_skip x_t + c_out F(c_in x_t, c_noise)`, where the path of
the PF-ODE through `x_t` ends; the head turns the torso's readout into `denoised` = E[x | x_t].
"""

import dataclasses
import enum
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, PyTree

from ._base.batch import given
from ._base.defaults import SIGMA_DATA
from ._base.tree import cut
from ._base.types import Key, Level, Sample
from .diffusion import score_from_denoised
from .nn.interface import HeadNetwork, Torso, TorsoOutput
from .nn.log_weight import LogWeight
from .nn.precision import Lowered
from .preconditioning import AbstractPreconditioning, precondition


def _level_of(x_t: Sample, sigma: Level) -> Level:
    """The level; a bare number in the precision of a float32 sample, with 64-bit arithmetic on too."""
    found = jnp.asarray(sigma)
    return found.astype(jnp.float32) if found.weak_type and x_t.dtype == jnp.float32 else sigma


class Readout(eqx.Module):
    """What the torso shows the head: the endpoint, its last features and its noise embedding (paper section 2.1)."""

    endpoint: Float[Array, "*shape"]
    features: Float[Array, "channels *space"]
    embedding: Float[Array, " width"]


class ConsistencyModel(eqx.Module):
    """A torso with its preconditioning: `(x_t, sigma, *, key=None) -> Readout`.

    Args:
        torso: `(x, c_noise, *, key=None) -> TorsoOutput`, such as `nn.ncsnpp(...)` or a network of your own; it takes
            `condition` too if the batches have any.
        preconditioning: with `BoundaryPreconditioning` the endpoint at `sigma_min` is `x_t` itself, exactly.
        log_weight: of the loss by level, trained with the torso by an objective that has such a weight
            (`ContinuousConsistency`); no part of what the model answers. Without, the weight is 1.
    """

    torso: Torso
    preconditioning: AbstractPreconditioning
    log_weight: LogWeight | None = None

    def __call__(self, x_t: Sample, sigma: Level, *, condition: PyTree = None, key: Key | None = None) -> Readout:
        scalings = self.preconditioning.scalings(_level_of(x_t, sigma))
        output = self.torso(scalings.input * x_t, scalings.noise, key=key, **given(condition))
        if not isinstance(output, TorsoOutput):
            raise TypeError(f"torso: expected to return a nn.TorsoOutput, found {type(output).__name__}")
        endpoint = precondition(scalings, x_t, output.raw)
        return Readout(endpoint=endpoint, features=output.features, embedding=output.embedding)

    def endpoint(self, x_t: Sample, sigma: Level, *, condition: PyTree = None) -> Sample:
        """Where the PF-ODE's path through `x_t` at level `sigma` ends (at `sigma_min`); dropout is off."""
        return self(x_t, sigma, condition=condition).endpoint


class EndpointScaling(enum.Enum):
    """How the endpoint is scaled where it enters the head: by `c_in` (release), not at all, or by 1 / sigma_data."""

    INPUT = "input"
    NONE = "none"
    DATA = "data"


class ScoreHead(eqx.Module):
    """The transformation of the consistency model into a denoiser (paper eq. 7-9): `(x_t, sigma, readout) -> denoised`.

    The endpoint is always cut: the head's gradient would damage it (paper section 2.2). With `guide` the gradient
    reaches the torso through the features (unless `cut_features`) and the embedding (unless `cut_embedding`); without,
    the head learns beside a plain iCT model and changes nothing in it.

    Args:
        network: `(x, endpoint, features, embedding, c_noise, *, key=None) -> raw`, such as `nn.HeadUNet(...)`.
        preconditioning: the released code uses the boundary form, the paper's text names EDM's.
        guide: whether the head's gradient reaches the torso.
        cut_features: stops the gradient through the features alone.
        cut_embedding: stops the gradient through the noise embedding alone.
        endpoint_scaling: the scale of the endpoint in the head's input.
        sigma_data: standard deviation of the data, for `EndpointScaling.DATA`.
    """

    network: HeadNetwork
    preconditioning: AbstractPreconditioning
    guide: bool = eqx.field(static=True, default=True)
    cut_features: bool = eqx.field(static=True, default=False)
    cut_embedding: bool = eqx.field(static=True, default=False)
    endpoint_scaling: EndpointScaling = eqx.field(static=True, default=EndpointScaling.INPUT)
    sigma_data: float = SIGMA_DATA

    def __call__(self, x_t: Sample, sigma: Level, readout: Readout, *, key: Key | None = None) -> Sample:
        scalings = self.preconditioning.scalings(_level_of(x_t, sigma))
        scale = {
            EndpointScaling.INPUT: scalings.input,
            EndpointScaling.NONE: 1.0,
            EndpointScaling.DATA: 1 / self.sigma_data,
        }[self.endpoint_scaling]
        features = cut(readout.features) if self.cut_features or not self.guide else readout.features
        embedding = cut(readout.embedding) if self.cut_embedding or not self.guide else readout.embedding
        raw = self.network(
            scalings.input * x_t, scale * cut(readout.endpoint), features, embedding, scalings.noise, key=key
        )
        return precondition(scalings, x_t, raw)


class ScoreGuidedModel(eqx.Module):
    """A consistency model and its score head: one pass gives a one-step generator, two a diffusion model."""

    cm: ConsistencyModel
    head: ScoreHead

    def endpoint(self, x_t: Sample, sigma: Level, *, condition: PyTree = None) -> Sample:
        """Where the PF-ODE's path through `x_t` ends; the head takes no part."""
        return self.cm.endpoint(x_t, sigma, condition=condition)

    def denoise(self, x_t: Sample, sigma: Level, *, condition: PyTree = None) -> Sample:
        """The posterior mean E[x | x_t] by the score head (paper eq. 7), which meets a condition in the readout."""
        return self.head(x_t, sigma, self.cm(x_t, sigma, condition=condition))

    def score(self, x_t: Sample, sigma: Level, *, condition: PyTree = None) -> Sample:
        """The score of the noised law at `x_t` (paper eq. 8)."""
        return score_from_denoised(self.denoise(x_t, sigma, condition=condition), x_t, sigma)


class DenoisingModel(eqx.Module):
    """A network with its preconditioning: a diffusion model, `(x_t, sigma, *, key=None) -> denoised`.

    Args:
        network: `(x, c_noise, *, key=None) -> TorsoOutput`, such as `nn.ddpmpp(...)` or a network of your own; it takes
            `augment_labels` too if it is trained with an `Augmentation`, `condition` if the batches have any.
        preconditioning: `EDMPreconditioning`, or `VPPreconditioning` for a network that predicts DDPM's noise.
    """

    network: Torso
    preconditioning: AbstractPreconditioning

    def __call__(
        self,
        x_t: Sample,
        sigma: Level,
        *,
        condition: PyTree = None,
        augment_labels: Float[Array, " augment_labels"] | None = None,
        key: Key | None = None,
    ) -> Sample:
        scalings = self.preconditioning.scalings(_level_of(x_t, sigma))
        told = given(condition) if augment_labels is None else given(condition) | {"augment_labels": augment_labels}
        return precondition(scalings, x_t, self.network(scalings.input * x_t, scalings.noise, key=key, **told).raw)

    def denoise(self, x_t: Sample, sigma: Level, *, condition: PyTree = None) -> Sample:
        """The posterior mean E[x | x_t]; dropout is off."""
        return self(x_t, sigma, condition=condition)


class WithTeacher(eqx.Module):
    """A model in training and the teacher that training keeps beside it (`train.Recipe.teacher_share`)."""

    student: Any
    teacher: Any


def student_of(model: PyTree) -> PyTree:
    """The model that is trained: a `WithTeacher`'s student, any other itself."""
    return model.student if isinstance(model, WithTeacher) else model


def consistency_part(model: PyTree) -> PyTree:
    """The consistency model of a pair, of a `WithTeacher`'s student, or the model itself."""
    student = student_of(model)
    return student.cm if isinstance(student, ScoreGuidedModel) else student


T = TypeVar("T")


def in_precision(model: T, dtype: DTypeLike) -> T:
    """The same model with its networks computed in `dtype` (see `nn.Lowered`); float32 gives the model itself.

    Parameters stay as they are: cast at the moment of use, so differentiate through this call.

    Args:
        model: a consistency model, a score head, a denoising model, or anything that holds some of them; what is
            outside them stays as it is.
        dtype: `jnp.float32`, `jnp.bfloat16` or `jnp.float16`.

    Raises:
        TypeError: if the model holds none of them, for another dtype than float32.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return model
    known = {ConsistencyModel: "torso", ScoreHead: "network", DenoisingModel: "network"}
    is_known = lambda node: type(node) in known
    if not any(map(is_known, jax.tree.leaves(model, is_leaf=is_known))):
        raise TypeError(
            f"compute_dtype: expected a model with a {', '.join(kind.__name__ for kind in known)} in it, found "
            f"{type(model).__name__}; with a network of another kind take float32, and cast inside the network"
        )

    def lowered(node: PyTree) -> PyTree:
        if not is_known(node):
            return node
        name = known[type(node)]
        return dataclasses.replace(node, **{name: Lowered(getattr(node, name), dtype)})

    return jax.tree.map(lowered, model, is_leaf=is_known)

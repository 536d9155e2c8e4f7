"""Objectives that show a pass of the torso, which a score head can read: what `ScoreGuided` attaches to."""

import abc
from typing import Any

import equinox as eqx
import jax
from jax import Array
from jaxtyping import Float, PyTree

from .._base.types import Key, Level
from ..model import Readout
from .terms import AbstractSplitObjective, SampleLoss


class TorsoPass(eqx.Module):
    """One pass of the torso in training: of which sample, where, what it read out; `key` is for who reads on.

    `condition` is what the sample was made under, None or any pytree of arrays.
    """

    x: Float[Array, "*shape"]
    x_t: Float[Array, "*shape"]
    sigma: Level
    readout: Readout
    key: Key
    condition: Any = None


def check_readout(found: PyTree, model: PyTree) -> Readout:
    """What a consistency model answered, a `Readout`.

    Raises:
        TypeError: if it is none; names the model.
    """
    if not isinstance(found, Readout):
        kind = type(model).__name__
        raise TypeError(f"model: expected a ConsistencyModel, or a callable that returns a Readout, found {kind}")
    return found


class AbstractReadoutObjective(AbstractSplitObjective):
    """An objective whose loss needs a pass of the torso that a score head can read: `ScoreGuided` takes any."""

    @abc.abstractmethod
    def sample_loss(self, model: PyTree, draw: PyTree) -> tuple[dict[str, SampleLoss], TorsoPass]:
        """The losses of one sample by name, and the pass that a head reads.

        The pass must be with gradient, of `consistency_part(model)`; its key unused by anybody else.
        """

    def sample_losses(self, model: PyTree, draws: PyTree) -> dict[str, SampleLoss]:
        """The losses of a batch of draws, sample by sample."""
        return jax.vmap(lambda draw: self.sample_loss(model, draw)[0])(draws)

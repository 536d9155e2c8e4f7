"""What a batch may hold beside a bare array: records that JAX knows as pytrees by themselves. Free of JAX.

A batch is any pytree of arrays whose first axis is the batch; without that axis the same record is one sample.
"""

from typing import Any, NamedTuple


class Example(NamedTuple):
    """A clean sample and what it is made under; a named tuple, so its `len` is not that of the batch.

    Attributes:
        x: the sample, an array.
        condition: None, or any pytree of arrays, such as a class number.
    """

    x: Any
    condition: Any = None


class GuidedCondition(NamedTuple):
    """A condition and how strongly it guides, of a network that is told both (`nn.GuidanceEmbedding`).

    Attributes:
        condition: as in an `Example`.
        scale: 1 is the condition's own law, more exaggerates it, 0 is no condition at all.
    """

    condition: Any
    scale: Any


class Pair(NamedTuple):
    """Unit Gaussian noise and the sample that was made of it: what knowledge distillation learns from.

    Attributes:
        z: the noise.
        x: the sample, of the noise's shape.
    """

    z: Any
    x: Any


def as_example(batch: Any) -> Example:
    """The samples of a batch and their condition: a pair's without its noise, a bare array's without any."""
    if isinstance(batch, Example):
        return batch
    return Example(batch.x if isinstance(batch, Pair) else batch)


def given(condition: Any) -> dict[str, Any]:
    """The argument `condition` of a call, if there is any to give."""
    return {} if condition is None else {"condition": condition}

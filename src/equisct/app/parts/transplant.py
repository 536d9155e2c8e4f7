"""Weights from one tree into another of the same arrays."""

from typing import TypeVar

from ...train.weights import named_arrays, with_arrays

T = TypeVar("T")


def transplant(model: T, teacher: object) -> T:
    """The model with every array of the teacher in its place; what is no array (dropout, say) stays the model's.

    A teacher's matrix for `augment_labels` is left out where the model has none: labels of 0 add nothing.

    Raises:
        ValueError: if the two have other arrays; names the first.
    """
    wanted, found = named_arrays(model), named_arrays(teacher)
    left = "mapping/augment_labels"
    found = {name: leaf for name, leaf in found.items() if name in wanted or not name.endswith(left)}
    shapes = [{name: tuple(leaf.shape) for name, leaf in arrays.items()} for arrays in (wanted, found)]
    if shapes[0] != shapes[1]:
        name = next(n for n in {**shapes[0], **shapes[1]} if shapes[0].get(n) != shapes[1].get(n))
        raise ValueError(
            f"method.teacher: expected a network of the same settings as torso, {name} of shape "
            f"{shapes[0].get(name)}, found {shapes[1].get(name)}"
        )
    return with_arrays(model, found)

"""What a run's samples are made under, by its settings and its data; free of JAX, so that a mistake is told at once."""

import dataclasses

from ...data import ConditionalSet, Dataset
from ..settings.config import Config

CLASSES, VECTOR, NONE = "classes", "vector", "none"


def kind_of(config: Config) -> str:
    """What the samples of a run are made under: `none`, `classes` or `vector`."""
    return getattr(config.data, "condition", NONE)


def with_size(config: Config, dataset: Dataset) -> Config:
    """The settings with the size of the data's conditions where they leave it to the data.

    Raises:
        ValueError: if they name another.
    """
    if not isinstance(dataset, ConditionalSet):
        return config
    asked, classes = config.torso.condition, dataset.classes
    found = dataset.conditions.shape[1] if classes is None else classes
    if asked not in (0, found) and (classes is None or asked < found):
        expected = f"{found} numbers" if classes is None else f"at least the data's {found} classes"
        raise ValueError(f"torso.condition: expected {expected}, found {asked}")
    return dataclasses.replace(config, torso=dataclasses.replace(config.torso, condition=asked or found))

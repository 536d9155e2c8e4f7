"""Whether samples are of the class that they were drawn under, by a classifier."""

import numpy as np
from jaxtyping import Float, Int


def agreement(probabilities: Float[np.ndarray, "n classes"], wanted: Int[np.ndarray, " n"]) -> float:
    """The share of the samples whose most probable class is the one that was wanted.

    Args:
        probabilities: of each class, by the classifier.
        wanted: the class that each sample was drawn under.

    Raises:
        ValueError: if a class is wanted that the classifier does not know.
    """
    classes = probabilities.shape[1]
    if wanted.min() < 0 or wanted.max() >= classes:
        bad = wanted[(wanted < 0) | (wanted >= classes)][0]
        raise ValueError(f"wanted: expected classes of the network, 0 to {classes - 1}, found {bad}")
    return float(np.mean(probabilities.argmax(1) == wanted))

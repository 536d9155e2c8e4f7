"""The 8x8 handwritten digits that come with scikit-learn: real pixels, nothing to download."""

import importlib

import numpy as np

from .errors import DataError
from .records import ImageSet


def load_digits() -> ImageSet:
    """All 1,797 images of 8x8 grey pixels, with labels 0 to 9 (Alpaydin and Kaynak 1998, UCI repository).

    The 17 stored grey levels 0 to 16 become `round(255 level / 16)`. There is no separate test set.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        hint = "pip install scikit-learn"
        raise DataError("digits", "no scikit-learn", "scikit-learn, which brings the images", hint) from error
    stored = datasets.load_digits()
    images = np.round(stored.images * (255 / 16)).astype(np.uint8)
    return ImageSet(images[..., None], "digits", stored.target.astype(np.int64))

"""What samples are held against: the features of a data set, in one file, with what made them."""

import dataclasses
import hashlib
import os
import zipfile

import numpy as np

from .._base.explain import in_brief
from .._base.files import as_path, atomic_write
from .features import FeatureNetwork

FORMAT = "equisct-reference-1"


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Features of a data set.

    Attributes:
        data: name of the set.
        network: name of the network of features.
        weights: SHA-256 of its weights.
        features: float32 (n, d), finite.

    Raises:
        ValueError: for features of another kind.
    """

    data: str
    network: str
    weights: str
    features: np.ndarray

    def __repr__(self) -> str:
        return in_brief(self)

    def __post_init__(self):
        found = self.features
        if found.dtype != np.float32 or found.ndim != 2 or len(found) < 2 or not np.isfinite(found).all():
            expected = "finite float32 numbers (n, d) with n >= 2"
            raise ValueError(f"features: expected {expected}, found {found.dtype} {found.shape}")

    @property
    def hash(self) -> str:
        """SHA-256 of the features: tells one reference from another."""
        return hashlib.sha256(np.ascontiguousarray(self.features).tobytes()).hexdigest()

    def check_of(self, network: FeatureNetwork) -> None:
        """Raises `ValueError` unless these are features of that network."""
        if (self.network, self.weights) != (network.name, network.weights):
            raise ValueError(
                f"ref: expected features of {network.name} ({network.weights[:12]}), "
                f"found those of {self.network} ({self.weights[:12]})"
            )

    def check_width(self, found: int) -> None:
        """Raises `ValueError` unless a sample has so many features here too: samples of one shape."""
        width = self.features.shape[1]
        if width != found:
            shapes = "samples of the same shape and channels as the reference's"
            raise ValueError(
                f"ref: expected {shapes}, {width} features of {self.network} from {self.data}, found {found} features"
            )


def save_reference(path: str | os.PathLike[str], reference: Reference) -> None:
    """Writes the file that `load_reference` reads; whole or not at all."""
    atomic_write(as_path(path), lambda place: np.savez(place, format=FORMAT, **vars(reference)))


def load_reference(path: str | os.PathLike[str]) -> Reference:
    """The features in a file, read without executing anything in it.

    Raises:
        ValueError: if there is no such file, or it is none of `save_reference`.
    """
    place = as_path(path)
    try:
        with np.load(place, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("format", "data", "network", "weights", "features")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).split(". ")[0]  # NumPy goes on with advice that nobody should follow
        hint = "equisct-eval stats digits --out digits.npz writes one"
        raise ValueError(f"ref: expected a file of equisct-eval stats, found {place} ({reason}); {hint}") from None
    if str(arrays["format"]) != FORMAT:
        raise ValueError(f"ref: expected a file of the format {FORMAT}, found {place}")
    data, network, weights = (str(arrays[name]) for name in ("data", "network", "weights"))
    return Reference(data, network, weights, arrays["features"])

"""Closed-form distributions: exact denoiser, score and density, and for some the exact flow map of the PF-ODE.

Every oracle works on one sample. `oracle.denoise` is a `Denoiser`: it goes wherever a model's `denoise` goes.
"""

from .abstract import AbstractOracle as AbstractOracle
from .abstract import AbstractTransportOracle as AbstractTransportOracle
from .empirical import Empirical as Empirical
from .gaussian import Gaussian as Gaussian
from .labelled import Labelled as Labelled
from .mixture import GaussianMixture as GaussianMixture
from .product import ProductMixture as ProductMixture

"""How far samples are from data, in features of any kind: NumPy, float64, on the host."""

from .frechet import frechet_distance as frechet_distance
from .neighbours import precision_recall as precision_recall

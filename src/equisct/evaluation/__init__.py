"""How far samples are from data, in features of any kind: features by JAX, statistics by NumPy in float64."""

from .classifier import train_classifier as train_classifier
from .features import Extracted as Extracted
from .features import FeatureNetwork as FeatureNetwork
from .features import extract as extract
from .features import pixels as pixels
from .frechet import frechet_at_infinity as frechet_at_infinity
from .frechet import frechet_distance as frechet_distance
from .inception_score import inception_score as inception_score
from .kernel import Estimate as Estimate
from .kernel import kernel_distance as kernel_distance
from .measure import check_comparable as check_comparable
from .measure import measure as measure
from .moments import FeatureMoments as FeatureMoments
from .neighbours import density_coverage as density_coverage
from .neighbours import memorised_share as memorised_share
from .neighbours import nearest as nearest
from .neighbours import precision_recall as precision_recall
from .reference import Reference as Reference
from .reference import load_reference as load_reference
from .reference import save_reference as save_reference
from .spread import Interval as Interval
from .spread import Spread as Spread
from .spread import bootstrap as bootstrap
from .spread import spread as spread
from .vectors import energy_distance as energy_distance
from .vectors import sliced_wasserstein as sliced_wasserstein

"""How far samples are from data, in features of any kind: NumPy, float64, on the host."""

from .frechet import frechet_at_infinity as frechet_at_infinity
from .frechet import frechet_distance as frechet_distance
from .inception_score import inception_score as inception_score
from .kernel import Estimate as Estimate
from .kernel import kernel_distance as kernel_distance
from .moments import FeatureMoments as FeatureMoments
from .neighbours import density_coverage as density_coverage
from .neighbours import memorised_share as memorised_share
from .neighbours import nearest as nearest
from .neighbours import precision_recall as precision_recall
from .spread import Interval as Interval
from .spread import Spread as Spread
from .spread import bootstrap as bootstrap
from .spread import spread as spread
from .vectors import energy_distance as energy_distance
from .vectors import sliced_wasserstein as sliced_wasserstein

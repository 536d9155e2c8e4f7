"""What a model, an objective or a data set is like, measured: each against its exact value where one is known."""

from .agreement import Agreement as Agreement
from .agreement import format_agreement as format_agreement
from .agreement import measure_agreement as measure_agreement
from .alignment import Alignment as Alignment
from .alignment import measure_alignment as measure_alignment
from .gradients import GradientStatistics as GradientStatistics
from .gradients import gradient_statistics as gradient_statistics
from .noise import noise_law as noise_law
from .population import PopulationOptimum as PopulationOptimum
from .population import population_optimum as population_optimum
from .support import Support as Support
from .support import measure_support as measure_support

"""What a model, an objective or a data set is like, measured: each against its exact value where one is known."""

from .agreement import Agreement as Agreement
from .agreement import format_agreement as format_agreement
from .agreement import measure_agreement as measure_agreement
from .alignment import Alignment as Alignment
from .alignment import measure_alignment as measure_alignment
from .alignment import measure_excess_alignment as measure_excess_alignment
from .denoiser import DenoiserError as DenoiserError
from .denoiser import measure_denoiser as measure_denoiser
from .flow_map import FlowMapError as FlowMapError
from .flow_map import SelfConsistency as SelfConsistency
from .flow_map import measure_flow_map as measure_flow_map
from .flow_map import measure_self_consistency as measure_self_consistency
from .gradients import GradientStatistics as GradientStatistics
from .gradients import gradient_statistics as gradient_statistics
from .noise import noise_law as noise_law
from .population import PopulationOptimum as PopulationOptimum
from .population import population_optimum as population_optimum
from .residual import EndpointScore as EndpointScore
from .residual import Residual as Residual
from .residual import flow_residual as flow_residual
from .residual import measure_endpoint_score as measure_endpoint_score
from .residual import measure_residual as measure_residual
from .residual import score_from_endpoint as score_from_endpoint
from .support import Support as Support
from .support import measure_support as measure_support

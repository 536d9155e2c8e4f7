"""Training: `Recipe`, `TrainState`, `train_step`, `fit`, and the checkpoints of a run (needs `equisct[train]`)."""

import importlib.util as _util

if _util.find_spec("orbax") is None or _util.find_spec("optax") is None:
    _found = 'equisct.train needs more than the library\'s core: pip install ".[train]"'
    raise ModuleNotFoundError(_found)

from .averages import AbstractAverage as AbstractAverage
from .averages import ConstantDecay as ConstantDecay
from .averages import PowerFunction as PowerFunction
from .averages import RampedDecay as RampedDecay
from .checkpoint import CheckpointStore as CheckpointStore
from .gradient import GradientNoise as GradientNoise
from .loop import Every as Every
from .loop import Moment as Moment
from .loop import NonFiniteError as NonFiniteError
from .loop import fit as fit
from .optimiser import restarting as restarting
from .placement import data_mesh as data_mesh
from .posthoc import reconstruct as reconstruct
from .posthoc import save_snapshot as save_snapshot
from .reading import read_checkpoint as read_checkpoint
from .state import Recipe as Recipe
from .state import TrainState as TrainState
from .state import init_state as init_state
from .step import StepReport as StepReport
from .step import compile_step as compile_step
from .step import train_step as train_step
from .weights import CheckpointError as CheckpointError
from .weights import load_weights as load_weights
from .weights import save_weights as save_weights

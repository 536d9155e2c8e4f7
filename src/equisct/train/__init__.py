"""Training: `Recipe`, `TrainState`, `train_step`, `fit`, and the checkpoint of a run (needs `equisct[train]`)."""

from .checkpoint import load_weights as load_weights
from .checkpoint import save_weights as save_weights
from .loop import NonFiniteError as NonFiniteError
from .loop import fit as fit
from .placement import data_mesh as data_mesh
from .state import Recipe as Recipe
from .state import TrainState as TrainState
from .state import init_state as init_state
from .step import StepReport as StepReport
from .step import train_step as train_step

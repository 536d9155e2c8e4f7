"""Pictures of a run: sample grids and training curves."""

from .curves import draw_curves as draw_curves
from .grid import draw_grids as draw_grids
from .grid import draw_scatters as draw_scatters

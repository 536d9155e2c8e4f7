"""Pictures of runs: sample grids, curves, the paper's figures, and a page of them all. Free of JAX."""

from .chart import Chart as Chart
from .chart import Line as Line
from .chart import Panel as Panel
from .chart import write_chart as write_chart
from .curves import draw_curves as draw_curves
from .figures import ablation_chart as ablation_chart
from .figures import losses_chart as losses_chart
from .figures import marginals_chart as marginals_chart
from .figures import terms_chart as terms_chart
from .figures import throughput_chart as throughput_chart
from .figures import training_chart as training_chart
from .grid import DATA as DATA
from .grid import draw_panels as draw_panels
from .grid import panel_images as panel_images
from .grid import png as png
from .grid import read_panel as read_panel
from .page import Gallery as Gallery
from .page import Picture as Picture
from .page import Section as Section
from .page import Table as Table
from .page import page as page
from .runs import Group as Group
from .runs import RunRows as RunRows
from .runs import group_runs as group_runs

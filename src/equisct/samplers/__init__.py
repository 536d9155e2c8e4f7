"""Samplers, as functions of a callable `(x_t, sigma) -> sample` and as modules with a name; one sample at a time.

`consistency` needs endpoints (where a PF-ODE path ends), `probability_flow` and `vp` posterior means.
"""

from .consistency import Multistep as Multistep
from .consistency import multistep as multistep
from .consistency import one_step as one_step
from .consistency import renoise_full as renoise_full
from .consistency import renoise_to_level as renoise_to_level
from .editing import colouring as colouring
from .editing import edit as edit
from .editing import inpainting as inpainting
from .editing import super_resolution as super_resolution
from .evaluations import count_evaluations as count_evaluations
from .interface import AbstractLevelSampler as AbstractLevelSampler
from .interface import AbstractSampler as AbstractSampler
from .interface import descending_levels as descending_levels
from .level_search import search_levels as search_levels
from .probability_flow import Churn as Churn
from .probability_flow import Euler as Euler
from .probability_flow import Heun as Heun
from .probability_flow import euler as euler
from .probability_flow import heun as heun
from .vp import DDIM as DDIM
from .vp import Ancestral as Ancestral
from .vp import ancestral as ancestral
from .vp import ddim as ddim

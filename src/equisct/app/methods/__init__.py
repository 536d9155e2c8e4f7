"""The methods of the command line, one file each: its settings, and `build`, which makes a `System` of library parts.

Files are free of JAX but inside `build`, so that help comes at once. A method of your own is one more such file,
anywhere (docs/extend.md).
"""

from ..settings.method import Method as Method
from ..settings.method import System as System
from .cd import CD as CD
from .consistency import AbstractConsistency as AbstractConsistency
from .consistency import AbstractDoubling as AbstractDoubling
from .ct import CT as CT
from .ddpm import DDPM as DDPM
from .ect import ECT as ECT
from .edm import EDM as EDM
from .ict import ICT as ICT
from .kd import KD as KD
from .pd import PD as PD
from .score_guidance import ScoreGuidance as ScoreGuidance
from .sct import SCT as SCT

"""What a training run records: rows of numbers, pictures, statistics per stage, speed. Free of JAX.

Everything here gets plain numbers and NumPy arrays of the host. `Window`, `StageMoments` and `Throughput` collect them;
trackers (`JsonLines`, `TensorBoard`, `WandB`, or one of your own) keep the rows; `Guarded` shields training from them.
"""

from .guarded import Guarded as Guarded
from .json_lines import Events as Events
from .json_lines import JsonLines as JsonLines
from .json_lines import read_rows as read_rows
from .moments import Moments as Moments
from .protocol import Tracker as Tracker
from .redaction import redact as redact
from .redaction import secret_in as secret_in
from .statistics import StageMoments as StageMoments
from .statistics import Update as Update
from .statistics import Window as Window
from .statistics import term_columns as term_columns
from .statistics import update_from_report as update_from_report
from .tensorboard import TensorBoard as TensorBoard
from .throughput import Throughput as Throughput
from .wandb import WandB as WandB

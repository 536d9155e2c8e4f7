"""Networks: one U-Net with switches, the score head's network, small MLPs; all on one channel-first sample."""

from ._conv import conv2d as conv2d
from .architectures import ddpm as ddpm
from .architectures import ddpmpp as ddpmpp
from .architectures import ncsnpp as ncsnpp
from .condition import ClassEmbedding as ClassEmbedding
from .condition import Embedder as Embedder
from .condition import GuidanceEmbedding as GuidanceEmbedding
from .condition import VectorEmbedding as VectorEmbedding
from .embedding import FourierEmbedding as FourierEmbedding
from .embedding import PositionalEmbedding as PositionalEmbedding
from .interface import HeadNetwork as HeadNetwork
from .interface import Torso as Torso
from .interface import TorsoOutput as TorsoOutput
from .log_weight import LogWeight as LogWeight
from .mlp import HeadMLP as HeadMLP
from .mlp import TorsoMLP as TorsoMLP
from .precision import Lowered as Lowered
from .score_head import EmbeddingEntry as EmbeddingEntry
from .score_head import HeadUNet as HeadUNet
from .unet import SongUNet as SongUNet

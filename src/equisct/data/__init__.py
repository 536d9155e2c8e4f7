"""Data in memory and in files: readers that check everything, loaders that are a function of the step. Free of JAX.

Notation: `images` are uint8, channel last, 0 to 255 (outside); `x` is float32, channel first, -1 to 1 (inside).
"""

from .array_records import ArrayRecordSet as ArrayRecordSet
from .array_records import write_array_record as write_array_record
from .arrays import load_conditions as load_conditions
from .arrays import load_npz as load_npz
from .cifar10 import load_cifar10 as load_cifar10
from .conditional import ConditionalSet as ConditionalSet
from .digits import load_digits as load_digits
from .errors import DataError as DataError
from .folder import ImageFolder as ImageFolder
from .grain_loader import GrainLoader as GrainLoader
from .idx import load_idx as load_idx
from .images import float_to_images as float_to_images
from .images import images_to_float as images_to_float
from .loader import Loader as Loader
from .loader import batch_flips as batch_flips
from .loader import batch_indices as batch_indices
from .loader import epoch_permutation as epoch_permutation
from .pairs import PairSet as PairSet
from .pairs import load_pairs as load_pairs
from .pairs import save_pairs as save_pairs
from .records import Dataset as Dataset
from .records import ImageSet as ImageSet
from .records import VectorSet as VectorSet

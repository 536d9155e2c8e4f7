"""What decides the numbers of a run and is no setting: its data, the software, devices and flags of JAX."""

import os
import pathlib
import platform
from typing import Any

import jax
from jax.sharding import Mesh

from ..._base.version import installed_version
from ...train.reading import newest_described
from ..settings.config import Config
from .folder import flat_settings
from .places import cores

PACKAGES = ("equisct", "jax", "jaxlib", "equinox", "optax", "numpy", "diffrax", "orbax-checkpoint")
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
FLAGS = (
    "threefry_partitionable", "default_prng_impl", "enable_custom_prng", "random_seed_offset", "enable_x64",
    "default_matmul_precision", "numpy_dtype_promotion", "high_dynamic_range_gumbel", "softmax_custom_jvp",
    "disable_jit", "disable_most_optimizations", "optimization_level", "exec_time_optimization_effort",
    "allow_f16_reductions", "use_direct_linearize", "use_shardy_partitioner",
)  # fmt: skip
"""Of JAX, each as `jax_NAME`: those that change random draws, precision, or which program is compiled."""


def describe_environment(mesh: Mesh) -> dict[str, Any]:
    """What the bits of a run depend on beside its configuration and data; no names of machine or user."""
    devices = list(mesh.devices.flat)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: installed_version(name) for name in PACKAGES},
        "devices": {"kind": devices[0].device_kind, "count": len(devices), "mesh": dict(mesh.shape)},
        "processes": jax.process_count(),
        "cores": cores(),
        "variables": {name: os.environ.get(name, "") for name in VARIABLES},
        "jax": {name: str(getattr(jax.config, f"jax_{name}", None)) for name in FLAGS},
    }


def differences(before: Any, after: dict[str, Any]) -> str:
    """What two environments both say, and not the same; empty where the first is none."""
    old, new = flat_settings(before if isinstance(before, dict) else {}), flat_settings(after)
    return ", ".join(f"{name} {old[name]} -> {new[name]}" for name in new if old.get(name, new[name]) != new[name])


def check_same_data(config: Config, folder: pathlib.Path, found: dict[str, Any]) -> None:
    """Raises `ValueError` if a run would go on with other samples, unless `run.allow_change` names them.

    Args:
        config: of the run.
        folder: of the run.
        found: the `fingerprint` of the data that there are now.
    """
    newest = newest_described(folder / "checkpoints")
    others = other_samples(newest.notes if newest is not None else {}, found)
    name = "data.path" if getattr(config.data, "path", None) else "data"
    if others and name not in config.run.allow_change:
        raise ValueError(
            f"{name}: expected the samples that this run has learned from, found {others}\n"
            f"give the path of those (--data.path), take another --run.dir, or allow others: --run.allow-change {name}"
        )


def other_samples(notes: dict[str, Any], found: dict[str, Any]) -> str:
    """The samples that a checkpoint notes, against those found; empty where they are the same, or none are noted."""
    before = notes.get("data")  # older versions noted nothing
    return f"{_in_words(found)}, not {_in_words(before)}" if isinstance(before, dict) and before != found else ""


def _in_words(data: dict[str, Any]) -> str:
    return f"{data.get('size')} of shape {data.get('shape')} with SHA-256 {str(data.get('sha256'))[:12]}"

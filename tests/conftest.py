"""Settings of the whole suite: CPU, a persistent compile cache, quick compilation, hypothesis profiles, `x64`."""

import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    quick = ["--xla_backend_optimization_level=0"]
    if importlib.metadata.version("jaxlib") == "0.10.2":  # a flag that XLA does not know ends the process
        quick += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *quick])

import jax
import pytest
from hypothesis import HealthCheck, settings

# "ci" draws the same examples every time; "search" draws new ones, to find what nobody thought of.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), max_examples=25, derandomize=True)
settings.register_profile("search", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def x64():
    """64-bit arithmetic during one test."""
    with jax.enable_x64(True):
        yield


LONGEST = ("test_systems", "test_documentation", "test_placement", "test_report_page", "test_cli", "test_precision")
"""Files of a minute and more come first, so that at the end no worker waits for one of them."""


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))

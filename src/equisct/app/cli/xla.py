"""The compiler flag that the commands set for runs on a CPU."""

import os

_FLAG = "--xla_backend_optimization_level=1"


def begin_jax(*, devices: bool = True) -> None:
    """Before a command's work is imported; raises `ValueError` where `devices` are needed and there are none."""
    prefer_quick_compilation()
    if devices:
        from ..runs.places import check_platform

        check_platform()


def prefer_quick_compilation() -> None:
    """Halves the time to compile for a CPU at the same speed of the result; call before JAX is imported.

    Does nothing where `JAX_PLATFORMS` asks for another platform, `XLA_FLAGS` names a level already, or there is a GPU's
    driver (the level counts for GPUs too).
    """
    flags = os.environ.get("XLA_FLAGS", "")
    cpu = os.environ.get("JAX_PLATFORMS", "cpu") == "cpu" and not os.path.exists("/proc/driver/nvidia")
    if cpu and "xla_backend_optimization_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}".strip()

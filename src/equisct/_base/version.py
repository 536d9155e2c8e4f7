"""Which version of a package is installed. Free of JAX."""

import contextlib
import importlib.metadata


def installed_version(name: str) -> str | None:
    """The installed version; None for a package that is imported from its source."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None

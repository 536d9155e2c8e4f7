"""Methods of other packages: whatever the entry points of the group `equisct_methods` import."""

import importlib.metadata

GROUP = "equisct_methods"


def load_plugins() -> None:
    """Imports the modules that installed packages name; each registers its methods and presets by being imported."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()

"""Parts of a run from settings: networks, models, samplers, distances. What every method builds with."""

"""From settings to the library's parts: networks, models, objectives, samplers, recipes, data sets, features."""

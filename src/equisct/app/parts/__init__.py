"""From settings to what a run is made of: data sets, models, samplers, recipes, networks of features."""

"""Sweeps that come with the project, by name: `layerwise run digits`."""

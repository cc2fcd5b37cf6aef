"""Objects that Python users call: sweeps, runs, and results as tables, charts and networks.

The package `layerwise` names these things. Imports `cluster`, `report` and the rooms below them;
heavy libraries are imported inside functions. Nothing here prints, exits, or reads `sys.argv`.
"""

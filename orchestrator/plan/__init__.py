"""A `Sweep` becomes a `Plan`: a graph of trials, each with an id made of its content.

Imports `orchestrator.sweep`, `orchestrator.store` (to read files of weights), `orchestrator.errors`
and `trainers`. All of it is pure, except `resolve`, `descriptions` and `weights`, which look at the
datasets, the networks and the files of weights that a sweep names.
"""

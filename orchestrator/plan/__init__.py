"""A `Sweep` becomes a `Plan`: a graph of trials, each with an id made of its content.

Imports `orchestrator.sweep`, `orchestrator.errors` and `trainers`. All of it is pure, except
`resolve` and `descriptions`, which look at the dataset and the networks that a sweep names.
"""

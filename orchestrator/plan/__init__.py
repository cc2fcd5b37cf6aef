"""A `Sweep` becomes a `Plan`: a graph of trials, each with an id made of its content.

Imports `orchestrator.sweep`, `orchestrator.store` (to read files of weights), `orchestrator.errors`
and `trainers`. All of it is pure, with two exceptions: `resolve`, `descriptions` and `weights` look
at the datasets, the networks and the files of weights that a sweep names, and `cost.device_of` may
read a file of measurements.
"""

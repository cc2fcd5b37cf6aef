"""Checkpoints and tables in a folder or an object store: paths, names, schemas, whole files.

Imports `trainers`, `orchestrator.errors`, pyarrow and filelock; knows no sweep, no plan and no Ray.
"""

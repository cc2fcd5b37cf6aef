"""A YAML file becomes a `Sweep`: frozen, strict, complete, with a line for every mistake.

The only room that imports PyYAML and pydantic. It imports `orchestrator.errors` and `trainers`, and
looks at no dataset and no network.
"""

"""A plan becomes rows, on whatever runs it: this process, or a cluster.

`frontier` decides what starts next, `run` joins it to the store, `worker` trains one network.
`suggestions` alone imports Optuna. May import plan, sweep, store and trainers; no Ray, no rich.
"""

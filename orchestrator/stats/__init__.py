"""Statistics: rows of trials become effects, levels and learning speed, with intervals.

Start at `statistics.Statistics`. May import `store` and `trainers`, numpy and scipy. All
but reading the tables is pure.
"""

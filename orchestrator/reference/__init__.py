"""Reference: the published results of Yosinski et al. 2014, as tables of our own schemas.

`published` holds the rows, `recomputed` the paper's table and figures, `power` what a design can
detect. May import `stats`, `store` and `trainers`.
"""

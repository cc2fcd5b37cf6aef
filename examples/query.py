"""Read a store without layerwise: with DuckDB, Polars and pandas.

layerwise run digits
python examples/query.py results
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl


def mean_accuracy(store: Path, sweep: str) -> pl.DataFrame:
    """Return the mean test accuracy of a sweep's treatments and layers, with Polars.

    A store may hold trials of several sweeps. `sweeps/` says which trial belongs to which.
    """
    trials = pl.read_parquet(store / "trials/*.parquet").select("id", "outcome", "top1")
    trials = trials.filter(pl.col("outcome") == "complete")
    members = pl.read_parquet(store / f"sweeps/{sweep}.parquet")
    return (
        members.join(trials, on="id")
        .group_by("treatment", "frozen", "n")
        .agg(pl.col("top1").mean().round(3), pl.len().alias("networks"))
        .sort("treatment", "frozen", "n")
    )


def slowest(store: Path) -> list[tuple[str, float]]:
    """Return the names and the seconds of training of the three slowest trials, with DuckDB."""
    trials = duckdb.read_parquet(str(store / "trials/*.parquet"))
    rows = (
        trials.filter("outcome = 'complete'")
        .project("name, round(seconds_train, 2) AS s")
        .order("s DESC")
        .limit(3)
    )
    return rows.fetchall()


def learning_curve(store: Path) -> pd.Series:
    """Return the mean validation accuracy of the bases at each step, with pandas."""
    trials = pd.concat(map(pd.read_parquet, sorted(store.glob("trials/*.parquet"))))
    curves = pd.concat(map(pd.read_parquet, sorted(store.glob("curves/*.parquet"))))
    rows = curves.merge(trials[["id", "attempt", "treatment"]], on=["id", "attempt"])
    return rows[rows["treatment"] == "base"].groupby("step")["val_top1"].mean()


def main() -> None:
    store = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    sweep = sys.argv[2] if len(sys.argv) > 2 else "digits"
    print(mean_accuracy(store, sweep))
    for name, seconds in slowest(store):
        print(f"{name}: {seconds} s")
    print(learning_curve(store).tail(3))


if __name__ == "__main__":
    main()

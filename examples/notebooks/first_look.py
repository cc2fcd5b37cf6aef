"""A first look: train a small sweep, see its effects, ask it questions.

Open it with `marimo edit first_look.py`, or run it with `python first_look.py`. About 20 seconds.
"""

import marimo

app = marimo.App(width="medium", app_title="A first look")


@app.cell
def _():
    import marimo as mo

    import layerwise as lw

    return lw, mo


@app.cell
def _(mo):
    mo.md(
        """
        # A first look

        A network learns five of the ten digits, the half A. Its first n layers are copied into a
        new network and held fixed; the others learn the other five digits, the half B. How much
        accuracy does that cost? This sweep trains the networks that answer it.
        """
    )


@app.cell
def _(lw):
    sweep = lw.Sweep(
        name="first_look",
        dataset="digits",
        splits={"random": [0, 1]},
        treatments=["base", "selffer", "transfer", "random"],
        layers=[1, 3, 5],
        keep="all",
        recipe={
            "rate": 0.03,
            "momentum": 0.9,
            "batch": 32,
            "steps": 60,
            "evaluate_every": 20,
            "schedule": {"family": "cosine", "warmup": 0.1},
        },
    )
    lw.plan(sweep)
    return (sweep,)


@app.cell
def _(lw, sweep):
    # Networks that the store has already are not trained again.
    results = lw.run(sweep, "results", inline=True)
    results.effects()
    return (results,)


@app.cell
def _(mo):
    mo.md(
        """
        Each line is a way to use n layers, as the difference to a network that learned all its
        layers itself. `AnB` has the layers of the other half, `BnB` its own, `random` has random
        filters. Two splits are too few for an interval that tells anything.
        """
    )


@app.cell
def _(results):
    # The same numbers as a table. Polars, DuckDB and Arrow work as well.
    effects = results.effects.pandas()
    effects[effects.at_chance == "included"].pivot_table("estimate", "effect", "n").round(3)


@app.cell
def _(results):
    # A question in SQL: which networks were the least accurate?
    worst = results.query(
        "SELECT name, treatment, n, top1 FROM results WHERE sweep = 'first_look' "
        "ORDER BY top1 LIMIT 5"
    )
    worst
    return (worst,)


@app.cell
def _(results):
    results.curves("A3B s0")


if __name__ == "__main__":
    app.run()

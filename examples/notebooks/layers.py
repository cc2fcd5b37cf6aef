"""Into a network: its filters, and in how many directions its layers spread known and new digits.

Run `first_look.py` first: this notebook looks into the networks that it has trained. Then open it
with `marimo edit layers.py`, or run it with `python layers.py`.
"""

import marimo

app = marimo.App(width="medium", app_title="Into a network")


@app.cell
def _():
    import altair as alt
    import marimo as mo
    import numpy as np

    import layerwise as lw

    return alt, lw, mo, np


@app.cell
def _(lw):
    results = lw.open("results", "first_look")
    return (results,)


@app.cell
def _(results):
    # The network that learned half A of split s0: an ordinary torch module.
    network = results.load_network("A s0")
    network
    return (network,)


@app.cell
def _(alt, network, np):
    # The eight filters of the first layer, each 3×3 pixels.
    filters = network[0].conv.weight.detach().numpy()[:, 0]
    pixels = [
        {"filter": int(k), "row": int(i), "column": int(j), "weight": float(filters[k, i, j])}
        for k, i, j in np.ndindex(filters.shape)
    ]
    alt.Chart(alt.Data(values=pixels)).mark_rect().encode(
        x=alt.X("column:O", axis=None),
        y=alt.Y("row:O", axis=None),
        color=alt.Color("weight:Q", scale=alt.Scale(scheme="blueorange", domainMid=0)),
        facet=alt.Facet("filter:O", columns=8, title=None),
    ).properties(width=60, height=60)
    return (filters,)


@app.cell
def _(mo):
    mo.md(
        """
        ## Known and new digits

        `AnA` and `AnB` have the same first n layers, those of the network of half A. They see the
        digits of A, which these layers have learned, and those of B, which they have not. The
        participation ratio counts the directions in which the outputs of layer n vary.
        """
    )


@app.cell
def _(np):
    def participation(vectors):
        """Return (Σλ)² / Σλ² over the eigenvalues λ of the covariance."""
        values = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))
        return float(values.sum() ** 2 / (values**2).sum())

    return (participation,)


@app.cell
def _(alt, participation, results):
    directions = [
        {"layer": n, "digits": f"half {half}", "directions": participation(vectors)}
        for n in (1, 3, 5)
        for half in "AB"
        for vectors in [results.features(f"A{n}{half} s0", n, pool="none")]
    ]
    alt.Chart(alt.Data(values=directions)).mark_line(point=True).encode(
        x="layer:O", y="directions:Q", color="digits:N"
    ).properties(width=320)
    return (directions,)


if __name__ == "__main__":
    app.run()

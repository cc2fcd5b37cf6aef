"""Results as tables, charts and pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.api.results import Results, open_results
from orchestrator.api.tables import Table
from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.report import rendering
from orchestrator.report.query import VIEWS
from orchestrator.store.store import Store
from tests.s3_server import S3Server
from tests.synthetic import digits


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a synthetic sweep."""
    root = tmp_path_factory.mktemp("results")
    digits(splits=("s0", "s1"), layers=(1, 2, 3)).write(Store(root))
    return open_results(root, "demo")


def test_a_store_opens_by_its_place(results: Results, tmp_path: Path) -> None:
    whole = open_results(results.store.root)
    assert whole.sweeps == ["demo"]
    assert repr(whole) == f"<Results of 1 sweep in {results.store.root}>"
    assert whole.sweep("demo")._repr_html_() == f"<p>{repr(results)[1:-1]}</p>"
    with pytest.raises(LayerwiseError, match=r"^no store at .*none: run a sweep first"):
        open_results(tmp_path / "none")
    with pytest.raises(StoreError, match=r"no sweep 'dmo'.*did you mean 'demo'"):
        open_results(results.store.root, "dmo")


def test_a_store_may_be_a_bucket(s3: S3Server) -> None:
    uri = s3.new_bucket()
    digits(splits=("s0",), layers=(1,)).write(Store(uri))
    remote = open_results(uri, "demo")
    assert repr(remote) == f"<Results of sweep demo in {remote.store.root}>"
    assert len(remote.trials) == 14
    assert remote.query("SELECT count(*) AS n FROM results").arrow().to_pylist() == [{"n": 14}]


def test_every_view_is_a_table(results: Results) -> None:
    for name, (schema, _) in VIEWS.items():
        assert results.table(name).arrow().column_names == schema.names
    attributes = ("results", "trials", "curves", "classes", "effects", "levels", "decomposition")
    for name in (*attributes, "table1", "speed", "failures", "cost", "paper"):
        assert getattr(results, name).name == name
    with pytest.raises(LayerwiseError, match="no table 'effect'; did you mean 'effects'"):
        results.table("effect")


def test_a_table_has_the_same_rows_in_every_library(results: Results) -> None:
    table = results.effects
    rows = len(table)
    assert table.arrow().num_rows == len(table.pandas()) == len(table.polars()) == rows
    assert table.duckdb().aggregate("count(*)").fetchall() == [(rows,)]
    import polars as pl

    assert len(pl.DataFrame(table)) == rows  # by Arrow's interface
    assert table.columns["n"].startswith("number of first layers")
    assert repr(table).startswith(f"<Table effects: {rows} rows of sweep, effect, n, ")


def test_a_notebook_shows_the_first_rows(results: Results) -> None:
    html = results.trials._repr_html_()
    assert html.count("<tr>") == 21
    assert html.endswith("<p>68 rows, 20 are shown</p>")
    assert "<p>" not in results.table1._repr_html_()


def test_a_library_that_is_missing_is_named(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(LayerwiseError, match=r"^pandas is not installed: pip install pandas$"):
        results.trials.pandas()


def test_a_query_is_a_table(results: Results) -> None:
    answer = results.query("SELECT count(*) AS n FROM trials")
    assert isinstance(answer, Table)
    assert answer.arrow().to_pylist() == [{"n": 68}]
    with pytest.raises(LayerwiseError, match=r"nothing.* the tables are results"):
        results.query("SELECT * FROM nothing")


def test_charts_say_in_words_what_they_show(results: Results) -> None:
    effects = results.effects()
    assert effects.text.startswith("Mean difference to the own base, points. ")
    assert "AnB from " in effects.text
    assert "co-adaptation" in results.decomposition().text
    assert "AnB+ − base" in results.table1().text
    curve = results.curves("A3B+ s0")
    assert curve.text.startswith("A3B+ s0: top-1, %. validation from ")
    assert results.curves().text.startswith("Mean validation top-1, %. n = 1. AnB ")
    with pytest.raises(LayerwiseError, match="no trial 'A9B s0'; expected an id or a name such"):
        results.curves("A9B s0")
    message = r"^effects\(\) draws the whole sweep; curves\('A3B s0'\) draws one trial$"
    with pytest.raises(LayerwiseError, match=message):
        results.effects("A3B s0")


def test_charts_show_and_save_themselves(results: Results, tmp_path: Path) -> None:
    figure = results.effects()
    html = figure._repr_html_()
    assert html.startswith(f'<figure role="img" aria-label="{figure.text}"')
    assert "<svg" in html
    starts = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF", "json": b"{"}
    for kind, start in starts.items():
        assert figure.save(tmp_path / f"figure.{kind}").read_bytes().startswith(start)
    assert figure._repr_png_().startswith(starts["png"])
    assert figure.chart.to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    with pytest.raises(LayerwiseError, match=r"expected a name that ends in \.png"):
        figure.save(tmp_path / "figure.gif")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(LayerwiseError, match=r"^cannot write .*folder\.svg: it is not a file$"):
        figure.save(tmp_path / "folder.svg")


def test_the_report_is_a_page(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"picture")
    )
    assert "less than 1 point of test top-1?" in results.report(margin=1).path.read_text()
    page = results.report()
    assert page.path == Path(results.store.root) / "reports/demo/index.html"
    assert repr(page) == f"<Page {page.path}>"
    assert "&lt;!doctype html&gt;" in page._repr_html_()
    with pytest.raises(LayerwiseError, match=r"^name a sweep: report\('demo'\)$"):
        open_results(results.store.root).report()


def test_sweeps_are_compared_and_trials_explained(
    results: Results, trained: tuple[Results, list[str]]
) -> None:
    same = results.compare("demo").arrow().to_pylist()
    assert {(row["difference"], row["paired"]) for row in same} == {(0.0, True)}
    assert len(results.compare("paper", relative=True)) > 0
    assert len(results.compare(results, relative=True)) == len(same) - 1
    assert trained[0].explain("A1B s0")["state"] == "complete"
    with pytest.raises(LayerwiseError, match=r"^name a sweep first: "):
        open_results(results.store.root).explain("A1B s0")


def test_another_metric_has_other_numbers(results: Results) -> None:
    assert set(results.by("top1_at_best").effects.arrow()["metric"].to_pylist()) == set()
    with pytest.raises(LayerwiseError, match=r"^no metric 'val_mean'; did you mean 'val_mean10'"):
        results.by("val_mean")
    with pytest.raises(LayerwiseError, match=r"^no metric 'x'; expected one of top1, "):
        results.by("x")

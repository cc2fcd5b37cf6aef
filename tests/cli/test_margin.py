"""The margin of every answer on frozen layers: of the report, of the advice, and from Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.api.results import open_results
from orchestrator.margin import MARGIN
from orchestrator.report import rendering
from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.synthetic import Label, Synthetic

Layerwise = Callable[..., Ended]
PAGE = Path("results/reports/small/index.html")


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow parts of a page: the JavaScript and the pictures."""
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"picture")
    )


def margin_of(page: Path) -> float:
    """Return the margin that the question of a report names, in points."""
    (points,) = re.findall(r"for less than (\S+) points? of", page.read_text(encoding="utf-8"))
    return float(points)


@pytest.mark.usefixtures("full")
def test_every_answer_has_the_same_margin_by_default(layerwise: Layerwise) -> None:
    margins = {}
    for command in (("report", "small"), ("run", "small.yaml", "--inline")):
        assert layerwise(*command).code == 0
        margins[command[0]] = margin_of(PAGE)
        PAGE.unlink()
    margins["Results.report"] = margin_of(open_results("results", "small").report().path)
    (answer,) = json.loads(layerwise("advise", "small", "--json").out)
    margins["advise"] = 100 * answer["margin"]
    assert set(margins.values()) == {100 * MARGIN}, margins


def test_a_page_has_one_margin(
    layerwise: Layerwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweeps of named tasks have both answers on their page."""
    monkeypatch.chdir(tmp_path)
    sweep = Synthetic("small")
    for draw in ("d0", "d1"):
        place = {"split": draw, "target": "B", "division": "weights old to mine"}
        sweep.add(Label(treatment="base", **place), 0.5)
        sweep.add(Label(treatment="transfer", n=1, frozen=True, **place), 0.9)
    sweep.write(Store("results"))
    for arguments, margin in (((), 100 * MARGIN), (("--margin", "3"), 3.0)):
        assert layerwise("report", "small", *arguments).code == 0
        assert margin_of(PAGE) == margin
        assert f"The margin is {margin} points." in PAGE.read_text(encoding="utf-8")

"""The page of pictures: one file that loads nothing else, and its figures as PNG."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.execution.pictures import Picture
from orchestrator.report import rendering
from orchestrator.report.charts import SERIES
from orchestrator.report.pictures import MOST_NAMED, write_pictures
from trainers.pictures import Map, sheet

NASTY = "<script>alert('x')</script>"


def picture(name: str, classes: list[str]) -> Picture:
    images = np.arange(len(classes))
    filters = sheet(np.arange(36, dtype=np.uint8).reshape(4, 3, 3))
    thumbnails = ["data:,"] * len(images)
    return Picture(name, filters, Map(np.ones((len(images), 2)), images, classes, thumbnails))


def marks(page: str, figure: str, panel: int) -> list[list[dict[str, Any]]]:
    """The rows of each mark of a panel."""
    (text,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    spec = json.loads(text)[figure][panel]["spec"]
    data = [layer.get("data", spec.get("data")) for layer in spec["layer"]]
    return [one.get("values") or spec["datasets"][one["name"]] for one in data]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow parts: the JavaScript and the PNG."""
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"png")
    )


def test_a_page_and_two_figures(tmp_path: Path) -> None:
    path = write_pictures([picture("A s0", ["3", "7"])], "demo", 4, "tsne", tmp_path / "to")
    assert path == tmp_path / "to" / "index.html"
    assert sorted(x.name for x in path.parent.iterdir()) == ["filters.png", "index.html", "map.png"]
    for name in ("filters.png", "map.png"):
        assert path.with_name(name).read_bytes().startswith(b"\x89PNG\r\n")
    page = path.read_text()
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    assert re.findall(r"<[^>]*(?:src|href)=[\"']?([^\"'>\s]+)", markup) == ["data:,"]
    assert "<title>layerwise: pictures of demo</title>" in page
    assert "Validation images by the outputs of layer 4" in page
    assert "Which layers transfer?" not in page


@pytest.mark.usefixtures("light")
def test_every_image_is_a_mark_in_the_colour_of_its_class(tmp_path: Path) -> None:
    both = [picture("A s0", ["10", "2", "10"]), picture("B s0", ["3", "2"])]
    page = write_pictures(both, "demo", 4, "pca", tmp_path).read_text()
    points, names = marks(page, "map", 0)
    shown = [(row["number"], row["label"], row["colour"], row["image"]) for row in points]
    assert shown == [
        (0, "10", SERIES[2], "data:,"),
        (1, "2", SERIES[0], "data:,"),
        (2, "10", SERIES[2], "data:,"),
    ]
    assert {row["label"] for row in names} == {"2", "10"}
    assert [row["colour"] for row in marks(page, "map", 1)[0]] == [SERIES[1], SERIES[0]]
    ((sheet_of_filters,),) = marks(page, "filters", 1)
    assert sheet_of_filters["url"] == both[1].filters.address
    assert "principal components" in page


@pytest.mark.usefixtures("light")
def test_names_of_many_classes_are_left_to_the_hover(tmp_path: Path) -> None:
    many = [str(index) for index in range(MOST_NAMED + 1)]
    page = write_pictures([picture("A s0", many)], "demo", 1, "tsne", tmp_path).read_text()
    points, names = marks(page, "map", 0)
    assert (len(points), names) == (len(many), [])


@pytest.mark.usefixtures("light")
def test_names_are_escaped(tmp_path: Path) -> None:
    page = write_pictures([picture(NASTY, [NASTY])], NASTY, 1, "tsne", tmp_path).read_text()
    assert NASTY not in page


@pytest.mark.usefixtures("light")
def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "to").write_text("mine")
    with pytest.raises(LayerwiseError, match=r"^cannot write .*/to: "):
        write_pictures([picture("A s0", ["1"])], "demo", 1, "tsne", tmp_path / "to")
    assert (tmp_path / "to").read_text() == "mine"

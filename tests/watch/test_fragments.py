"""The parts of the page: what they say in every state, and that only what changed is sent."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from orchestrator.report.charts import DARK
from orchestrator.watch import fragments
from orchestrator.watch.drawing import Drawing
from orchestrator.watch.observation import Observation, Observer, Running
from tests import watched
from tests.watch.conftest import Make

VOID = {"meta", "link", "img", "br", "rect", "polyline", "path", "line"}


class Tags(HTMLParser):
    """The tags of a page. Raises `AssertionError` for one that is closed at a wrong place."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


def page_of(seen: Observation, drawing: Drawing | None = None) -> str:
    return fragments.page(seen, fragments.fragments(seen, drawing, "a-token"), "a-token")


@pytest.mark.parametrize("state", watched.STATES)
def test_the_page_of_every_state(state: str, make: Make) -> None:
    seen = Observer(make(state).root, "").look()
    tags = Tags(page_of(seen, Drawing(svg="<svg><path/></svg>", text="a figure")))
    ids = [found["id"] for _, found in tags.seen if "id" in found]
    assert len(ids) == len(set(ids))
    assert set(fragments.NAMES) <= set(ids)
    for tag, found in tags.seen:
        assert not [name for name in found if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert re.match(r"data:,|watch\.|\?token=a-token&sweep=|$", found.get(name) or "")
    assert [found.get("src") for tag, found in tags.seen if tag == "script"] == [
        "watch.js?token=a-token"
    ]


def test_names_and_reasons_are_text(make: Make) -> None:
    text = page_of(Observer(make("hostile").root, "").look())
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_the_words_of_a_running_sweep(make: Make) -> None:
    seen = Observer(make("running").root, "").look()
    parts = fragments.fragments(seen, Drawing("<svg/>", "in words", 1234, "Bands are.", 2), "t")
    assert parts["title"] == "Sweep demo"
    assert 'data-title="61 % · demo"' in parts["state"]
    assert "<dt>time left</dt><dd>12:34</dd>" in parts["state"]
    assert "5<span" in parts["map"]
    assert "complete, 1 failed" in parts["map"]
    assert '<td class="cell" colspan="7">' in parts["map"]
    assert 'aria-label="in words"><div aria-hidden="true"><svg/></div>' in parts["figure"]
    assert "From 1,234 complete networks." in parts["figure"]
    assert "Bands are." in parts["figure"]
    assert "2 more populations" in parts["figure"]
    assert "validation from" in parts["running"]
    assert "loss is nan at step 200" in parts["failures"]
    assert (parts["sweeps"], parts["notes"]) == ("", "")


def test_what_is_not_there_yet(make: Make) -> None:
    parts = fragments.fragments(Observer(make("empty").root, "").look(), None, "t")
    assert parts["title"] == "Waiting for a sweep"
    assert "No run has recorded any sweep in " in parts["state"]
    assert "Cells appear here" in parts["map"]
    assert "Lines appear here" in parts["figure"]
    seen = Observer(make("one trial").root, "").look()
    parts = fragments.fragments(seen, Drawing(text="no effect yet: a network"), "t")
    assert ">No effect yet: a network.<" in parts["figure"]
    assert "The figure is being drawn." in fragments.fragments(seen, None, "t")["figure"]


def test_files_that_cannot_be_read_are_named() -> None:
    files = tuple(f"file {number}: half of it" for number in range(7))
    notes = fragments.fragments(Observation(sweep="x"), Drawing(damaged=files), "t")["notes"]
    assert "7 files cannot be read and are left out of the figure: file 0: half of it; " in notes
    assert "file 2: half of it; and 4 more" in notes
    assert "file 3" not in notes


def test_links_to_other_sweeps(make: Make) -> None:
    seen = Observer(make("several").root, "").look()
    links = fragments.fragments(seen, None, "a&b")["sweeps"]
    assert '<a href="?token=a%26b&amp;sweep=first">first</a>' in links
    assert '<strong aria-current="page">second</strong>' in links


def test_only_changed_parts_are_sent(make: Make) -> None:
    seen = Observer(make("running").root, "").look()
    parts = fragments.fragments(seen, None, "t")
    assert fragments.changed(parts, fragments.hashes(parts)) == {}
    assert fragments.changed(parts, "") == parts
    other = fragments.fragments(seen, Drawing(text="none yet"), "t")
    assert list(fragments.changed(other, fragments.hashes(parts))) == ["figure"]


def test_curves_have_the_same_scales() -> None:
    runs = [Running("a", 100, [(50, 0.2), (100, 0.6)]), Running("b", 200, [(200, 0.4)])]
    parts = fragments.fragments(Observation(sweep="x", running=runs), None, "t")
    assert '<polyline points="45.0,32.0 90.0,2.0"/>' in parts["running"]
    assert '<polyline points="180.0,17.0"/>' in parts["running"]
    assert "20 to 60 %" in parts["running"]


def test_the_figure_has_colours_for_dark_pages() -> None:
    sheet = fragments.style_sheet()
    for day, night in DARK.items():
        assert f'.figure [stroke="{day}"] {{ stroke: {night}; }}' in sheet
    assert '.figure [fill="white"] { fill: none; }' in sheet
    assert "url(" not in sheet
    assert "@import" not in sheet

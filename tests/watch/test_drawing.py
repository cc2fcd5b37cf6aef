"""The figure and its numbers, and the process that draws it."""

from __future__ import annotations

import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from orchestrator.watch import drawing
from orchestrator.watch.drawing import Drawer, Drawing, draw
from tests import watched
from tests.watch.conftest import Make

PATIENCE = 120.0


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    made = Drawer()
    yield made
    made.close()


def test_the_figure_of_a_running_sweep(make: Make) -> None:
    drawn = draw(make("running").root, "demo")
    svg = ET.fromstring(drawn.svg)
    words = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"AnB", "AnB+", "BnB", "BnB+", "random", "base_long"} <= words
    assert "style=" not in drawn.svg
    assert "<script" not in drawn.svg
    assert drawn.text.startswith("Mean difference to the own base, points. ")
    assert drawn.note == "Bands and bars are pointwise 95 %: t interval over 4 to 6 splits."
    assert drawn.networks == 273
    assert drawn.times["base", 0] == 60.0
    assert (drawn.left_out, drawn.damaged) == (0, ())


def test_no_figure_without_an_effect(make: Make) -> None:
    drawn = draw(make("one trial").root, "demo")
    assert drawn == Drawing(
        text="no effect yet: a network and its base must be complete",
        seconds=(("base", 0, 60.0),),
    )


def test_a_sweep_that_is_gone(tmp_path: Path) -> None:
    assert draw(str(tmp_path), "demo").text.startswith("no sweep 'demo' in ")


def test_files_that_cannot_be_read_are_left_out(make: Make) -> None:
    drawn = draw(make("half copied").root, "demo")
    assert drawn.svg
    assert len(drawn.damaged) == 9
    assert drawn.damaged[0].endswith(": its content is not what its name says")


def test_many_populations_are_not_all_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_PANELS", 1)
    made = watched.sweep(1.0)
    other = {"division": "random-3"}
    made.members = [{**row, **(other if row["split"] > "s3" else {})} for row in made.members]
    made.write(Store(tmp_path))
    drawn = draw(str(tmp_path), "demo")
    assert drawn.left_out == 1
    assert drawn.note == ""


def test_the_process_draws_what_is_asked_for(make: Make, drawer: Drawer) -> None:
    store = make("complete")
    drawer.ask(store.root, "demo")
    assert drawer.is_busy
    drawn = drawer.answer(PATIENCE)
    assert drawn == draw(store.root, "demo")
    assert not drawer.is_busy
    process = drawer.process
    drawer.ask(store.root, "other")
    assert drawer.answer(PATIENCE).text.startswith("no sweep 'other'")  # type: ignore[union-attr]
    assert drawer.process is process
    assert process


def test_a_process_that_dies_is_replaced(make: Make, drawer: Drawer) -> None:
    store = make("one trial")
    drawer.ask(store.root, "demo")
    assert drawer.process
    drawer.process.send_signal(signal.SIGKILL)
    drawn = drawer.answer(PATIENCE)
    assert drawn
    assert drawn.text == "the figure could not be drawn; the terminal says why"
    drawer.ask(store.root, "demo")
    again = drawer.answer(PATIENCE)
    assert again
    assert again.text.startswith("no effect yet")


def test_a_process_draws_so_many_figures(
    make: Make, drawer: Drawer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "DRAWN", 1)
    store, processes = make("one trial"), set()
    for _ in range(2):
        drawer.ask(store.root, "demo")
        assert drawer.answer(PATIENCE)
        assert drawer.process
        processes.add(drawer.process.pid)
    assert len(processes) == 2


def test_an_answer_that_is_not_there(make: Make, drawer: Drawer) -> None:
    drawer.ask(make("one trial").root, "demo")
    assert drawer.answer(0.0) is None
    assert drawer.is_busy
    drawer.close()
    assert not drawer.is_busy

"""Long runs are recorded, go on where they ended, and the page has their sum."""

from __future__ import annotations

from pathlib import Path

from tests.simulation import __main__ as command
from tests.simulation import records

PAGE = Path(__file__).parents[2] / "docs" / "safety.md"


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    assert command.at_random(None, 31, 1, file) == 0
    assert command.at_random(None, 1, 1, file) == 0
    first, second = records.read(file)
    assert (first.first, first.last, first.sweeps, first.faults, first.wrong) == (0, 1, 2, 60, 0)
    assert (second.first, second.last, second.faults) == (2, 2, 30)
    assert records.total([first, second]) == {"sweeps": 3, "faults": 90, "wrong": 0}


def test_the_page_has_the_sum_of_the_records() -> None:
    sums = records.total(records.read())
    said = f"{sums['faults']:,} faults in {sums['sweeps']:,} sweeps, {sums['wrong']} with problems"
    assert said in " ".join(PAGE.read_text().split())

"""Wrong options of benchmarks end with one line that says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import caffenet, cluster, driver_tune, versus_tune
from benchmarks import input as images_in


@pytest.mark.parametrize(
    ("benchmark", "arguments"),
    [
        (caffenet, ["--batch", "0"]),
        (caffenet, ["--frozen", "8"]),
        (caffenet, ["--engines", "fast"]),
        (cluster, ["--only", "nothing"]),
        (cluster, ["--full", "--trials", "5"]),
        (cluster, ["--slots", "0"]),
        (driver_tune, ["--trials", "2000"]),
        (driver_tune, ["--slots", "0"]),
        (driver_tune, ["--slots", "8", "--trials", "23"]),
        (images_in, ["--repeat", "0"]),
        (images_in, ["--images", "8", "--batch", "9"]),
        (versus_tune, ["--full", "--splits", "2"]),
        (versus_tune, ["--repeat", "0"]),
        (versus_tune, ["--splits", "x"]),
        (versus_tune, ["--fast"]),
    ],
)
def test_wrong_options(
    benchmark: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.options(arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err

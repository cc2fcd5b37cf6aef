"""Failed assertions of the shared helpers show both sides, as those of test modules do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.trainers.runs")

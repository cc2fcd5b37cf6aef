"""Stores in a folder and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.store import Store


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """Store in a folder."""
    return Store(tmp_path / "store")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Store of each kind, so that every implementation passes the same tests."""
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3").new_bucket())

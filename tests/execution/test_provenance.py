"""The commit in a row: asked of git without running what a repository's settings name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.execution.provenance import git_commit


def test_a_repository_that_is_asked_for_its_commit_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        names = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        line = ["git", *names, *arguments]
        return subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    def asked() -> str | None:
        git_commit.cache_clear()
        return git_commit()

    monkeypatch.chdir(tmp_path)
    git("init")
    (tmp_path / "sweep.yaml").write_text("name: mine\n")
    (tmp_path / ".gitattributes").write_text("* filter=evil diff=evil\n")
    git("add", ".")
    assert asked() is None
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    run = tmp_path / "run.sh"
    run.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    run.chmod(0o755)
    for key in ("core.fsmonitor", "filter.evil.clean", "diff.evil.textconv", "diff.external"):
        git("config", key, str(run))
    assert asked() == commit
    (tmp_path / "sweep.yaml").write_text("name: more\n")
    assert asked() == f"{commit}+"
    assert not (tmp_path / "ran").exists()
    git_commit.cache_clear()

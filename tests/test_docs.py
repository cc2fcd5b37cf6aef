"""The documentation is true: every command in the README and in the sweep files runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from orchestrator import cli, sweep_file
from orchestrator.tables import SCHEMAS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ["--set", "splits.random=[2]", "--set", "recipe.steps=4", "--set", "layers=[3]"]
SMALL += ["--set", "recipe.evaluate_every=2"]
FEW = ["--set", "fine_tune.search.trials=2", "--set", "fine_tune.search.splits=[100]"]
FEW += ["--set", "fine_tune.search.layers=[3]"]


def commands() -> list[str]:
    """The commands of the README's console blocks and of the sweep files' headers."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        found += block.splitlines()
    for name in sweep_file.bundled():
        header = sweep_file.read(name)[0]
        found += re.findall(r"^#\s+(?:Run:\s+)?(layerwise .*?)(?:\s{2,}.*)?$", header, re.MULTILINE)
    return list(dict.fromkeys(found))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert targets[:2] == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the README, small and without Ray, in an empty folder.

    What needs data that is not here is planned and not run; tiny forms are run for their bases.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    lines = [line for line in commands() if line.startswith("layerwise ")]
    lines.insert(lines.index("layerwise init mine.yaml") + 1, "layerwise init sweep.yaml")
    lines.sort(key=lambda line: not line.startswith("layerwise init"))
    assert len(lines) >= 12
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "run" and ":tiny" in words[1]:
            words += ["--only", "split=whole" if words[1].startswith("reduced") else "n=0"]
        elif words[0] == "run" and words[1] not in ("digits", "mine.yaml", "sweep.yaml"):
            words = ["plan", words[1]]
        elif words[0] in ("run", "plan", "status", "check", "debug", "search"):
            words += SMALL
        if words[:2] == ["search", "digits_search"]:
            words += FEW
        if words[0] in ("run", "search"):
            words.append("--inline")
        if words[0] == "clean":
            continue  # its own tests remove things
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        said = capsys.readouterr()
        assert stop.value.code == 0, f"{line}: {said.err}"
        assert said.out, line


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert all((ROOT / target).exists() for target in targets)


def test_tables_are_all_described() -> None:
    assert all(f"`{table}`" in README for table in SCHEMAS)
    for schema in SCHEMAS.values():
        for field in schema:
            assert field.metadata[b"description"], field.name

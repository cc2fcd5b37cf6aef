"""The wheel holds what a run needs and works away from the checkout; the locks are complete."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"benchmarks", "tests"}
SMALL = [
    "--only",
    "n = 0",
    "--set",
    "recipe.steps=2",
    "--set",
    "splits.random=[2]",
    "--set",
    "name=digits",
    "--inline",
]
COMMANDS = {  # by a file of the wheel that the command reads
    "sweeps/digits.yaml": ["run", "digits", *SMALL],
    "orchestrator/report/page.html": ["report", "digits"],
    "orchestrator/reference/results.csv": ["reference", "table1"],
    "orchestrator/reference/curves.parquet": ["query", "SELECT count(*) FROM paper_curves"],
    "trainers/datasets/imagenet.csv": ["plan", "natural_manmade"],
}


def run(*command: str | Path, folder: Path) -> str:
    """Standard output of a command that succeeds, in an environment without this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows or would add, without old build folders."""
    folder = tmp_path_factory.mktemp("checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in run(*listing, folder=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """The wheel, built by the installed setuptools: nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--no-build-isolation", "--wheel-dir", "dist", ".", folder=checkout)
    [path] = (checkout / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which sees the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    run(*pip, "--quiet", "--no-index", "--no-deps", wheel, folder=folder)
    # Python does not read the .pth files of these folders, so an editable install stays invisible.
    dependencies = [path for path in sys.path if PurePath(path).name == "site-packages"]
    [site_packages] = folder.glob("lib/python3*/site-packages")
    (site_packages / "dependencies.pth").write_text("\n".join(dependencies))
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(
    checkout: Path, wheel: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    packages = {path.parent.name for path in checkout.glob("*/__init__.py")} - NOT_SHIPPED
    expected = {
        str(path.relative_to(checkout))
        for package in packages
        for path in (checkout / package).rglob("*")
        if path.is_file()
    }
    assert {"orchestrator/py.typed", "trainers/py.typed", *COMMANDS} <= expected
    assert {name for name in files if ".dist-info/" not in name} == expected
    assert {PurePath(name).name for name in files if ".dist-info/licenses/" in name} == {"LICENSE"}


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    where = "import orchestrator, trainers; print(orchestrator.__file__, trainers.__file__)"
    files = run(environment / "bin" / "python", "-c", where, folder=tmp_path).split()
    assert all(Path(file).is_relative_to(environment) for file in files)
    for command in COMMANDS.values():
        assert run(environment / "bin" / "layerwise", *command, folder=tmp_path), command
    assert (tmp_path / "results" / "reports" / "digits" / "index.html").exists()


# Locks ------------------------------------------------------------------------------------------


def locked(*names: str) -> dict[str, str]:
    """Version by package of some locks. Every package has a hash."""
    versions: dict[str, str] = {}
    for name in names:
        text = (ROOT / "requirements" / f"{name}.lock").read_text()
        pins = re.findall(r"^(\S+?)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(pins) == text.count("==")
        versions |= pins
    return versions


def unmet(lines: list[str], versions: dict[str, str]) -> set[str]:
    """Requirements of lines, and of the packages that they name, which no locked version meets."""
    problems = set()
    seen = set()
    queue = [Requirement(line) for line in lines]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name not in versions or not requirement.specifier.contains(versions[name]):
            problems.add(str(requirement))
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                children = [Requirement(line) for line in metadata.requires(name) or []]
                queue += [
                    c for c in children if not c.marker or c.marker.evaluate({"extra": extra})
                ]
    return problems


def test_the_locks_hold_a_version_for_every_requirement() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    lines = [*settings["options"]["install_requires"].split("\n"), *backend]
    lines = [line for line in lines if line]
    extras = "\n".join(settings["options.extras_require"].values()).split("\n")
    assert unmet(lines, locked("torch", "run")) == set()
    assert unmet(lines + [line for line in extras if line], locked("torch", "run", "test")) == set()
    assert unmet(["pyyaml >= 99", *lines], locked("torch", "run")) == {"pyyaml>=99"}

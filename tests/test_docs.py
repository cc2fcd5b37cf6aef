"""The documentation is true: its commands, Python blocks, YAML blocks and links work."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import typer
import yaml

from orchestrator import cli
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.plan import make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.store.schemas import SCHEMAS
from orchestrator.sweep.load import bundled_sweeps, load_sweep, read_sweep

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
LINKED = [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md"]
TEXTS = {path: path.read_text(encoding="utf-8") for path in LINKED}
README = TEXTS[PAGES[0]]

SMALL = ["--set", "splits.random=[2]", "--set", "recipe.steps=4", "--set", "layers=[3]"]
SMALL += ["--set", "recipe.evaluate_every=2"]
SHAPES = ["--set", "splits.random=[0]", "--set", "recipe.steps=4", "--set", "layers=[1]"]
FEW = ["--set", "fine_tune.search.trials=2", "--set", "fine_tune.search.splits=[100]"]
FEW += ["--set", "fine_tune.search.layers=[3]"]

HERE = ("digits", "digits_search", "mine.yaml", "sweep.yaml")  # sweeps whose data is here
TAKE_CHANGES = ("run", "plan", "status", "check", "debug", "search", "features", "pictures")

ALONE = "which_layers"  # the sweep whose commands tests/test_sweeps.py runs, one after the other
SERVER = "layerwise watch"  # it would not end; tests/watch/test_server.py runs it

# Commands that this file does not run, by their first words, and what runs or replaces them.
ELSEWHERE = {
    "ray up": "tests/system/test_ways_in.py",
    "ray submit": "tests/system/test_ways_in.py",
    "ray exec": "tests/cluster/test_cluster_files.py",
    "ray down": "tests/system/test_ways_in.py",
    ".venv/bin/python -m pytest": "Makefile",
    ".venv/bin/python -m tests.simulation": "tests/simulation/test_simulation.py",
    "python3.11 -m venv": "Makefile",
    ".venv/bin/pip install": "Makefile",
    "ssh -L": "docs/watch.md",
    "python -m trainers.devices": "tests/trainers/test_devices.py",
}

# Commands within a sentence whose words stand for something, or whose data is not here. Their
# options are parsed; the others are run.
PLACEHOLDERS = (
    "layerwise advise imagenet_and_digits",
    "layerwise debug SWEEP TRIAL --pdb",
    "layerwise pack --allow-corrupt",
    "layerwise pack imagenet --root /data/ilsvrc",
    "layerwise pack mine.yaml",
    "layerwise report balanced --metric val_mean10",
    "layerwise run imagenet_and_digits.yaml --inline",
    "layerwise run mnist_and_digits.yaml --cpus 2",
    "layerwise run sweep.yaml:short",
)


def blocks(language: str, path: Path) -> list[str]:
    """Return the code blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[path], re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return the commands of the console blocks and of the sweep files' headers, each once."""
    consoles = [block for page in PAGES for block in blocks("console", page)]
    lines = [line for block in consoles for line in block.splitlines()]
    for name in bundled_sweeps():
        header = read_sweep(name)[0]
        lines += re.findall(r"^#\s+(?:Run:\s+)?(layerwise .*?)(?:\s{2,}.*)?$", header, re.MULTILINE)
    return list(dict.fromkeys(lines))


def spans() -> list[str]:
    """Return the commands within the sentences of the pages, each once."""
    lines = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
        lines += re.findall(r"`((?:layerwise|make|python) [^`]+)`", prose)
    return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def runnable() -> list[str]:
    """Return the commands of layerwise that can be run here. `layerwise run` is only a name."""
    whole = [span for span in spans() if len(span.split()) > 2 and span not in PLACEHOLDERS]
    lines = dict.fromkeys([*commands(), *whole])
    lines = [line for line in lines if line.startswith("layerwise ") and ALONE not in line]
    return [line for line in lines if not line.startswith(SERVER)]


def in_order(lines: list[str]) -> list[str]:
    """Return commands in an order in which each finds what it needs."""
    order = ["layerwise init", "layerwise run digits", "layerwise run mine", "layerwise search"]
    order += ["layerwise", "layerwise clean"]

    def rank(line: str) -> int:
        return max((len(start), number) for number, start in enumerate(order) if start in line)[1]

    return sorted(lines, key=rank)


def arguments(line: str) -> list[str]:
    """Return the arguments of a command, changed so that it is small and needs no Ray.

    Sweeps whose data is not here are planned and not run. So are tiny forms, which
    `test_sweeps.py` runs.
    """
    words = shlex.split(line.replace("'s0'", "'s2'"))[1:]
    for option in ("--address", "--store"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    command, sweep = words[0], (words[1:2] or [""])[0]
    if sweep.startswith("examples/"):
        words = [command, str(ROOT / sweep), *words[2:], *SHAPES]
    elif sweep in HERE and command in TAKE_CHANGES:
        words += SMALL
        if sweep in bundled_sweeps() and not any(word.startswith("name=") for word in words):
            words += ["--set", f"name={sweep}"]  # under which pages query it
    elif command == "run":
        words = ["plan", sweep]
    if sweep == "digits_search" and command in ("run", "search"):
        words += FEW
    if words[0] in ("run", "search"):
        words += ["--inline", *(["--no-report"] if command == "run" else [])]
    return [*words, "--yes"] if command == "clean" else words


class Call(NamedTuple):
    """One command, and what it printed."""

    words: list[str]
    code: object
    out: str
    err: str


def call(words: list[str]) -> Call:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words)
            code: object = None
        except SystemExit as stop:
            code = stop.code
    return Call(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Enter an empty folder, in which everything of this module is run."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LAYERWISE_DATA", str(folder / "data"))
        patch.setenv("COLUMNS", "120")
        yield folder


@pytest.fixture(scope="module")
def calls(folder: Path) -> list[Call]:  # noqa: ARG001 - the commands run in it
    """Run every command, small and without Ray."""
    words = [arguments(line) for line in in_order([*runnable(), "layerwise init sweep.yaml"])]
    return [call(command) for n, command in enumerate(words) if command not in words[:n]]


def test_every_command_is_known() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in [*commands(), *spans()]:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
        elif not line.startswith("layerwise "):
            (start,) = (start for start in ELSEWHERE if line.startswith(start))
            text = (ROOT / ELSEWHERE[start]).read_text(encoding="utf-8")
            assert start in text or start.split()[-1] in text, line


def test_every_command_in_a_sentence_is_of_layerwise() -> None:
    """Its name and its options are known, also where it is not run."""
    group = typer.main.get_command(cli.app)
    context = typer.Context(group)
    lines = [line for line in spans() if line.startswith("layerwise ")]
    assert len(lines) >= 20
    assert set(PLACEHOLDERS) <= set(lines)
    for line in lines:
        _, name, *words = shlex.split(line)
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        assert command, line
        command.make_parser(typer.Context(command)).parse_args(words)


def test_every_command_runs(calls: list[Call]) -> None:
    assert len(calls) >= 45
    assert [one for one in calls if one.code != 0] == []
    silent = [one.words for one in calls if not one.out]
    assert all("--parquet" in words for words in silent)


@pytest.mark.usefixtures("folder")
def test_tiny_forms_are_planned() -> None:
    """`test_sweeps.py` runs networks of every kind of them."""
    lines = [line for line in commands() if ":tiny" in line and ALONE not in line]
    assert len(lines) >= 6
    for line in lines:
        one = call(["plan", *shlex.split(line)[2:]])
        assert one.code == 0, one
        assert one.out, one


@pytest.mark.usefixtures("calls")
def test_python_blocks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples/own_code")
    sources = [(page, block) for page in PAGES for block in blocks("python", page)]
    assert len(sources) >= 4
    for page, block in sources:
        exec(compile(block, str(page), "exec"), {})


YAML = [(page, block) for page in PAGES for block in blocks("yaml", page)]
REST = {"name": "rest", "dataset": "digits", "splits": {"random": [0]}, "recipe": {"steps": 4}}


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(("page", "block"), YAML, ids=lambda x: getattr(x, "stem", ""))
def test_yaml_blocks_are_sweeps(
    page: Path, block: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block is a whole sweep, or some keys of one; it can be planned."""
    monkeypatch.syspath_prepend(ROOT / "examples/own_code")
    drawn = sorted(folder.glob("data/generated/*/train"))
    monkeypatch.setenv("FLOWERS", str(drawn[0].parent))
    given = yaml.safe_load(block)
    rest = REST | ({"splits": {}} if "tasks" in given else {})
    content = given if "name" in given else rest | given
    (folder / "block.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for form in ("", *(f":{name}" for name in given.get("forms", ()))):
        sweep, source = load_sweep(f"block.yaml{form}")
        if sweep.dataset is not None:  # a plan needs no images
            here = sweep.dataset.model_copy(update={"download": False})
            sweep = sweep.model_copy(update={"dataset": here})
        plan = make_plan(resolve(sweep, source))
        assert plan.trials, page
        assert all(part in sweep.features for part in given.get("features", ()))
        assert bool(extractions_of(plan)) is bool(sweep.features)


@pytest.mark.usefixtures("calls")
def test_the_query_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["query.py"])
    load(ROOT / "examples/query.py").main()
    printed = capsys.readouterr().out
    assert "│ transfer  ┆ true   ┆ 3   ┆" in printed
    assert "val_top1" in printed


def load(path: Path) -> ModuleType:
    """Return the module of a file that belongs to no package, and may import those beside it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


GENERATED = load(ROOT / "docs/generated.py")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert blocks("console", PAGES[0])[0] == "make demo\nmake test\n"


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^):]*)?\)", TEXTS[page]):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            text = GENERATED.expand(path.read_text(encoding="utf-8"))
            assert anchor[1:] in anchors(text), f"{target}{anchor}"


def test_named_files_exist() -> None:
    pattern = r"`((?:orchestrator|trainers|tests|examples|clusters|sweeps|benchmarks)/[\w./]*)`"
    named = {name for text in TEXTS.values() for name in re.findall(pattern, text)}
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_room_and_file_is_described() -> None:
    text = TEXTS[ROOT / "docs/architecture.md"]
    folders = {path.parent for path in ROOT.glob("orchestrator/*/__init__.py")}
    folders |= {path.parent for path in ROOT.glob("trainers/**/__init__.py")}
    for folder in folders:
        assert f"<!-- generated: files {folder.relative_to(ROOT)} -->" in text
        rows = GENERATED.project.files(str(folder.relative_to(ROOT))).splitlines()
        assert not [row for row in rows if row.endswith("|  |")]


def test_tables_are_all_described() -> None:
    text = GENERATED.expand(TEXTS[ROOT / "docs/tables.md"])
    for name, schema in GENERATED.tables.all_tables().items():
        assert f"### `{name}`\n" in text
        assert name in SCHEMAS or f"`{name}`" in TEXTS[ROOT / "docs/tables.md"]
        for field in schema:
            assert field.metadata[b"description"], field.name
            assert f"| `{field.name}` |" in text


def test_every_key_of_a_sweep_file_is_described() -> None:
    text = TEXTS[ROOT / "docs/sweep-file.md"]
    for name in GENERATED.fields.MODELS:
        assert f"<!-- generated: fields {name} -->" in text
        assert "(no description)" not in GENERATED.fields.fields(name), name
    for name, key in GENERATED.fields.FORMS:
        assert f"`{key}`" in GENERATED.fields.fields(name)


def test_the_bundled_sweeps_have_as_many_networks() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+)", TEXTS[ROOT / "docs/paper.md"], re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(set(bundled_sweeps()) - {"template", ALONE})
    for name, count in rows:
        plan = make_plan(resolve(*load_sweep(name)))
        assert len(plan.trials) == int(count), name


def test_the_cpu_build_is_the_locked_one() -> None:
    locks = ROOT.glob("requirements/*.lock")
    locked = "\n".join(path.read_text(encoding="utf-8") for path in locks)
    named = re.findall(r"\b(torch|torchvision)==([\d.]+)", TEXTS[ROOT / "docs/tutorial.md"])
    assert len(named) == 2
    for name, version in named:
        assert re.search(rf"^{name}=={re.escape(version)}(\s|$)", locked, re.MULTILINE)


def test_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert set(pages) >= {path.stem for path in ROOT.glob("docs/*.md")}
    loaded = [
        tag
        for text in pages.values()
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
    ]
    assert len(loaded) > len(pages)
    assert [tag for tag in loaded if re.search(r"=.?(https?:)?//", tag)] == []
    assert "<!-- generated:" not in "".join(pages.values())


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert citation["cff-version"] == "1.2.0"
    assert f"\nversion = {citation['version']}\n" in setup
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:1411.1792"

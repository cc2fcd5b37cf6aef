"""The report: one file that loads nothing else, in every state of its sweep."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import rendering
from orchestrator.report.page import write_report
from orchestrator.report.wording import points
from orchestrator.stats.statistics import Statistics
from orchestrator.store.names import FORMATS
from orchestrator.store.store import Store
from tests.synthetic import Label, Synthetic, curve_rows, digits

FIGURES = ("curves.png", "decomposition.png", "figure2.png", "figure3.png", "speed.png")
NASTY = "<script>alert('x')</script> & \"A\" <!-- "


def write(sweep: Synthetic, folder: Path, text: str = "name: demo\n", **facts: str) -> str:
    """Return the report of a sweep whose record holds these facts, as a string."""
    store = Store(folder / "store")
    sweep.write(store, text, **facts)
    path = write_report(store, sweep.name, folder / "report")
    assert path == folder / "report" / "index.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow parts: the JavaScript and the PNG."""
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"png")
    )


def figures_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    figures: dict[str, Any] = json.loads(text)
    return figures


def prose(page: str) -> str:
    """Return the page without scripts, styles and tags."""
    page = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.S)
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))).replace("\u00a0", " ")


def test_whole_report(tmp_path: Path) -> None:
    page = write(digits(splits=("s0", "s1"), layers=(1, 2, 3)), tmp_path)
    drawn = {name.replace("png", format) for name in FIGURES for format in FORMATS}
    assert {path.name for path in (tmp_path / "report").iterdir()} == {*drawn, "index.html"}
    for name in FIGURES:
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert page.count("window.vegaEmbed") == 1
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    loads = re.findall(r"<[^>]*(?:src|href|data)=[\"']?([^\"'>\s]+)", markup)
    assert {one for one in loads if not one.startswith("#")} == {"data:,", *drawn}
    anchors = {one[1:] for one in loads if one.startswith("#")}
    assert anchors <= set(re.findall(r'id="(query-[\w.=-]+)"', markup))
    assert "@import" not in page
    assert "default-src 'none'" in page  # the browser loads nothing from elsewhere
    panels = {name: len(some) for name, some in figures_of(page).items()}
    assert panels == {"figure2": 2, "figure3": 1, "decomposition": 3, "speed": 2, "chooser": 1}
    text = prose(page)
    assert "68 of 68 networks complete" in text  # 2 splits × 2 targets × (2 + 5 · 3)
    assert "The transfer gain (AnB+ − BnB+) is" in text
    assert "python 3.11.9, torch 2.13.0" in text
    assert "0123456789abcdef" in text
    assert "2026-01-02 03:04 to 2026-01-02 03:08 UTC" in text
    assert "proven unchanged in 36 of 36 networks" in text
    assert "Without networks that never left chance, all effects are the same." in text
    assert "Incomplete" not in text


@pytest.mark.usefixtures("light")
def test_pixels_are_a_level_beside_the_bases(tmp_path: Path) -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    for split in ("s0", "s1"):
        for target in "AB":
            sweep.add(Label(split=split, target=target, treatment="pixels"), 0.5)
    page = write(sweep, tmp_path)
    panels = figures_of(page)["figure2"]
    upper, lower = (panel["spec"] for panel in panels)
    numbers = [n for n, x in enumerate(upper["layer"]) if x["mark"]["type"] == "rule"]
    (levels,) = filter(None, (data_of(panels[0], number) for number in numbers))
    assert [row["label"] for row in levels] == ["base", "base_long", "pixels"]
    assert levels[2]["y"] == 50.0
    assert "pixels" in json.dumps(lower)
    assert "pixels 50.0" in prose(page)
    assert "pixels pixels − base" in prose(page)


@pytest.mark.usefixtures("light")
def test_strings_of_users_are_escaped(tmp_path: Path) -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1,))
    failed = sweep.trials[-1]
    failed |= {"outcome": "failed", "error_type": "Error", "error_message": NASTY}
    for row in (*sweep.members, *sweep.trials):
        row["name"] += NASTY
    sweep.trials[0]["host"] = NASTY
    page = write(sweep, tmp_path, text=f"# {NASTY}\n")
    assert "<script>alert" not in page
    assert page.count("</script>") == 3
    assert prose(page).count(NASTY.strip()) == 4  # name and reason of the failure, host, sweep
    names = json.dumps(figures_of(page)["figure2"], ensure_ascii=False)
    assert json.dumps(NASTY)[1:-1] in names


@pytest.mark.usefixtures("light")
def test_incomplete_sweep(tmp_path: Path) -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    dropped, failed, skipped = sweep.trials.pop(), sweep.trials[-1], sweep.trials[-2]
    failed |= {"outcome": "failed", "error_type": "LossNotFinite", "error_message": "loss is nan"}
    skipped |= {"outcome": "skipped", "error_message": "its base failed"}
    text = prose(write(sweep, tmp_path))
    assert dropped["id"] not in text
    assert "Incomplete: 45 of 48 networks are complete (1 failed, 1 skipped, 1 not run)." in text
    assert "LossNotFinite: loss is nan" in text
    assert "its base failed" in text
    assert "* 1 split with one of two directions only." in text
    assert "simultaneous splits with one direction networks missing pairs" in text


@pytest.mark.usefixtures("light")
def test_one_split(tmp_path: Path) -> None:
    text = prose(write(digits(splits=("s0",), layers=(1, 2)), tmp_path))
    assert "One split: differences have no interval" in text
    assert "One split: no interval." in text
    assert "±" not in text


@pytest.mark.usefixtures("light")
def test_the_caption_does_not_tell_of_bands_that_are_not_drawn(tmp_path: Path) -> None:
    text = prose(write(digits(splits=("s0", "s1"), layers=(1, 2)), tmp_path))
    assert "No bands are drawn: the t interval over 2 splits would hide the lines." in text
    assert "Bands and the bar" not in text


@pytest.mark.usefixtures("light")
def test_no_network_is_complete(tmp_path: Path) -> None:
    sweep = digits(splits=("s0",), layers=(1,))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "speed.png").write_bytes(b"of an earlier report")
    for row in sweep.trials:
        row |= {"outcome": "lost", "error_message": "node died", "top1": None, "val_top1": None}
    page = write(sweep, tmp_path)
    assert (
        "No network is complete yet, so there is nothing to show. Run: layerwise run demo" in page
    )
    assert figures_of(page) == {}
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("treatments", [("base",), ("base", "transfer"), ("transfer",)])
def test_any_part_of_a_sweep_has_a_report(tmp_path: Path, treatments: tuple[str, ...]) -> None:
    sweep = digits(splits=("s0", "s1"), layers=(2,))
    sweep.trials = [row for row in sweep.trials if row["treatment"] in treatments]
    page = write(sweep, tmp_path)
    assert ("decomposition" in figures_of(page)) == ("transfer" in treatments)
    assert ("speed" in figures_of(page)) == ("base" in treatments)
    assert len(figures_of(page)["figure2"]) == 2


@pytest.mark.usefixtures("light")
def test_networks_at_chance(tmp_path: Path) -> None:
    sweep = digits(splits=("s0", "s1", "s2"), layers=(1,))
    chance = next(row for row in sweep.trials if row["treatment"] == "random")
    chance |= {"at_chance": True, "top1": 0.2}
    page = write(sweep, tmp_path)
    assert "1 network never left chance" in prose(page)
    after = page.split("these effects differ")[1].split("</table>")[0]
    assert re.findall(r'scope="row">([a-z -]+)', after) == ["random"]


@pytest.mark.usefixtures("light")
def test_only_members_of_the_sweep_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digits(splits=("s0",), layers=(1,)).write(store)
    other = Synthetic("other")
    other.add(Label(split="natural", target="A", treatment="base"), 0.25)
    other.write(store)
    page = write_report(store, "other", tmp_path / "report").read_text(encoding="utf-8")
    assert "1 of 1 networks complete" in page
    assert "the bases reach 25.0 %" in prose(page)


def several() -> Synthetic:
    """Return a sweep of random splits, a known division, few images, and one class against rest."""
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    for target in "AB":
        place = {"split": "natural_manmade", "target": target, "division": "natural_manmade"}
        base = Label(treatment="base", **place)
        copy = Label(treatment="transfer", n=1, frozen=True, **place)
        for label, top1 in ((base, 0.6), (copy, 0.5)):
            id = sweep.add(label, top1, classes=3)
            sweep.curves += curve_rows(id, [(100, top1)])
    for limit in (5, 250, 500):
        place = {"split": "whole", "target": "A", "division": "whole", "images_per_class": limit}
        sweep.add(Label(treatment="base", **place), limit / 1000, classes=3)
    alone = Label(treatment="base", split="s0-999", target="B", division="random-999")
    training = json.dumps({"target": {"classes": [1], "rest": [2]}})
    scores = {"auroc": 0.9, "balanced_accuracy": 0.8, "training": training}
    sweep.add(alone, 0.99, classes=2, **scores)
    return sweep


@pytest.mark.usefixtures("light")
def test_shared_images_are_a_note(tmp_path: Path) -> None:
    sweep = digits(splits=("s0",), layers=(1,))
    note = "Training, validation and test sets share images"
    assert note not in write(sweep, tmp_path)
    dataset = {"options": [["shared_images", True]]}
    for row in sweep.trials:
        row["training"] = json.dumps({"target": {"dataset": dataset}})
    assert note in write(sweep, tmp_path)


@pytest.mark.usefixtures("light")
def test_every_group_has_figures_of_its_own(tmp_path: Path) -> None:
    page = write(several(), tmp_path)
    assert set(figures_of(page)) == {
        "figure2",
        "figure3",
        "decomposition",
        "speed",
        "chooser",
        "figure2-natural_manmade",
        "speed-natural_manmade",
        "chooser-natural_manmade",
        "figure2-random-999-auroc",
        "figure2-random-999-balanced_accuracy",
        "images-whole",
    }
    pngs = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert "figure2-natural_manmade.png" in pngs
    assert "images-whole.png" in pngs
    splits = {
        name: {row["split"] for row in data_of(panels[0]) if "split" in row}
        for name, panels in figures_of(page).items()
        if name.startswith("figure2")
    }
    assert splits["figure2"] == {"s0", "s1"}
    assert splits["figure2-natural_manmade"] == {"natural_manmade"}
    title = figures_of(page)["figure2-random-999-auroc"][0]["title"]
    assert title == "Test AUROC of each network, %"
    (panel,) = figures_of(page)["figure3"]
    lines = {(x["label"], x["n"]): round(x["y"], 6) for x in data_of(panel) if "splits" in x}
    assert lines["AnB natural/manmade", 1] == -10.0
    assert {label for label, _ in lines} == {"AnB", "random filters", "AnB natural/manmade"}
    text = prose(page)
    assert "of two directions" not in text
    table = several().statistics().table1.to_pylist()
    assert [(row["layers"], row["versus"]) for row in table] == [("1-2", "base"), ("1-2", "BnB+")]
    for row in table:
        numbers = f"{points(row['pooled'] / 100)} {points(row['paired'] / 100)}"
        assert f"1-2 {row['versus']} {numbers} {points(row['paired_low'] / 100)} …" in text
    assert "Natural and man-made: test top-1" in text
    assert "Natural and man-made: test top-1: one split by nature, with one seed" in text
    assert "Random splits with 999 classes in A: test AUROC" in text
    assert "the bases reach 90.0 % test AUROC" in text
    assert "All classes: test top-1" in text
    assert "of each class: test top-1" not in text  # sizes are one figure
    assert "Pale and dashed" not in text


@pytest.mark.usefixtures("light")
def test_published_results_are_drawn_where_the_sweep_asks(tmp_path: Path) -> None:
    page = write(several(), tmp_path, reference="paper")
    upper, lower = figures_of(page)["figure2-natural_manmade"]
    assert upper["title"] == "Test top-1 of each network, %; pale and dashed: paper, 2014"
    assert [x["y"] for x in data_of(upper, layer=0)] == [pytest.approx(59.71, abs=0.01)]
    assert [x["y"] for x in data_of(upper, layer=1)] == [pytest.approx(59.41, abs=0.01)]
    assert [x["y"] for x in data_of(lower, layer=0)] == [pytest.approx(0.29, abs=0.01)]
    (images,) = figures_of(page)["images-whole"]
    drawn = {x["n"]: round(x["y"], 2) for x in data_of(images, layer=0)}
    assert (drawn[250], drawn[500], len(drawn)) == (38.33, 47.5, 12)
    title = figures_of(page)["figure2-random-999-auroc"][0]["title"]
    assert title == "Test AUROC of each network, %"  # the paper has none
    assert "the published results of Yosinski et al. (2014), the last test of" in prose(page)


@pytest.mark.usefixtures("light")
def test_overfitting_is_drawn_where_training_accuracy_is_known(tmp_path: Path) -> None:
    sweep = digits(splits=("s0",), layers=(1,))
    assert "overfitting" not in figures_of(write(sweep, tmp_path / "old"))
    for row in sweep.trials:
        row |= {"train_top1": row["top1"] + 0.0625, "val_top1": row["top1"] + 0.03125}
    train, validation, test, gap = figures_of(write(sweep, tmp_path))["overfitting"]
    heights = [
        {x["label"]: x["y"] for x in data_of(panel, layer=2)} for panel in (train, validation, test)
    ]
    assert heights[0].keys() >= {"base", "base_long", "AnB+"}
    for arm, y in heights[2].items():
        assert heights[1][arm] == pytest.approx(y + 3.125)
        assert heights[0][arm] == pytest.approx(y + 6.25)
    assert {round(x["y"], 9) for x in data_of(gap, layer=2)} == {6.25}
    assert gap["title"] == "Training less test, points"


@pytest.mark.usefixtures("light")
def test_own_and_published_results_are_measured_alike(tmp_path: Path) -> None:
    sweep = several()
    sweep.trials = [row | {"val_mean10": row["top1"] - 0.125} for row in sweep.trials]
    store = Store(tmp_path / "store")
    sweep.write(store, reference="paper")
    statistics = Statistics.of_sweep(store, "demo", "val_mean10")
    page = write_report(store, "demo", tmp_path, statistics).read_text(encoding="utf-8")
    upper, _ = figures_of(page)["figure2-natural_manmade"]
    own, rule = (data_of(upper, layer=layer) for layer in (3, 1))
    assert {round(x["y"], 2) for x in own} == {47.5, 37.5}
    assert [x["y"] for x in rule] == [pytest.approx(59.53, abs=0.01)]
    assert "speed-natural_manmade" in figures_of(page)
    text = prose(page)
    assert "Every network is measured by the mean of the ten best validation top-1." in text
    assert "the mean of the ten best tests of each network, as in the paper" in text


@pytest.mark.usefixtures("light")
def test_all_images_stand_beside_the_published_network_of_the_same_recipe(tmp_path: Path) -> None:
    """As in the sweep `reduced`, and in `paper`, whose network of all images trained longer."""
    place = {"split": "whole", "target": "A", "division": "whole"}
    sweep = Synthetic()
    for limit, top1 in ((None, 0.6), (500, 0.5), (250, 0.4)):
        label = Label(treatment="base", images_per_class=limit, **place)
        sweep.add(label, top1, recipe="short", val_mean10=top1, classes=1000)
    page = write(sweep, tmp_path, reference="paper")
    assert list(figures_of(page)) == ["images"]  # nothing stands beside netbase
    (panel,) = figures_of(page)["images"]
    published, own = ({x["images"]: x["y"] for x in data_of(panel, k)} for k in (0, 5))
    assert own == {"250": 40.0, "500": 50.0, "all": 60.0}
    assert published["all"] == pytest.approx(55.158)
    assert (len(published), "1300" in published) == (12, False)
    for row in sweep.trials[1:]:
        row |= {"recipe": "shorter"}
    page = write(sweep, tmp_path / "other", reference="paper")
    assert set(figures_of(page)) == {"figure2", "images-whole"}
    (panel,) = figures_of(page)["images-whole"]
    assert {x["images"] for x in data_of(panel, 5)} == {"250", "500"}
    assert {x["images"]: x["y"] for x in data_of(panel, 0)}["1300"] == pytest.approx(55.158)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("name: demo\n", False),
        ("name: demo\nreference: null\n# changed by: --set reference=paper\n", True),
        ("name: demo\nreference: paper\n", True),
        ("name: demo\nreference: paper\n# changed by: --set reference=null\n", False),
        ("not: [a sweep", False),
    ],
)
@pytest.mark.parametrize("reference", ["paper", "", None])
def test_the_reference_is_that_of_the_sweep_as_it_was_run(
    tmp_path: Path, text: str, drawn: bool, reference: str | None
) -> None:
    """The recorded fact counts; for a record without it, the text does."""
    facts = {} if reference is None else {"reference": reference}
    page = write(digits(splits=("s0",), layers=(1,)), tmp_path, text=text, **facts)
    assert ("paper, 2014" in page) == (drawn if reference is None else bool(reference))


def data_of(panel: Any, layer: int | None = None) -> list[dict[str, Any]]:
    """Return the rows that a panel draws, or those of one of its layers."""
    spec = panel["spec"]
    layers = spec["layer"] if layer is None else [spec["layer"][layer]]
    named = spec.get("datasets", {})
    return [
        row
        for mark in layers
        for row in (mark["data"].get("values") or named.get(mark["data"].get("name"), []))
    ]

"""The parts that make a report a short paper: question and answer, links, queries, methods."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from orchestrator.report import charts
from orchestrator.report.class_table import LEAST, MOST, class_names, class_table
from orchestrator.report.lead import lead
from orchestrator.report.links import linked
from orchestrator.report.methods import methods_of
from orchestrator.report.queries import TITLES, queries_of
from orchestrator.report.query import run_query
from orchestrator.report.sentences import Sentence, sentences_of
from orchestrator.stats.measurements import ARMS, Group
from orchestrator.stats.reach import Reach, Step
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store, SweepRecord
from tests.small import SMALL
from tests.synthetic import Label, Synthetic, digits

GROUP = Group("demo", None, "random", None, "top1")


def answer(steps: list[Step], passed: int, group: Group = GROUP) -> tuple[str, str]:
    return lead(group, Reach(0.03, tuple(steps), passed))


STEPS = [Step(1, -0.001, 0.018), Step(2, 0.016, 0.036), Step(3, 0.133, 0.154)]


@pytest.mark.parametrize(
    ("steps", "passed", "text"),
    [
        (
            STEPS,
            1,
            "Those up to n = 1, where −0.1 points are lost, at most 1.8 with 95 % confidence; for "
            "n = 2 it is not shown (1.6, at most 3.6 with 95 % confidence), and n = 3 loses 13.3.",
        ),
        (
            STEPS[:2],
            1,
            "Those up to n = 1, where −0.1 points are lost, at most 1.8 with 95 % confidence; for "
            "n = 2 it is not shown (1.6, at most 3.6 with 95 % confidence).",
        ),
        (
            STEPS[:1],
            1,
            "All that were tried, up to n = 1, where −0.1 points are lost, at most 1.8 with 95 % "
            "confidence.",
        ),
        (
            STEPS[1:],
            0,
            "For none is that shown: 1.6 points are lost at n = 2, at most 3.6 with 95 % "
            "confidence, and n = 3 loses 13.3.",
        ),
        (
            [Step(1, 0.01, None), Step(4, 0.2, None)],
            0,
            "One split cannot tell: in it, 1.0 points are lost at n = 1, and n = 4 loses 20.0.",
        ),
    ],
)
def test_the_answer_is_one_sentence_of_numbers(steps: list[Step], passed: int, text: str) -> None:
    question, said = answer(steps, passed)
    assert question == (
        "How many first layers of a network that has learned the other half of the classes can be "
        "copied and frozen for less than 3 points of test top-1?"
    )
    assert said == text


def test_the_question_names_the_source() -> None:
    group = GROUP._replace(division="mnist to digits")
    assert "a network that has learned mnist can be copied" in answer(STEPS, 1, group)[0]


def test_measured_numbers_are_links_and_numbers_of_layers_are_not() -> None:
    text = (
        "Of 8 networks, 47 of 56 reach 88.0 % top-1 (n = 7): −38.4 [−42.8, +1.0], step 400 (base)"
    )
    links = re.findall(
        r'<a href="#query-levels-x">(.+?)</a>', linked(Sentence(text, "levels"), "-x")
    )
    assert links == ["8", "47", "56", "88.0", "−38.4", "−42.8", "+1.0", "400"]
    assert linked(Sentence("a < 1.5 & n = 3", ""), "") == "a &lt; 1.5 &amp; n\u00a0=\u00a03"
    assert "<a" not in linked("2.5", "")  # type: ignore[arg-type]


def test_every_sentence_refers_to_a_query_that_gives_its_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digits(splits=("s0", "s1"), layers=(1, 2)).write(store)
    statistics = Statistics.of_sweep(store, "demo")
    queries = queries_of(GROUP)
    rows = statistics.effects.to_pylist()
    effects = [row for row in rows if row["at_chance"] == "included"]
    levels, speeds = statistics.levels.to_pylist(), statistics.speeds.to_pylist()
    sentences = sentences_of(effects, levels, speeds)
    assert {sentence.query for sentence in sentences} == {"levels", "effects", "speeds"}
    for sentence in sentences:
        answers = run_query(store, queries[sentence.query]).to_pylist()
        values = [abs(100 * x) for row in answers for x in row.values() if isinstance(x, float)]
        numbers = re.findall(r"\d+\.\d", sentence)
        assert all(any(abs(float(n) - x) < 0.051 for x in values) for n in numbers), sentence


@pytest.mark.parametrize("metric", [None, "val_mean10"])
@pytest.mark.parametrize(
    "group",
    [
        GROUP,
        GROUP._replace(condition='{"x": "it\'s"}', images_per_class=5),
        GROUP._replace(metric="auroc"),
        GROUP._replace(metric="map50"),
    ],
)
def test_every_query_runs(group: Group, metric: str | None, tmp_path: Path) -> None:
    store = Store(tmp_path)
    digits(splits=("s0",), layers=(1,)).write(store)
    queries = queries_of(group, metric)
    assert queries.keys() <= TITLES.keys()
    for sql in queries.values():
        run_query(store, sql)
    assert run_query(store, queries["networks"]).num_rows == (0 if group.condition else 14)
    assert ("speeds" in queries) is (group.metric == "top1")


def test_methods_say_every_setting_and_how_to_repeat() -> None:
    sweep = Synthetic("small")
    facts = {"versions": '{"layerwise_commit": "abc+", "torch": "2"}', "exact": False}
    facts |= {"batch": 8, "rate": 0.03, "optimiser": "sgd", "schedule": "constant"}
    sweep.add(Label(split="s0", target="A", treatment="base"), 0.5, precision="float32", **facts)
    text = f"{SMALL}# changed by: --set recipe.steps=4\n"
    methods = methods_of("small+recipe.steps=4", sweep.statistics(), SweepRecord(text=text))
    assert methods.sentences[0] == (
        "1 network (small8) were trained on digits, over 1 split (s0) with 1 seed (0)."
    )
    assert "500 steps of 8 images with sgd, at a rate of 0.03" in methods.sentences[1]
    assert "1 network resumed under other settings" in methods.sentences[3]
    assert ("recipe.steps", "4") in methods.settings
    assert methods.commands == [
        "git checkout abc",
        "layerwise run small.yaml --set recipe.steps=4",
    ]


def test_methods_of_nothing_and_of_a_text_that_is_no_sweep() -> None:
    empty = methods_of("demo", Synthetic().statistics(), SweepRecord(text="name: demo\n"))
    assert (empty.sentences, empty.settings) == ([], [])
    assert empty.commands == ["layerwise run demo.yaml"]
    assert methods_of("demo", Synthetic().statistics(), SweepRecord()).commands == []


def test_the_classes_that_lose_most_come_first() -> None:
    def row(index: int, difference: float, low: float | None = None) -> dict[str, object]:
        place = {"class_index": index, "n": 3, "base": 0.9, "difference": difference}
        return place | {"low": low, "high": low and difference * 2 - low}

    table = class_table([row(0, -0.1), row(1, -0.3, -0.4), row(2, 0.05)], {1: "one"})
    assert table
    assert [line["name"] for line in table["lines"]] == ["one", "class 0", "class 2"]
    assert table["lines"][0]["cells"] == [("−30.0", "±10.0")]
    assert (table["left"], table["bounded"]) == (0, True)
    many = class_table([row(index, -index / 100) for index in range(30)], {})
    assert many
    assert [line["name"] for line in many["lines"]] == [
        f"class {index}" for index in [*range(29, 29 - MOST, -1), *range(LEAST - 1, -1, -1)]
    ]
    assert many["left"] == 30 - MOST - LEAST
    assert class_table([row(0, -0.1)], {}) is None
    assert class_table([], {}) is None


def test_classes_have_the_names_of_known_data() -> None:
    sweep = Synthetic()
    text = '{"target": {"dataset": {"name": "digits", "options": [["noise", 0.2]]}}}'
    base = Label(split="s0", target="A", treatment="base")
    sweep.add(base, 0.5, training=text)
    assert class_names(sweep.statistics())[3] == "3"
    own = Synthetic()
    own.add(base, 0.5, training='{"target": {"dataset": {"name": "my.data:load"}}}')
    assert class_names(own.statistics()) == {}


# Colours ----------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
BLIND = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    full = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
    values = np.array([int(full[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(first: str, second: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(one)) for one in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("night", [False, True])
def test_arms_differ_also_for_the_colour_blind(kind: str, night: bool) -> None:
    """Two arms with the same shape and dash differ in colour; all others differ without it."""
    for first, second in itertools.combinations(ARMS, 2):
        looks = charts.style(first), charts.style(second)
        if any(looks[0][name] != looks[1][name] for name in ("shape", "dash")):
            continue
        colours = [charts.DARK[look["colour"]] if night else look["colour"] for look in looks]
        seen = [lab(np.array(BLIND[kind]) @ linear(colour)) for colour in colours]
        assert np.linalg.norm(seen[0] - seen[1]) > 10, (first, second)


def test_series_are_readable_on_light_and_dark_pages() -> None:
    named = {*charts.COLOURS.values(), *charts.SERIES, *charts.INK.values()}
    assert named <= charts.DARK.keys()
    labels = {charts.INK.get(colour, colour) for colour in charts.COLOURS.values()}
    assert all(contrast(colour, "#ffffff") >= 4.4 for colour in labels)
    assert all(contrast(charts.DARK[colour], "#15181c") >= 4.5 for colour in named)

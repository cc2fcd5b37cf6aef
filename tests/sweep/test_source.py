"""YAML with the line of every value: numbers, strings, and files that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import SweepError
from orchestrator.sweep.source import Source, dotted, parse, shown
from tests.sweep_files import assert_mistake

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
EMPTY = "the file is empty; `layerwise init` writes one"

EXACT: dict[str, tuple[str, str]] = {
    "empty": ("", f"1: {EMPTY}"),
    "an open list": (
        "name: [a\n",
        "2: this is not YAML: while parsing a flow sequence, expected ',' or ']', "
        "but got '<stream end>'",
    ),
    "a tag": (
        "name: !!python/object/apply:os.system [exit]",
        "1: name: expected a value without the tag !!python/object/apply:os.system",
    ),
    "an alias in itself": ("name: &a [*a]\n", "1: name[0]: an alias contains itself"),
    "billion laughs": (LAUGHS, "1: aliases expand to more than 20000 values"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "3: a: the key is given twice"),
}
REFUSED: dict[str, tuple[str, str, str]] = {  # text, line and key, reason
    "only a comment": ("# later\n", "1", EMPTY),
    "null bytes": ("name: x\nname: a\0b\n", "2", "special characters are not allowed"),
    "large": ("a: " + "x" * 1_000_000, "1", "found 1000003 characters"),
    "a tab": ("name:\n\t- a\n", "2", "found character '\\t'"),
    "two documents": ("a: 1\n---\nb: 1\n", "2", "found another document"),
    "an unknown alias": ("name: *b\n", "1", "undefined alias 'b'"),
    "a mapping in itself": ("name: &a\n  b: *a\n", "2: name.b", "an alias contains itself"),
    "deep": ("name: " + "[" * 40 + "]" * 40, "1", "nested more than 30 deep"),
    "too deep to parse": ("name: " + "[" * 5000 + "]" * 5000, "1", "nested too deeply"),
    "a Python name": ("name: !!python/name:os.system", "1: name", "tag !!python/name:os.system"),
    "bytes": ("name: !!binary aGk=", "1: name", "without the tag !!binary"),
    "a set": ("\nlayers: !!set {1, 2}", "2: layers", "without the tag !!set"),
    "half a character": (r'name: "\ud800"', "1: name", "cannot read this value: 'utf-8' codec"),
    "a list as key": ("? [a, b]\n: 1\n", "1", "expected a string as key"),
    "a key twice below": ("a:\n  {b: 1, c: 3, b: 2}", "2: a.b", "the key is given twice"),
}


def refused(text: str) -> list[str]:
    with pytest.raises(SweepError) as error:
        parse(text, "bad.yaml")
    return error.value.mistakes


@pytest.mark.parametrize("case", EXACT)
def test_a_refused_file_gives_one_line(case: str) -> None:
    text, line = EXACT[case]
    assert refused(text) == [f"bad.yaml:{line}"]


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file_names_line_and_key(case: str) -> None:
    text, place, reason = REFUSED[case]
    assert_mistake(refused(text), f"bad.yaml:{place}", reason)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-4", 0.0005),
        ("5E-4", 0.0005),
        (".5", 0.5),
        ("1.", 1.0),
        ("0.5", 0.5),
        ("1", 1),
        ("1e0", 1.0),
        ("-3", -3),
        ("1e999", float("inf")),
        ("2026-01-02", "2026-01-02"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("yes", True),
        ("~", None),
    ],
)
def test_values(written: str, value: Any) -> None:
    data, _ = parse(f"a: {written}", "x.yaml")
    assert (data["a"], type(data["a"])) == (value, type(value))


def test_every_value_has_its_line() -> None:
    data, source = parse("a: 1\nb:\n  - c: 2\n  - 3\n", "x.yaml")
    assert data == {"a": 1, "b": [{"c": 2}, 3]}
    assert source.lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "c"): 3,
        ("b", 1): 4,
    }
    assert source.mistake(("b", 0, "d", "e"), "wrong") == "x.yaml:3: b[0].d.e: wrong"
    assert source.mistake(("z",), "wrong") == "x.yaml:1: z: wrong"


def test_a_record_holds_the_changes_as_comments() -> None:
    source = Source("x.yaml", "a: 1\n\n", changes=["a=2", "b=3"])
    assert source.record() == "a: 1\n# changed by: --set a=2\n# changed by: --set b=3\n"


def test_words_in_messages() -> None:
    assert dotted(("splits", "named", "x", "A", 2)) == "splits.named.x.A[2]"
    assert shown("x" * 50) == f'"{"x" * 36}…'
    assert [shown(value) for value in (0.5, 1e-12, float("nan"), True)] == [
        *("0.5", "1e-12", ".nan", "true"),
    ]

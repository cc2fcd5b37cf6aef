"""Functions that a sweep names, and their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from trainers.canonical import ConfigError
from trainers.own_code import fit_options, resolve


def test_any_option_for_a_function_that_takes_any() -> None:
    assert fit_options(lambda **anything: anything, (("colour", 1),)) == (("colour", 1),)


def test_options_at_their_default_are_left_out_and_whole_numbers_become_numbers() -> None:
    def function(*, width: int = 8, noise: float = 0.5, tone: str = "low") -> None: ...

    given = (("noise", 1), ("tone", "low"), ("width", 8))
    assert fit_options(function, given) == (("noise", 1.0),)


def test_a_whole_number_or_nothing() -> None:
    def function(*, outputs: int | None = None) -> None: ...

    assert fit_options(function, (("outputs", None),)) == ()
    assert fit_options(function, (("outputs", 3),)) == (("outputs", 3),)
    for wrong in (3.0, True, "3"):
        with pytest.raises(ConfigError, match=f"^expected a whole number, found {wrong!r}$"):
            fit_options(function, (("outputs", wrong),))


@pytest.mark.parametrize(
    ("annotation", "fitting", "wrong", "expected"),
    [
        (bool, True, 1, "true or false"),
        (str, "low", 1, "a string"),
        (int, 3, True, "a whole number"),
        (float, 3, "3", "a number"),
        (list[bool], (True, False), (True, 1), "a list of true or false"),
        (tuple[str, ...], ("a",), "a", "a list of strings"),
        (tuple[int, int], (1, 2), (1, 2.0), "a list of whole numbers"),
        (list[list[int]], ((1,), (2, 3)), (1, 2), "a list of lists"),
        (list[float] | None, None, 1.5, "a list of numbers"),
    ],
)
def test_options_of_every_kind(annotation: Any, fitting: Any, wrong: Any, expected: str) -> None:
    def function(*, option: Any) -> None: ...

    function.__annotations__["option"] = annotation
    assert fit_options(function, (("option", fitting),)) == (("option", fitting),)
    with pytest.raises(ConfigError) as error:
        fit_options(function, (("option", wrong),))
    assert str(error.value) == f"expected {expected}, found {wrong!r}"


def test_options_of_other_kinds_are_not_checked() -> None:
    def function(*, one: int | str, two: tuple[int, str], three: object, four=3) -> None: ...  # type: ignore[no-untyped-def]

    given = (("four", "x"), ("one", 2.5), ("three", "x"), ("two", 1))
    assert fit_options(function, given) == given


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.data:flowers", "cannot import 'no_such_package.data'"),
        ("own_flowers:roses", "module 'own_flowers' has no function 'roses'"),
        ("own_flowers:tulip", "module 'own_flowers' has no function 'tulip'"),
        ("own_flowers", "module 'own_flowers' has no function ''"),
        (":flowers", "expected package.module:function, found ':flowers'"),
        (".own_flowers:flowers", "expected package.module:function, found '.own_flowers:flowers'"),
        ("os:system", "'os:system' cannot be used; os is a module of Python's standard library"),
        ("math:sqrt", "'math:sqrt' cannot be used; math is a module of Python's standard library"),
    ],
)
def test_functions_that_are_not_there(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_flowers.py").write_text("tulip = 3\n")
    with pytest.raises(ConfigError) as error:
        resolve(name)
    assert error.value.field == "name"
    assert str(error.value).startswith(message)


def test_a_file_does_not_take_the_place_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / name for name in ("installed", "own")]
    for folder in folders:
        folder.mkdir()
        (folder / "twofold.py").write_text(f"def where():\n    return {folder.name!r}\n")
    monkeypatch.setattr(sys, "path", [*map(str, folders), *sys.path])
    function, _ = resolve("twofold:where")
    assert function() == "installed"
    installed, own = (folder / "twofold.py" for folder in folders)
    assert caplog.messages == [f"{own} is not used: the installed {installed} has its name"]

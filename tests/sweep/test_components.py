"""Datasets and networks by name: mistakes that need neither data nor code to detect."""

from __future__ import annotations

import pytest

from tests.sweep_files import assert_mistake, mistakes, valid_but

pytestmark = pytest.mark.usefixtures("folder")

A_COMPONENT = "expected a name, package.module:function, or a mapping with a name"
AN_OPTION = "expected a finite number, a string, true or false, or a list"

EXACT = {
    "dataset: {canvas: 12}": f"2: dataset: {A_COMPONENT}",
    "dataset: {name: digits, canvas: {a: 1}}": f"2: dataset.canvas: {AN_OPTION}",
    "dataset: ':fn'": '2: dataset: expected package.module:function, found ":fn"',
    "dataset: {name: imagenet, root: 3}": "2: dataset.root: expected a folder, found 3",
    "dataset: {name: cifar10, download: yes please}": (
        '2: dataset.download: expected true or false, found "yes please"'
    ),
}
CASES = [
    ("dataset: [digits]", "2: dataset", A_COMPONENT),
    ("dataset: {name: digits, noise: .inf}", "2: dataset.noise", AN_OPTION),
    ("dataset: '..mistaken:fn'", "2: dataset", 'package.module:function, found "..mistaken:fn"'),
    ("target_network: {replaced: 1}", "8: target_network.replaced", "found 1"),
    ("target_network: {widened: [true]}", "8: target_network.widened", "such as [1, layer3.conv]"),
]


@pytest.mark.parametrize("lines", EXACT)
def test_a_mistake_is_one_line(lines: str) -> None:
    assert mistakes(valid_but(lines)) == [f"bad.yaml:{EXACT[lines]}"]


@pytest.mark.parametrize(("lines", "place", "reason"), CASES)
def test_a_mistake_names_line_and_key(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)

"""Divisions of a dataset's classes into two halves, A and B."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainers.config import ConfigError, digest
from trainers.datasets.imagenet import natural_manmade


@dataclass(frozen=True, kw_only=True)
class Split:
    """Class indices of both halves, each in rising order.

    `division` names the population it was drawn from: only splits of one division are pooled. The
    whole set of classes is a split too, with nothing in B.
    """

    name: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    division: str = "named"

    @property
    def halves(self) -> dict[str, tuple[int, ...]]:
        """The halves that have classes, by letter."""
        return {letter: half for letter in "AB" if (half := self.half(letter))}

    @property
    def hash(self) -> str:
        """A hash of the halves and not of the name."""
        return digest([self.a, self.b], 16)

    def half(self, letter: str) -> tuple[int, ...]:
        return {"A": self.a, "B": self.b}[letter]

    def half_hash(self, letter: str) -> str:
        """A hash of the class indices of one half."""
        return digest(self.half(letter), 16)


def random_split(seed: int, n_classes: int, size: int | None = None) -> Split:
    """Random classes against the rest: a half, `s<seed>`, or `size` of them in A, `s<seed>-<size>`.

    The generator is the paper's: numpy's legacy stream seeded with the *list* `[seed]`
    (yosinski/convnet_transfer, ilsvrc12/make_reduced_dataset.py), so that on 1000 classes seeds
    0 to 3 are the paper's own splits. With an odd number of classes A is the smaller half. A larger
    A of the same seed contains the smaller.
    """
    count = n_classes // 2 if size is None else size
    chosen = np.random.RandomState([seed]).permutation(n_classes)[:count]
    a = tuple(sorted(map(int, chosen)))
    suffix = "" if count == n_classes // 2 else f"-{count}"
    return Split(
        name=f"s{seed}{suffix}",
        a=a,
        b=tuple(sorted(set(range(n_classes)) - set(a))),
        division=f"random{suffix}",
    )


def whole(n_classes: int) -> Split:
    """All classes as one task, the paper's `netbase`: half A has them all, B none."""
    return Split(name="whole", a=tuple(range(n_classes)), b=(), division="whole")


def named_split(
    name: str, a: Sequence[int | str], b: Sequence[int | str], classes: Sequence[str]
) -> Split:
    """A split by class indices or names, whose halves share nothing and leave nothing out.

    Raises `ConfigError` with field `A` or `B`, or an empty field for the pair.
    """

    def indices(field: str, half: Sequence[int | str]) -> tuple[int, ...]:
        by_name = {label: index for index, label in enumerate(classes)}
        found = []
        for item in half:
            index = by_name.get(item, -1) if isinstance(item, str) else item
            if not 0 <= index < len(classes):
                expected = f"an index 0..{len(classes) - 1} or a name"
                raise ConfigError(field, f"no class {item!r} in the dataset; expected {expected}")
            found.append(index)
        if len(set(found)) < len(found):
            raise ConfigError(field, "a class is named twice")
        if not found:
            raise ConfigError(field, "expected at least one class")
        return tuple(sorted(found))

    first, second = indices("A", a), indices("B", b)
    if both := sorted(set(first) & set(second)):
        raise ConfigError("", f"the halves overlap: classes {both} are in A and in B")
    if missing := sorted(set(range(len(classes))) - set(first) - set(second)):
        raise ConfigError(
            "", f"the halves do not cover the dataset: classes {missing} are in neither"
        )
    return Split(name=name, a=first, b=second)


KNOWN = {"natural_manmade": natural_manmade}  # divisions that come with the classes


def known_split(name: str, classes: Sequence[str]) -> Split:
    """The division called `name` of a dataset's classes. Raises `ConfigError` if it has none."""
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KNOWN)}"
        raise ConfigError("", f"unknown division {name!r}; {hint}")
    halves = KNOWN[name](classes)
    if halves is None:
        raise ConfigError(
            "",
            f"{name} divides classes named by ImageNet's WordNet ids (n01440764, …), some of each "
            f"group; the dataset's are {', '.join(classes[:3])}, …",
        )
    return Split(name=name, a=halves[0], b=halves[1], division=name)

"""Divisions of a dataset's classes into two halves, A and B."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainers.canonical import ConfigError, digest
from trainers.datasets.imagenet import natural_manmade
from trainers.datasets.sets import whole_numbers
from trainers.spelling import hint

DRAWN = "drawn"  # division of named splits that are draws of one population


@dataclass(frozen=True, kw_only=True)
class Split:
    """Class indices of both halves, each in rising order.

    `division` names the population that the split was drawn from: only splits of one division are
    pooled. The whole set of classes is a split too, with an empty B.
    """

    name: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    division: str

    @property
    def halves(self) -> dict[str, tuple[int, ...]]:
        """Halves that have classes, by letter."""
        return {letter: half for letter in "AB" if (half := self.half(letter))}

    @functools.cached_property
    def hash(self) -> str:
        """Hash of the halves, without the name."""
        return digest([self.a, self.b], 16)

    def half(self, letter: str) -> tuple[int, ...]:
        """Return the class indices of half `A` or `B`."""
        return {"A": self.a, "B": self.b}[letter]

    def half_hash(self, letter: str) -> str:
        """Return a hash of the class indices of one half."""
        return digest(self.half(letter), 16)


def random_split(seed: int, n_classes: int, size: int | None = None) -> Split:
    """Return a random split: half of the classes in A (`s<seed>`), or `size` (`s<seed>-<size>`).

    The generator is the paper's: numpy's legacy stream seeded with the *list* `[seed]`
    (yosinski/convnet_transfer, ilsvrc12/make_reduced_dataset.py), so that on 1000 classes seeds
    0 to 3 are the paper's own splits. With an odd number of classes A is the smaller half. For one
    seed a larger A contains every smaller one.
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
    """Return the split with all classes in A and none in B: the task of the paper's `netbase`."""
    return Split(name="whole", a=tuple(range(n_classes)), b=(), division="whole")


def named_split(
    name: str,
    a: Sequence[int | str],
    b: Sequence[int | str],
    classes: Sequence[str],
    *,
    drawn: bool = False,
) -> Split:
    """Return a split by class indices or names. Classes `1` … `12` are meant by these numbers.

    It is a population of its own; all `drawn` splits are one population. The halves must not
    overlap, and must cover the dataset. Raises `ConfigError` with field `A` or `B`, or with an
    empty field if the pair is wrong.
    """
    numbers = _numbers(classes)
    first, second = (tuple(sorted(indices_of(x, h, classes))) for x, h in (("A", a), ("B", b)))
    if both := [numbers[i] for i in sorted(set(first) & set(second))]:
        raise ConfigError("", f"the halves overlap: classes {both} are in A and in B")
    if missing := [numbers[i] for i in range(len(classes)) if i not in {*first, *second}]:
        raise ConfigError(
            "", f"the halves do not cover the dataset: classes {missing} are in neither"
        )
    return Split(name=name, a=first, b=second, division=DRAWN if drawn else name)


def indices_of(field: str, items: Sequence[int | str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of classes that are given by index or name, in the order given.

    Raises `ConfigError` with this `field` for an unknown or repeated class, or without one.
    """
    numbers = _numbers(classes)
    by_number = {number: index for index, number in enumerate(numbers)}
    by_name = {label: index for index, label in enumerate(classes)}
    chosen = []
    for item in items:
        index = by_name.get(item, -1) if isinstance(item, str) else by_number.get(item, -1)
        if index < 0:
            expected = f"an index {min(numbers)}..{max(numbers)} or a name"
            raise ConfigError(field, f"no class {item!r} in the dataset; expected {expected}")
        chosen.append(index)
    if len(set(chosen)) < len(chosen):
        raise ConfigError(field, "a class is named twice")
    if not chosen:
        raise ConfigError(field, "expected at least one class")
    return tuple(chosen)


def _numbers(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers by which classes are meant: classes `1` … `12` by these."""
    return whole_numbers(classes) or tuple(range(len(classes)))


KNOWN = {"natural_manmade": natural_manmade}  # divisions that come with the classes


def known_split(name: str, classes: Sequence[str]) -> Split:
    """Return the known division `name` of a dataset's classes.

    Raises `ConfigError` for an unknown name, or if the division does not fit these classes.
    """
    if name not in KNOWN:
        way_out = hint(name, KNOWN) or f"; known: {', '.join(KNOWN)}"
        raise ConfigError("", f"unknown division {name!r}{way_out}")
    halves = KNOWN[name](classes)
    if halves is None:
        raise ConfigError(
            "",
            f"{name} divides classes named by ImageNet's WordNet ids (n01440764, …), some of each "
            f"group; the dataset's are {', '.join(classes[:3])}, …",
        )
    return Split(name=name, a=halves[0], b=halves[1], division=name)

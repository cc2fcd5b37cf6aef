"""Comparison of the layers of two networks, with the differences that a sweep declares."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.canonical import ConfigError
from trainers.config import Adaptation

Shapes = Mapping[str, tuple[int, ...]]


def check_adaptation(adapt: Adaptation, source: Shapes, target: Shapes, n: int) -> None:
    """Raise `ConfigError` unless layers 1..n of `target` can be copied from `source`.

    The error's field is `replaced` or `widened` if a declaration is wrong, and empty for a
    difference that is not declared. `networks.tensor_shapes` gives the shapes.
    """
    if problems := misfits(source, target, n, adapt.within(n)):
        field = next((field for field, _ in problems if field), "")
        listed = "; ".join(message for other, message in problems if other == field)
        if not field:
            listed = (
                f"layers 1..{n} differ in what is not declared as replaced or widened: {listed}"
            )
        raise ConfigError(field, listed)


def misfits(base: Shapes, target: Shapes, n: int, adapt: Adaptation) -> list[tuple[str, str]]:
    """Return what keeps layers 1..n from being copied: pairs of a field and a message.

    The field is the wrong declaration, `replaced` or `widened`, or "" for an undeclared difference.
    """
    layers = tuple(f"layer{number}." for number in range(1, n + 1))
    base, target = (
        {name: shape for name, shape in shapes.items() if name.startswith(layers)}
        for shapes in (base, target)
    )
    problems = []
    for name, shape in target.items():
        narrow = base.get(name)
        shapes_differ = f"{name}: base has {narrow or 'nothing'}, target wants {shape}"
        if adapt.widens(name):
            if narrow is None or not _contains(shape, narrow):
                message = f"{shapes_differ}, which is not at least as large in every dimension"
                problems.append(("widened", message))
        elif not adapt.replaces(name) and narrow != shape:
            problems.append(("", shapes_differ))
    for name in base:
        if name not in target and not adapt.replaces(name):
            problems.append(("", f"{name}: in the base only"))
    for field, declared in (("replaced", adapt.replaced), ("widened", adapt.widened)):
        for name in declared:
            only = Adaptation(replaced=(name,))
            covered = [tensor for tensor in {**base, **target} if only.replaces(tensor)]
            if not covered:
                problems.append((field, f"{name}: no such layer or module with weights"))
            elif field == "widened" and all(base.get(t) == target.get(t) for t in covered):
                problems.append((field, f"{name}: declared as widened, but has the base's shape"))
    return problems


def _contains(wide: tuple[int, ...], narrow: tuple[int, ...]) -> bool:
    return len(wide) == len(narrow) and all(w >= n for w, n in zip(wide, narrow, strict=True))

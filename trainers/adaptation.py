"""Do the layers of one network fit another, but for what is declared to differ?"""

from __future__ import annotations

from collections.abc import Mapping

from trainers.config import Adaptation, ConfigError

Shapes = Mapping[str, tuple[int, ...]]


def check_adaptation(adapt: Adaptation, source: Shapes, target: Shapes, n: int) -> None:
    """Raise `ConfigError` unless layers 1..n of `target` can be copied from `source`.

    Its field is `replaced` or `widened` where a declaration is wrong, and empty for what is not
    declared. `networks.tensor_shapes` gives the shapes.
    """
    if wrong := misfits(source, target, n, adapt.within(n)):
        field = next((field for field, _ in wrong if field), "")
        listed = "; ".join(message for found, message in wrong if found == field)
        if not field:
            listed = (
                f"layers 1..{n} differ in what is not declared as replaced or widened: {listed}"
            )
        raise ConfigError(field, listed)


def misfits(base: Shapes, target: Shapes, n: int, adapt: Adaptation) -> list[tuple[str, str]]:
    """What keeps layers 1..n from being copied: the declaration that is wrong or "", and how."""
    layers = tuple(f"layer{number}." for number in range(1, n + 1))
    base, target = (
        {name: shape for name, shape in shapes.items() if name.startswith(layers)}
        for shapes in (base, target)
    )
    wrong = []
    for name, shape in target.items():
        found = base.get(name)
        known = f"{name}: base has {found or 'nothing'}, target wants {shape}"
        if adapt.widens(name):
            if found is None or not _contains(shape, found):
                wrong.append(("widened", f"{known}, which is not the same made wider"))
        elif not adapt.replaces(name) and found != shape:
            wrong.append(("", known))
    for name in base:
        if name not in target and not adapt.replaces(name):
            wrong.append(("", f"{name}: in the base only"))
    for field, declared in (("replaced", adapt.replaced), ("widened", adapt.widened)):
        for name in declared:
            only = Adaptation(replaced=(name,))
            covered = [tensor for tensor in {**base, **target} if only.replaces(tensor)]
            if not covered:
                wrong.append((field, f"{name}: no such layer or module with weights"))
            elif field == "widened" and all(base.get(t) == target.get(t) for t in covered):
                wrong.append((field, f"{name}: declared as widened, and fits as it is"))
    return wrong


def _contains(wide: tuple[int, ...], narrow: tuple[int, ...]) -> bool:
    return len(wide) == len(narrow) and all(w >= n for w, n in zip(wide, narrow, strict=True))

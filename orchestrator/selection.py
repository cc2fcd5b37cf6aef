"""Which trials of a plan a condition is true of: `treatment=transfer and n=3`. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.plan import Plan
from orchestrator.spec import ALL_TREATMENTS

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*('[^']*'|\"[^\"]*\"|\S+)\s*")


def select(plan: Plan, condition: str) -> set[str]:
    """Ids of the trials that `condition` is true of, such as `treatment=transfer and n=3`.

    `treatment=transfer+` is the fine-tuned ones, `treatment=transfer` both.
    Raises `LayerwiseError`.
    """
    tests: list[Callable[[Mapping[str, Any]], bool]] = []
    keys = [key for key in plan.members[0].labels() if key != "tuning_unequal"]
    for part in re.split(r"(?i)\s+and\s+", condition.strip()):
        match = CONDITION.fullmatch(part)
        if not match or match[1] not in keys:
            raise LayerwiseError(
                f"--only: cannot read {part!r}; expected conditions such as "
                f"'treatment=transfer and n=3' with the keys {', '.join(keys)}"
            )
        tests.append(_test(*match.groups()))
    return {t.id for t in plan.members if all(test(t.labels()) for test in tests)}


def _test(key: str, sign: str, text: str) -> Callable[[Mapping[str, Any]], bool]:
    compare = OPERATORS[sign]
    text = text.strip("'\"")
    if key == "treatment" and text not in ALL_TREATMENTS:
        names = ", ".join(ALL_TREATMENTS)
        raise LayerwiseError(f"--only: expected one of {names}, found {text!r}")
    if key == "treatment" and text.endswith("+"):
        kind = text.removesuffix("+")
        return lambda row: compare(
            (row["treatment"], row["n"] > 0 and not row["frozen"]), (kind, True)
        )
    value: Any = text
    if key in ("n", "seed", "images_per_class"):
        if not text.isdigit():
            raise LayerwiseError(f"--only: {key} is compared with a whole number, found {text!r}")
        value = int(text)
    elif key == "frozen":
        if text.lower() not in ("true", "false"):
            raise LayerwiseError(f"--only: frozen is true or false, found {text!r}")
        value = text.lower() == "true"
    return lambda row: row[key] is not None and compare(row[key], value)

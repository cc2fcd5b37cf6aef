"""What the statistics of one group of a sweep say, in sentences. Pure.

Every number comes from the tables, and a sentence whose numbers are missing is left out. A transfer
gain is never stated without longer training beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.comparisons import METRICS, Group
from orchestrator.intervals import CLASS_AND_SEED

Rows = Sequence[Mapping[str, Any]]


def points(fraction: float, *, sign: bool = True, digits: int = 1) -> str:
    """A fraction in percentage points, with one decimal: +1.2, −13.0."""
    value = round(100 * fraction, digits) + 0.0  # turns −0.0 into 0.0
    return f"{value:{'+' * sign}.{digits}f}".replace("-", "−")


def bounds(row: Mapping[str, Any], kind: str = "") -> str:
    """The interval of a row in points, with a space before; empty where there is none."""
    low, high = row[f"low{kind}"], row[f"high{kind}"]
    return "" if low is None else f" [{points(low)}, {points(high)}]"


def population(group: Group) -> str:
    """What a group is over, for a reader: random splits, first 250 images of each class."""
    division = group.division
    names = {
        "random": "random splits",
        "natural_manmade": "natural and man-made",
        "named": "named splits",
        "whole": "all classes",
    }
    parts = [names.get(division, division.replace("_", " / "))]
    if division.startswith("random-"):
        parts = [f"random splits with {division.removeprefix('random-')} classes in A"]
    if group.images_per_class is not None:
        parts.append(f"first {count(group.images_per_class, 'image')} of each class")
    return ", ".join(parts)


def interval_note(row: Mapping[str, Any]) -> str:
    """What the interval of a row counts, after "pointwise 95 % "."""
    if row["unit"] == CLASS_AND_SEED:
        seeds = count(row["n_seeds"], "seed")
        return f"bootstrap interval over classes and seeds ({seeds}) of one split"
    return f"t interval over {count(row['n_splits'], 'split')}"


def half_width(row: Mapping[str, Any]) -> str:
    """Half of the pointwise interval of a row in points: ±0.4; empty where there is none."""
    low, high = row["low"], row["high"]
    return "" if low is None else f"±{points((high - low) / 2, sign=False)}"


def findings(effects: Rows, levels: Rows, speeds: Rows) -> list[str]:
    """Sentences on frozen transfer, fine-tuning and speed, from rows with at_chance 'included'."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in effects:
        found.setdefault(row["effect"], {})[row["n"]] = row
    metric = METRICS[levels[0]["metric"]] if levels else METRICS["top1"]
    sentences = [
        _bases(levels, metric),
        _frozen(found, metric.removeprefix("test ")),
        _drop(found),
        _fine_tuned(found),
        _speed(speeds),
    ]
    return [sentence for sentence in sentences if sentence]


def _bases(levels: Rows, metric: str) -> str:
    base = next((row for row in levels if row["arm"] == "base"), None)
    if base is None:
        return ""
    networks = count(base["n_networks"], "network")
    splits = count(base["n_splits"], "split")
    return (
        f"Trained from scratch, the bases reach {points(base['value'], sign=False)} % {metric} "
        f"({networks}, {splits})."
    )


def _frozen(found: Mapping[str, Mapping[int, Mapping[str, Any]]], metric: str) -> str:
    transfer = found.get("transfer")
    if not transfer:
        return ""
    first, last = min(transfer), max(transfer)
    text = (
        f"With the first n layers copied from the other half and frozen (AnB), {metric} changes by "
        f"{points(transfer[first]['estimate'])} points{bounds(transfer[first])} at n = {first}"
    )
    if last > first:
        text += (
            f" and by {points(transfer[last]['estimate'])}{bounds(transfer[last])} at n = {last}"
        )
    if all(row["low"] is None for row in transfer.values()):
        return text + "."
    below = [n for n, row in transfer.items() if (row["high_simultaneous"] or 0) < 0]
    return f"{text}. The simultaneous interval lies below zero at {_where(below)}."


def _drop(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    co_adaptation, specificity = found.get("co_adaptation", {}), found.get("specificity", {})
    if not (shared := co_adaptation.keys() & specificity.keys()):
        return ""
    n = max(shared)
    own, other = co_adaptation[n], specificity[n]
    text = (
        f"At n = {n}, broken co-adaptation (base − BnB) accounts for {points(own['estimate'])} "
        f"points{bounds(own)} of the loss, and specificity to the other half's classes (BnB − AnB) "
        f"for {points(other['estimate'])}{bounds(other)}"
    )
    if random := found.get("random", {}).get(n):
        text += f"; untrained random filters change top-1 by {points(random['estimate'])}"
    return text + "."


def _fine_tuned(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    gain, longer = found.get("gain"), found.get("longer_training", {}).get(0)
    if not gain:
        return ""
    text = f"Fine-tuned, transfer (AnB+) ends {_range(gain)} points against the base"
    if own := found.get("selffer_gain"):
        text += f", its control from the same half (BnB+) {_range(own)}"
    if longer is None:
        return f"{text}. Its control for longer training (base_long) has not been run."
    text += (
        ", and a base trained for as many steps in all (base_long) "
        f"{points(longer['estimate'])}{bounds(longer)}."
    )
    transfer_gain = found.get("transfer_gain")
    if not transfer_gain:
        return text
    text += f" The transfer gain (AnB+ − BnB+) is {_range(transfer_gain)} points"
    if all(row["low"] is None for row in transfer_gain.values()):
        return text + "."
    clear = [
        n
        for n, row in transfer_gain.items()
        if row["low"] is not None and not row["low_simultaneous"] <= 0 <= row["high_simultaneous"]
    ]
    return f"{text}; its simultaneous interval excludes zero at {_where(clear)}."


def _speed(speeds: Rows) -> str:
    rows = {(row["arm"], row["n"]): row for row in speeds}
    base = rows.get(("base", 0))
    if base is None or base["steps"] is None:
        return ""
    text = "Half of the networks have reached the base's final validation top-1 by step"
    parts = [f"{base['steps']:.0f} (base)"]
    for arm in ("base_long", "BnB+", "AnB+"):
        steps = [row["steps"] for (name, _), row in rows.items() if name == arm]
        known = [x for x in steps if x is not None]
        if steps and len(known) == len(steps):
            low, high = f"{min(known):.0f}", f"{max(known):.0f}"
            parts.append(f"{low} ({arm})" if low == high else f"{low} to {high} ({arm})")
    frozen = [row for (name, _), row in rows.items() if name == "AnB"]
    never = sum(row["n_never"] for row in frozen)
    text = f"{text} {', '.join(parts)}."
    if frozen:
        total = sum(row["n_networks"] for row in frozen)
        text += f" {never} of {total} frozen transfers (AnB) never reached it."
    return text


def _range(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """Least and greatest estimate over n."""
    low, high = (points(pick(row["estimate"] for row in rows.values())) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _where(layers: Sequence[int]) -> str:
    """n = 2, 3 and 5."""
    names = [str(n) for n in sorted(layers)]
    if len(names) > 1:
        names = [f"{', '.join(names[:-1])} and {names[-1]}"]
    return f"n = {names[0]}" if names else "no n"


def count(number: int, noun: str) -> str:
    """1 split, 2 splits."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

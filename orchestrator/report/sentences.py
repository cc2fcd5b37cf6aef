"""The statistics of one group of a sweep in sentences. Pure.

Every number comes from the tables, and a sentence whose numbers are missing is left out. A transfer
gain is never stated without longer training beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from orchestrator.report.wording import bounds, count, other, percent, points, steps
from orchestrator.stats.intervals import DRAW
from orchestrator.stats.measurements import METRICS, is_direction

Rows = Sequence[Mapping[str, Any]]
OVERFITTING = {  # effect on training less test top-1: the beginning of what is said of it
    "gain": "With all layers fine-tuned (AnB+),",
    "transfer": "With the first n layers frozen (AnB),",
    "pixels": "On pixels",
    "longer_training": "With longer training (base_long),",
}


class Sentence(str):
    """A sentence, and the name of the query that gives its numbers; see `queries`."""

    __slots__ = ("query",)
    query: str

    def __new__(cls, text: str, query: str) -> Self:
        sentence = super().__new__(cls, text)
        sentence.query = query
        return sentence


ByEffect = dict[str, dict[int, Mapping[str, Any]]]  # effect → n → row


def sentences_of(
    effects: Rows, levels: Rows, speeds: Rows, gaps: Rows = (), gap_levels: Rows = ()
) -> list[Sentence]:
    """Return sentences on frozen transfer, fine-tuning, over-fitting and speed.

    `effects` are rows with `at_chance` included, all of one group; `gaps` and `gap_levels` are
    those of training less test top-1.
    """
    by_effect = _by_effect(effects)
    metric = METRICS[levels[0]["metric"]] if levels else METRICS["top1"]
    short = metric.removeprefix("test ")
    texts = [
        ("levels", _bases(levels, metric)),
        ("", _weights(levels)),
        ("effects", _frozen(by_effect, short)),
        ("effects", _drop(by_effect, short)),
        ("effects", _stitched_self(by_effect)),
        ("effects", _upper_layers(by_effect)),
        ("effects", _stitched(by_effect)),
        ("effects", _fine_tuned(by_effect)),
        ("effects", _over_longer(by_effect)),
        ("gaps", _overfitting(_by_effect(gaps), gap_levels)),
        ("speeds", _speed(speeds)),
    ]
    return [Sentence(text, query) for query, text in texts if text]


def _by_effect(rows: Rows) -> ByEffect:
    by_effect: ByEffect = {}
    for row in rows:
        by_effect.setdefault(row["effect"], {})[row["n"]] = row
    return by_effect


def _bases(levels: Rows, metric: str) -> str:
    base = next((row for row in levels if row["arm"] == "base"), None)
    if base is None:
        return ""
    networks = count(base["n_networks"], "network")
    splits = count(base["n_splits"], "draw" if base["unit"] == DRAW else "split")
    return (
        f"Trained from scratch, the bases reach {percent(base['value'])} % {metric} "
        f"({networks}, {splits})."
    )


def _weights(levels: Rows) -> str:
    if not levels or not levels[0]["division"].startswith("weights "):
        return ""
    return (
        "The source is a file of weights. So there is no BnB, and broken co-adaptation cannot be "
        "told from specificity; the controls are random filters and training from scratch."
    )


def _frozen(by_effect: ByEffect, metric: str) -> str:
    transfer = by_effect.get("transfer")
    if not transfer:
        return ""
    first, last = min(transfer), max(transfer)
    copied = other(transfer[first]["division"])
    text = (
        f"With the first n layers copied from {copied} and frozen (AnB), {metric} changes by "
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


def _drop(by_effect: ByEffect, metric: str) -> str:
    co_adaptation, specificity = (
        by_effect.get("co_adaptation", {}),
        by_effect.get("specificity", {}),
    )
    if not (shared := co_adaptation.keys() & specificity.keys()):
        return ""
    n = max(shared)
    own, lost = co_adaptation[n], specificity[n]
    division = own["division"]
    classes = other(division) if is_direction(division) else "the other half's classes"
    text = (
        f"At n = {n}, broken co-adaptation (base − BnB) accounts for {points(own['estimate'])} "
        f"points{bounds(own)} of the loss, and specificity to {classes} (BnB − AnB) "
        f"for {points(lost['estimate'])}{bounds(lost)}"
    )
    if random := by_effect.get("random", {}).get(n):
        text += f"; untrained random filters change {metric} by {points(random['estimate'])}"
    return text + "."


def _stitched_self(by_effect: ByEffect) -> str:
    """Say whether a map between two layers of the same base is found again."""
    rows = by_effect.get("stitched_self")
    if not rows:
        return ""
    text = (
        f"Stitched to itself by a linear map that learns (Bn|B), a base ends {_range(rows)} points "
        "against itself"
    )
    if not _known(rows):
        return text + "."
    lost = _signs(rows)[-1]
    if not lost:
        return f"{text}; the simultaneous interval lies below zero at no n."
    return (
        f"{text}; the simultaneous interval lies below zero at {_where(lost)}. There coordinates "
        "are lost and no information is, since the identity would restore the base."
    )


def _upper_layers(by_effect: ByEffect) -> str:
    """Say what of broken co-adaptation lies in the upper layers, not in layer n."""
    gain, drop = by_effect.get("stitching_self_gain", {}), by_effect.get("co_adaptation", {})
    rows = {n: row for n, row in gain.items() if n in drop}
    if not rows:
        return ""
    text = (
        "Behind the same frozen layers, the base's own upper layers and a map (Bn|B) end "
        f"{_range(rows)} points against new upper layers (BnB)"
    )
    if not _known(rows):
        return text + "."
    better, worse = _signs(rows)[1], _signs(rows)[-1]
    fragile = [n for n in _signs(drop)[1] if n in better]
    text += f"; the simultaneous interval lies above zero at {_where(better)}"
    text += f", below zero at {_where(worse)}." if worse else "."
    if fragile:
        text += (
            f" So the broken co-adaptation at {_where(fragile)} is no lost information: layer n "
            "still has what the old upper layers need, and new ones do not learn to use it."
        )
    return text


def _stitched(by_effect: ByEffect) -> str:
    """Say whether the source's layers lack information or have other coordinates."""
    rows = by_effect.get("stitching_specificity")
    if not rows:
        return ""
    copied = other(next(iter(rows.values()))["division"])
    text = (
        f"With the first n layers from {copied} in their place (An|B), stitched networks lose "
        f"{_range(rows)} points more than stitched to themselves"
    )
    if not _known(rows):
        return text + "."
    lost = _signs(rows)[1]
    text += f"; the simultaneous interval lies above zero at {_where(lost)}."
    specific = [n for n in _signs(by_effect.get("specificity", {}))[1] if n in rows]
    newer_better = _signs(by_effect.get("stitching_gain", {}))[-1]
    if there := [n for n in lost if n in newer_better]:
        text += (
            f" At {_where(there)}, new upper layers (AnB) are clearly better behind the same "
            "layers: some of what is missing is there, in coordinates from which no map was found."
        )
    if gone := [n for n in lost if n in specific and n not in newer_better]:
        text += (
            f" At {_where(gone)}, AnB is clearly below BnB too, and not clearly above An|B: "
            "neither old nor new upper layers find what is missing. That information is lost to "
            "both."
        )
    if kept := [n for n in specific if n not in lost]:
        text += (
            f" At {_where(kept)}, AnB is clearly below BnB and An|B is not clearly below Bn|B: "
            "lost information does not show there."
        )
    return text


def _known(rows: Mapping[int, Mapping[str, Any]]) -> bool:
    """Return whether any row has an interval."""
    return any(row["low"] is not None for row in rows.values())


def _signs(rows: Mapping[int, Mapping[str, Any]]) -> dict[int, list[int]]:
    """Return the n at which the simultaneous interval lies above (1) and below zero (-1)."""
    known = {n: row for n, row in rows.items() if row["low_simultaneous"] is not None}
    return {
        1: [n for n, row in known.items() if row["low_simultaneous"] > 0],
        -1: [n for n, row in known.items() if row["high_simultaneous"] < 0],
    }


def _fine_tuned(by_effect: ByEffect) -> str:
    gain, longer = by_effect.get("gain"), by_effect.get("longer_training", {}).get(0)
    if not gain:
        return ""
    text = f"Fine-tuned, transfer (AnB+) ends {_range(gain)} points against the base"
    kind = "task" if is_direction(next(iter(gain.values()))["division"]) else "half"
    if own := by_effect.get("selffer_gain"):
        text += f", its control from the same {kind} (BnB+) {_range(own)}"
    if longer is None:
        return f"{text}. Its control for longer training (base_long) has not been run."
    text += (
        ", and a base trained for as many steps in all (base_long) "
        f"{points(longer['estimate'])}{bounds(longer)}."
    )
    transfer_gain = by_effect.get("transfer_gain")
    if not transfer_gain:
        return text
    return f"{text} The transfer gain (AnB+ − BnB+) is {_range(transfer_gain)} points" + _clear(
        transfer_gain
    )


def _over_longer(by_effect: ByEffect) -> str:
    """Compare fine-tuning with longer training, network by network."""
    gain = by_effect.get("gain_over_longer")
    if not gain:
        return ""
    text = f"Less longer training (base_long), transfer (AnB+) gains {_range(gain)} points"
    text += _clear(gain)
    if own := by_effect.get("selffer_gain_over_longer"):
        text += f" Its control (BnB+) gains {_range(own)}" + _clear(own)
    return text


def _overfitting(by_effect: ByEffect, levels: Rows) -> str:
    """Say how far networks over-fit, each kind against the bases of the same targets."""
    base = next((row for row in levels if row["arm"] == "base"), None)
    if base is None:
        return ""
    text = (
        f"Over-fitting, training less test top-1, is {percent(base['value'])} points in the bases"
    )
    parts = []
    for effect, name in OVERFITTING.items():
        if rows := by_effect.get(effect):
            first, last = rows[min(rows)], rows[max(rows)]
            part = f"{name} it changes by {points(first['estimate'])}{bounds(first)}"
            part += f" at n = {first['n']}" if first["n"] else ""
            if last is not first:
                part += f" and by {points(last['estimate'])}{bounds(last)} at n = {last['n']}"
            parts.append(part + _sides(rows))
    return f"{'. '.join([text, *parts])}."


def _sides(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the n at which a simultaneous interval lies below and above zero."""
    bounded = {n: row for n, row in rows.items() if n and row["low"] is not None}
    if not bounded:
        return ""
    below = [n for n, row in bounded.items() if row["high_simultaneous"] < 0]
    above = [n for n, row in bounded.items() if row["low_simultaneous"] > 0]
    return (
        f"; the simultaneous interval lies below zero at {_where(below)} and above zero at "
        f"{_where(above)}"
    )


def _clear(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the n at which an effect is clear, to end a sentence; only a full stop without n."""
    if all(row["low"] is None for row in rows.values()):
        return "."
    clear = [
        n
        for n, row in rows.items()
        if row["low"] is not None and not row["low_simultaneous"] <= 0 <= row["high_simultaneous"]
    ]
    return f"; its simultaneous interval excludes zero at {_where(clear)}."


def _speed(speeds: Rows) -> str:
    rows = {(row["arm"], row["n"]): row for row in speeds}
    base = rows.get(("base", 0))
    if base is None or base["steps"] is None:
        return ""
    text = "Half of the networks have reached the base's final validation top-1 by step"
    parts = [f"{steps(base['steps'])} (base)"]
    for arm in ("base_long", "BnB+", "AnB+"):
        medians = [row["steps"] for (name, _), row in rows.items() if name == arm]
        if medians and None not in medians:
            low, high = steps(min(medians)), steps(max(medians))
            parts.append(f"{low} ({arm})" if low == high else f"{low} to {high} ({arm})")
    frozen = [row for (name, _), row in rows.items() if name == "AnB"]
    never = sum(row["n_never"] for row in frozen)
    text = f"{text} {', '.join(parts)}."
    if frozen:
        total = sum(row["n_networks"] for row in frozen)
        text += f" {never} of {total} frozen transfers (AnB) never reached it."
    return text


def _range(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the least and the greatest estimate over n: `+2.9 to +4.2`."""
    low, high = (points(pick(row["estimate"] for row in rows.values())) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _where(layers: Sequence[int]) -> str:
    """Return `n = 2, 3 and 5`."""
    names = [str(n) for n in sorted(layers)]
    if len(names) > 1:
        names = [f"{', '.join(names[:-1])} and {names[-1]}"]
    return f"n = {names[0]}" if names else "no n"

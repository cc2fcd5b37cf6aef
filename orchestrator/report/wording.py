"""Numbers, counts and names as a reader sees them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.plan.conditions import readable
from orchestrator.stats.intervals import CLASS_AND_SEED
from orchestrator.stats.measurements import Group, is_direction

if TYPE_CHECKING:
    from orchestrator.execution.items import Unit
    from orchestrator.stats.statistics import Statistics

MOST_NAMES = 5  # of trials in a line
VERBS_OF_UNITS: dict[Unit, str] = {"measurement": "measured", "extraction": "extracted"}
VERBS_OF_TABLES = {f"{unit}s": verb for unit, verb in VERBS_OF_UNITS.items()}
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent, without the sign: `87.5`."""
    return f"{100 * fraction:.{digits}f}"


def points(fraction: float, digits: int = 1) -> str:
    """Return a difference of fractions in percentage points, with its sign: `+1.2`, `−13.0`."""
    value = round(100 * fraction, digits) + 0.0  # turns −0.0 into 0.0
    return f"{value:+.{digits}f}".replace("-", "−")


def bounds(row: Mapping[str, Any]) -> str:
    """Return the pointwise interval of a row in points after a space, or nothing if it has none."""
    low, high = row["low"], row["high"]
    return "" if low is None else f" [{points(low)}, {points(high)}]"


def half_width(row: Mapping[str, Any]) -> str:
    """Return half of the pointwise interval of a row in points, `±0.4`, or nothing."""
    low, high = row["low"], row["high"]
    return "" if low is None else f"±{percent((high - low) / 2)}"


def mark(row: Mapping[str, Any]) -> str:
    """Return a star if a split of a row has one of its two directions, else nothing."""
    return "*" if row["n_half"] else ""


def mark_note(rows: Iterable[Mapping[str, Any]]) -> str:
    """Explain the star of `mark` if a row has one, else return nothing."""
    most = max((row["n_half"] for row in rows), default=0)
    if not most:
        return ""
    return f"* {'up to ' if most > 1 else ''}{count(most, 'split')} with one of two directions only"


def interval_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name the interval of rows of one group and its units, to follow "pointwise 95 % ".

    Rows without an interval are passed over; one row must have one.
    """
    bounded = [row for row in rows if row["low"] is not None]
    if bounded[0]["unit"] == CLASS_AND_SEED:
        seeds = _counts((row["n_seeds"] for row in bounded), "seed")
        return f"interval over classes and seeds ({seeds}) of one split"
    return f"t interval over {_counts((row['n_splits'] for row in bounded), bounded[0]['unit'])}"


def _counts(numbers: Iterable[int], noun: str) -> str:
    """Return `2 to 4 splits`, or `4 splits` if all numbers are 4."""
    low, *_, high = sorted([*(known := list(numbers)), *known])
    return count(high, noun) if low == high else f"{low} to {count(high, noun)}"


def no_interval(row: Mapping[str, Any]) -> str:
    """Say why a row has no interval."""
    if row["unit"] == CLASS_AND_SEED:
        return "one seed of one split: no interval"
    return f"one {row['unit']}: no interval"


def population(group: Group) -> str:
    """Name the networks of a group: `random splits, first 250 images of each class`."""
    division = group.division
    names = {
        "random": "random splits",
        "natural_manmade": "natural and man-made",
        "drawn": "drawn splits",
        "whole": "all classes",
    }
    is_named = is_direction(division) or division.startswith("source ")
    parts = [names.get(division, division if is_named else f"split {division}")]
    if size := re.fullmatch(r"random-(\d+)", division):
        parts = [f"random splits with {size[1]} classes in A"]
    if group.images_per_class is not None:
        which = "" if is_named else "first "
        parts.append(f"{which}{count(group.images_per_class, 'image')} of each class")
    if group.condition is not None:
        parts.append(readable(group.condition))
    return ", ".join(parts)


def other(division: str) -> str:
    """Name what layers are copied from: `mnist`, or the other half."""
    return division.partition(" to ")[0] if is_direction(division) else "the other half"


def capital(text: str) -> str:
    """Return a string with a capital at its start; the other letters stay."""
    return text[:1].upper() + text[1:]


def count(number: int, noun: str) -> str:
    """Return `1 split`, `2 splits`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def lacking_note(paths: Mapping[str, str]) -> list[str]:
    """Return a line on trials whose rows are complete and whose files are gone; [] for none.

    `paths` has the missing file of each trial by the trial's name.
    """
    if not paths:
        return []
    names = ", ".join(list(paths)[:MOST_NAMES])
    more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
    trials = count(len(paths), "complete trial")
    state, them = "lack files and count as missing", "them"
    if len(paths) == 1:
        state, them = "lacks a file and counts as missing", "it"
    return [
        f"{trials} {state}, so that `layerwise run` trains {them} again: "
        f"{names}{more}; gone: {next(iter(paths.values()))}"
    ]


def steps(number: float | None) -> str:
    """Return a number of training steps; null stands for a goal that was never reached."""
    return "never" if number is None else f"{number:.0f}"


def dimensions(shape: Sequence[int]) -> str:
    """Return `3×32×32`."""
    return "×".join(map(str, shape))


def duration(seconds: float) -> str:
    """Return `1:05` or `2:00:00`, and `3 d 4 h` from two days on."""
    total = round(seconds)
    if total >= 2 * 86400:
        return f"{total // 86400} d {total % 86400 // 3600} h"
    hours, minutes = divmod(total // 60, 60)
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"


def hours(number: float) -> str:
    """Return hours with three digits, or whole from 100 on: `0.52`, `1,234`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def per_minute(number: float, seconds: float) -> str:
    """Return the rate of events, `120 per minute`, from their number and a time above zero."""
    return f"{60 * number / seconds:.3g} per minute"


def si(number: float) -> str:
    """Return a number with an SI prefix: `1.23 T` for 1.23e12."""
    power = max(0, min(len(PREFIXES) - 1, int(math.log10(number) // 3))) if number else 0
    return f"{number / 1000**power:.3g} {PREFIXES[power]}".rstrip()


def left_out(statistics: Statistics, *, curves: bool = False) -> str:
    """Return a sentence on the trials that the numbers leave out; empty if there are none.

    With `curves`, numbers of learning curves are meant too.
    """
    reasons = {
        "not complete": len(statistics.incomplete),
        "without a complete base": len(statistics.unpaired),
        "without a curve": len(statistics.without_curve) if curves else 0,
    }
    total, planned = sum(reasons.values()), len(statistics.members["id"].unique())
    if not (total and statistics.networks):
        return ""
    are = "is" if total == 1 else "are"
    parts = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)
    return f"{total} of {count(planned, 'trial')} {are} left out: {parts}"

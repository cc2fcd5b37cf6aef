"""The question of a report and its answer, two sentences that are made from numbers."""

from __future__ import annotations

from orchestrator.report.sentences import Sentence
from orchestrator.report.wording import other
from orchestrator.stats.measurements import METRICS, Group, is_direction
from orchestrator.stats.reach import Reach, Step


def lead(group: Group, of: Reach) -> tuple[str, Sentence]:
    """Return the question on frozen transfer in a group, and the answer."""
    named = is_direction(group.division) or group.division.startswith("weights ")
    source = other(group.division)
    learned = source if named else f"{source} of the classes"
    question = (
        f"How many first layers of a network that has learned {learned} can be copied and frozen "
        f"for less than {100 * of.margin:g} points of {METRICS[group.metric]}?"
    )
    return question, Sentence(_answer(of), "effects")


def _answer(of: Reach) -> str:
    first, end = of.steps[0], of.steps[-1]
    if all(step.upper is None for step in of.steps):
        text = f"One split cannot tell: in it, {_lost(first)} are lost at n = {first.n}"
        return f"{text}{_at(end, first)}."
    if of.last is None:
        text = f"For none is that shown: {_lost(first)} are lost at n = {first.n}, {_bound(first)}"
        return f"{text}{_at(end, first)}."
    which = "All that were tried, up" if of.next is None else "Those up"
    text = f"{which} to n = {of.last.n}, where {_lost(of.last)} are lost, {_bound(of.last)}"
    if of.next is None:
        return f"{text}."
    text += f"; for n = {of.next.n} it is not shown ({_number(of.next.loss)}, {_bound(of.next)})"
    return f"{text}{_at(end, of.next)}."


def _at(end: Step, before: Step) -> str:
    return "" if end.n == before.n else f", and n = {end.n} loses {_number(end.loss)}"


def _bound(step: Step) -> str:
    if step.upper is None:
        return "without an interval"
    return f"at most {_number(step.upper)} with 95 % confidence"


def _lost(step: Step) -> str:
    return f"{_number(step.loss)} points"


def _number(loss: float) -> str:
    value = round(100 * loss, 1) + 0.0
    return f"{value:.1f}".replace("-", "−")

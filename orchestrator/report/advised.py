"""The advice on which layers to keep, as sentences and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.report.wording import count, other, percent, points, population
from orchestrator.stats.advice import LEVEL, MOST_UNITS, POWER, Advice, Comparison, Option
from orchestrator.stats.measurements import METRICS

if TYPE_CHECKING:
    from rich.console import Console

NAMES = {
    "base": "from scratch",
    "base_long": "from scratch, for longer",
    "pixels": "classifier on pixels",
    "AnB": "frozen",
    "AnB+": "fine-tuned",
}


def sentences(answer: Advice) -> list[str]:
    """Return the answer in sentences: frozen layers, fine-tuned layers, and how sure both are."""
    return [_frozen(answer), *_highest(answer), *_tuned(answer)]


def _highest(answer: Advice) -> list[str]:
    """Name the frozen transfer with the highest accuracy, if the tests do not reach it."""
    highest = answer.best_frozen
    if highest.n in {loss.n for loss in answer.losses}:
        return []
    value = percent(highest.value)
    return [
        f"Of the frozen transfers, n = {highest.n} has the highest accuracy, {value} %; no test "
        "says that it is better than the others."
    ]


def _frozen(answer: Advice) -> str:
    copied, margin = other(answer.group.division), percent(answer.margin)
    best = _option(answer.best)
    sure = f"{1 - LEVEL:.0%}"
    ends = answer.ends
    if answer.frozen is None:
        start = f"Cannot tell whether any layer of {copied} can be kept frozen"
        if ends.verdict == "loses":
            start = f"Keep no layer of {copied} frozen"
    else:
        loss = next(x for x in answer.losses if x.n == answer.frozen.n)
        start = (
            f"Layers 1 to {loss.n} of {copied} can be kept frozen: against the best option "
            f"({best}) they lose {_loss(loss)} points, less than the margin of {margin} "
            f"({sure} sure)"
        )
    if ends.verdict == "keeps":
        return f"{start}. That is the largest n of the sweep."
    if ends.verdict == "loses":
        return (
            f"{start}. At n = {ends.n} the loss is {_loss(ends)} points, more than the margin of "
            f"{margin} ({sure} sure)."
        )
    if answer.frozen is None and ends.lower is not None:
        start += f" within {margin} points of the best option ({best})"
    return f"{start}. {_open(answer, ends)}"


def _open(answer: Advice, ends: Comparison) -> str:
    """Say that one n is not decided, and how many more units would decide."""
    text = f"At n = {ends.n} the loss is {_loss(ends)} points"
    if ends.lower is None:
        return f"{text}, without an interval: one {answer.unit} cannot tell; use four or more."
    if ends.needed is None and ends.units == 1:
        more = "more seeds would, or several splits"
    elif ends.needed is None:
        more = f"more than {MOST_UNITS} {answer.unit}s would be needed"
    else:
        number = max(1, ends.needed - ends.units)
        more = f"{number} more {answer.unit}{'s' * (number > 1)} would, with a power of {POWER:.0%}"
    units = count(ends.units, answer.unit)
    return f"{text}: {units} cannot tell whether that is within the margin; {more}."


def _tuned(answer: Advice) -> list[str]:
    tuned, gain = answer.tuned, answer.gain
    if tuned is None:
        return []
    text = f"Fine-tuned, n = {tuned.n} is best with {percent(tuned.value)} %"
    if answer.equals:
        text += f"; n = {_list(answer.equals)} cannot be told from it"
    if gain is None:
        return [f"{text}."]
    size = f"{points(gain.mean)} points against training from scratch{_bounds(gain)}"
    if gain.lower is None:
        return [f"{text}. That is {size}; one {answer.unit} gives no interval."]
    if gain.verdict == "open":
        number = None if gain.needed is None else max(1, gain.needed - gain.units)
        more = "" if number is None else f"; {number} more {answer.unit}s would probably show it"
        return [f"{text}. That is {size}, which may be nothing{more}."]
    return [f"{text}. That is {size}."]


def _option(option: Option) -> str:
    name = NAMES[option.arm]
    return f"{name}, n = {option.n}" if option.n else name


def _loss(loss: Comparison) -> str:
    return f"{percent(loss.mean)}{_bounds(loss)}"


def _bounds(row: Comparison) -> str:
    if row.lower is None or row.upper is None:
        return ""
    return f" [{points(row.lower)}, {points(row.upper)}]"


def _list(layers: Sequence[int]) -> str:
    names = list(map(str, layers))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def options(answer: Advice) -> list[Option]:
    """Return the options that the answer names, each once."""
    named = [
        answer.scratch,
        answer.frozen,
        answer.best_frozen,
        answer.tuned,
        answer.best,
    ]
    return list(dict.fromkeys(option for option in named if option is not None))


def cells(answer: Advice) -> list[list[str]]:
    """Return the table of the options: name, accuracy in percent, seconds, MB, images."""

    def number(value: float | None, unit: float = 1.0, form: str = ",.0f") -> str:
        return "" if value is None else format(value / unit, form)

    return [
        [
            _option(option),
            percent(option.value),
            number(option.seconds, form=",.1f"),
            number(option.memory_bytes, 1e6),
            number(option.images),
        ]
        for option in options(answer)
    ]


def title(answer: Advice) -> str:
    """Return the name of the group that an answer is for."""
    return f"{population(answer.group)} ({METRICS[answer.group.metric]})"


HEADINGS = ("option", "%", "seconds", "memory (MB)", "images seen")


def print_advice(answers: Sequence[Advice], console: Console) -> None:
    """Print the answers, each with its table of costs."""
    from rich.table import Table

    for answer in answers:
        console.print(title(answer), soft_wrap=True)
        for sentence in sentences(answer):
            console.print(sentence, soft_wrap=True)
        table = Table(HEADINGS[0])
        for heading in HEADINGS[1:]:
            table.add_column(heading, justify="right")
        for row in cells(answer):
            table.add_row(*row)
        console.print(table)


def as_json(answer: Advice) -> dict[str, Any]:
    """Return an answer as JSON values."""
    from dataclasses import asdict

    return {
        **asdict(answer),
        "group": answer.group._asdict(),
        "sentences": sentences(answer),
    }


def on_page(answer: Advice) -> dict[str, Any]:
    """Return the section of an answer in the report."""
    return {
        "sentences": sentences(answer),
        "headings": HEADINGS,
        "rows": cells(answer),
        "margin": percent(answer.margin),
    }

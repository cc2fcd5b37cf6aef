"""Methods of a sweep: every setting, versions, and the commands that repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import SweepError
from orchestrator.report.wording import count
from orchestrator.states import State
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import SweepRecord
from orchestrator.sweep.load import load_recorded
from orchestrator.sweep.settings import settings
from orchestrator.sweep.source import CHANGED

COMMIT = "layerwise_commit"  # key of the column `versions`
MOST = 12  # names in a sentence


@dataclass(frozen=True)
class Methods:
    """All that a reader needs to judge a sweep and to repeat it."""

    sentences: Sequence[str]
    settings: Sequence[tuple[str, str]]
    """All that decides which networks are trained, by dotted key; empty if it cannot be read."""
    commands: Sequence[str]
    """Commands that repeat the sweep from the text of its file."""


def methods_of(sweep: str, statistics: Statistics, record: SweepRecord) -> Methods:
    """Return the methods of a sweep, from its record and its complete trials."""
    rows = [row for row in statistics.results.to_pylist() if row["outcome"] == State.COMPLETE]
    return Methods(_sentences(rows), _settings(sweep, record), _commands(sweep, record, rows))


def _sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    networks = count(len({row["id"] for row in rows}), "network")
    kinds, data = _names(rows, "network"), _names(rows, "dataset")
    sentences = [
        f"{networks} ({kinds}) were trained on {data}, over {_listed(rows, 'split')} with "
        f"{_listed(rows, 'seed')}."
    ]
    trained = [row for row in rows if row["steps"]]
    if trained:
        steps, batch = (_numbers(trained, name) for name in ("steps", "batch"))
        optimisers, rates = _names(trained, "optimiser"), _numbers(trained, "rate")
        sentences.append(
            f"A training takes {steps} steps of {batch} images with {optimisers}, at a rate of "
            f"{rates} before its schedule ({_names(trained, 'schedule')}), in "
            f"{_names(trained, 'precision')}."
        )
    sentences.append(
        "Accuracies are those of the network after the last step, on test images that were used "
        "for no choice."
    )
    exact = sum(row["exact"] is False for row in rows)
    if exact:
        sentences.append(
            f"{count(exact, 'network')} resumed under other settings than it began with, so that "
            "the last digits may differ."
        )
    return sentences


def _settings(sweep: str, record: SweepRecord) -> list[tuple[str, str]]:
    try:
        loaded, _ = load_recorded(sweep, record.text, record.forms or ())
    except SweepError:
        return []
    return [(key, _shown(value)) for key, value in settings(loaded).items()]


def _commands(sweep: str, record: SweepRecord, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    if not record.text:
        return []
    commits = {
        commit for row in rows if (commit := json.loads(row["versions"] or "{}").get(COMMIT))
    }
    lines = [f"git checkout {commit.removesuffix('+')}" for commit in sorted(commits)[:1]]
    changes = [
        line.removeprefix(CHANGED) for line in record.text.splitlines() if line.startswith(CHANGED)
    ]
    file = ":".join([f"{sweep.partition('+')[0]}.yaml", *(record.forms or ())])
    options = [part for change in changes for part in ("--set", change)]
    lines.append(shlex.join(["layerwise", "run", file, *options]))
    return lines


def _names(rows: Iterable[Mapping[str, Any]], column: str) -> str:
    return ", ".join(sorted({str(row[column]) for row in rows if row[column] is not None}))


def _numbers(rows: Iterable[Mapping[str, Any]], column: str) -> str:
    values = sorted({row[column] for row in rows if row[column] is not None})
    texts = [f"{value:g}" for value in values]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _listed(rows: Iterable[Mapping[str, Any]], column: str) -> str:
    values = sorted({str(row[column]) for row in rows})
    names = ", ".join(values) if len(values) <= MOST else f"{values[0]} to {values[-1]}"
    return f"{count(len(values), column)} ({names})"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

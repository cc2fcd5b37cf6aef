"""What the page says in words: facts of a sweep, the state of its runs, and curves."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orchestrator.report.follow import Follower
from orchestrator.report.wording import VERBS_OF_TABLES, count, duration, percent
from orchestrator.states import BAD_OUTCOMES, State

BEING_READ = "the store is being read"


def no_store(place: str) -> str:
    return f"There is no store at {place} yet."


def no_record(place: str, sweep: str) -> str:
    """Return that a store does not know the sweep, or any if it has no name."""
    who = f"sweep {sweep}" if sweep else "any sweep"
    return f"No run has recorded {who} in {place} yet."


def facts(follower: Follower, work_left: float) -> list[tuple[str, str]]:
    """Return names and values, such as `time left` and `1:05`.

    `work_left` is the time in seconds that one slot needs for the open trials; 0 if unknown.
    """
    counts, total = follower.counts, len(follower.ids)
    complete = counts[State.COMPLETE]
    share = f"{100 * complete // max(1, total)} %"
    named = [("complete", f"{complete:,} of {total:,}, {share}")]
    named += [(str(x), f"{counts[x]:,}") for x in BAD_OUTCOMES if counts[x]]
    if follower.studies:
        planned = sum(follower.studies.values())
        named.append(("search", f"{follower.searched} of {planned} trials"))
    named += [
        (VERBS_OF_TABLES[table], f"{follower.derived[table]} of {len(ids)}")
        for table, ids in follower.asked.items()
    ]
    if follower.runs:
        named.append(("running", f"{sum(run.running for run in follower.runs):,}"))
        if follower.seconds_left is not None:
            named.append(("time left", duration(follower.seconds_left)))
    if work_left and not follower.done:
        named.append(("slot time left", duration(work_left)))
    return named


def on_runs(follower: Follower) -> str:
    """Return a sentence on the runs that are writing, or on why there is none."""
    if follower.done and not follower.runs:
        return "Everything that the sweep asks for has ended."
    if follower.runs:
        hosts = ", ".join(sorted({run.host for run in follower.runs}))
        since = time.time() - min(run.began for run in follower.runs)
        return f"A run on {hosts} has been writing for {duration(max(0.0, since))}."
    if follower.under_way:
        trials = count(len(follower.under_way), "trial")
        return f"No run is writing. `layerwise run` goes on from the snapshots of {trials}."
    return "No run is writing. `layerwise run` trains what is missing."


def described(curve: Sequence[tuple[int, float]]) -> str:
    """Return a curve in words: `validation from 12.0 % at step 50 to 87.2 % at step 1200`."""
    if not curve:
        return "no evaluation yet"
    (first, low), (last, high) = curve[0], curve[-1]
    if first == last:
        return f"validation {percent(high)} % at step {last}"
    return f"validation from {percent(low)} % at step {first} to {percent(high)} % at step {last}"

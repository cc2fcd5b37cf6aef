"""Which idle workers Tune is told to keep; without a cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.launch.draining import Drain
from orchestrator.launch.tuning import Scheduler

SMALL, LARGE = "one GPU", "two GPUs"


def kept_after(*requests: str, keeps_idle: bool = True) -> list[str]:
    """Which of two idle workers stay when trials with requests have come."""
    cache: Any = _ObjectCache(may_keep_one=True)
    run: Any = SimpleNamespace(trials=dict.fromkeys(range(9)))
    scheduler = Scheduler(run, Drain(), keeps_idle=keeps_idle)
    for request in requests:
        scheduler.on_trial_add(
            SimpleNamespace(_actor_cache=cache), SimpleNamespace(placement_group_factory=request)
        )
    for worker in ("a", "b"):
        cache.cache_object(SMALL, worker)
    list(cache.flush_cached_objects())
    return list(cache._cached_objects[SMALL])


@pytest.mark.parametrize(
    ("requests", "keeps_idle", "kept"),
    [
        ([SMALL], False, ["a"]),  # Tune's own: one, whatever it is
        ([SMALL], True, ["a", "b"]),
        ([SMALL, SMALL, SMALL], True, ["a", "b"]),
        ([LARGE], True, []),
        ([SMALL, LARGE], True, ["a"]),  # they might hold what the other one waits for
        ([SMALL, LARGE, SMALL, "more"], True, ["a"]),
    ],
)
def test_idle_workers_are_kept_while_all_trials_ask_for_the_same(
    requests: list[str], keeps_idle: bool, kept: list[str]
) -> None:
    assert kept_after(*requests, keeps_idle=keeps_idle) == kept

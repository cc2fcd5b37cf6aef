"""The private names of Ray and Tune that `internals` uses are there, and do what it relies on.

This is the only test that reaches into private classes of Ray and Tune.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray._private.worker
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.cluster import internals
from orchestrator.cluster.draining import Drain
from orchestrator.cluster.tune import Scheduler


def test_it_was_written_against_this_version() -> None:
    """With another version, read the sources again, then change the version in `internals`."""
    assert ray.__version__.rpartition(".")[0] == internals.RAY_VERSION


def test_private_names_are_there() -> None:
    for method in ("_actor_start_failed", "_actor_task_failed"):
        parameters = list(inspect.signature(getattr(RayActorManager, method)).parameters)
        assert parameters[0] == "self"
        assert parameters[2:] == ["exception"]
    made = inspect.getsource(tune_controller.TuneController.__init__)
    for attribute in (
        "_actor_cache",
        "_actor_manager",
        "_resources_to_pending_trials",
        "_trial_to_actor",
    ):
        assert f"self.{attribute}" in made
    assert isinstance(inspect.getattr_static(Trial, "pickled_error_file"), property)
    assert list(inspect.signature(RayActorManager.is_actor_started).parameters)[1:]
    for function in (
        internals.internal_kv._internal_kv_put,
        internals.internal_kv._internal_kv_get,
    ):
        assert "key" in inspect.signature(function).parameters
    assert callable(internals.state.get_draining_nodes)
    assert "print_to_stdstream" in inspect.getsource(ray._private.worker.listen_error_messages) or (
        "print_to_stdstream" in inspect.getsource(ray._private.worker)
    )


def test_rays_server_still_says_that_a_node_has_died() -> None:
    """The message is made in Ray's own server, a binary."""
    server = Path(ray.__path__[0]) / "core" / "src" / "ray" / "gcs" / "gcs_server"
    assert internals.NODE_DIED.encode() in server.read_bytes()


def test_tune_uses_the_patched_actor_manager() -> None:
    assert tune_controller.RayActorManager is internals.ActorManager
    assert "RayActorManager(" in inspect.getsource(tune_controller.TuneController.__init__)


def test_the_memory_monitors_error_becomes_the_failure_of_an_actor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tune knows `RayActorError` and its kinds; other errors are left as they are."""
    errors: list[Exception] = []
    for method in ("_actor_start_failed", "_actor_task_failed"):
        monkeypatch.setattr(
            RayActorManager, method, lambda _self, _actor, exception: errors.append(exception)
        )
    manager = object.__new__(internals.ActorManager)
    other = ValueError("other")
    manager._actor_start_failed(None, OutOfMemoryError("no memory"))
    manager._actor_task_failed(None, other)
    assert isinstance(errors[0], internals.WorkerTooLargeError)
    assert errors[1] is other


SMALL, LARGE = "one GPU", "two GPUs"


def kept_after(*requests: str, keeps_idle: bool = True) -> list[str]:
    """Return which of two idle workers stay, after trials with these requests were added."""
    cache: Any = _ObjectCache(may_keep_one=True)
    run: Any = SimpleNamespace(items=dict.fromkeys(range(9)))
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


def test_trials_for_idle_workers_are_pending_ones_whose_own_worker_has_not_started() -> None:
    """Each request is looked up once: Tune compares requests slowly, and slots are many."""
    looked_up: list[str] = []
    idle = SimpleNamespace(num_cached_objects=1)
    idle.has_cached_object = lambda request: looked_up.append(request) or request == SMALL
    started = {"worker of b"}
    controller = SimpleNamespace(
        _actor_cache=idle,
        _actor_manager=SimpleNamespace(is_actor_started=started.__contains__),
        _trial_to_actor={"a": "worker of a", "b": "worker of b"},
        _resources_to_pending_trials={SMALL: {"a", "b", "c"}, LARGE: {"d", "e"}, "none": set()},
    )
    assert set(internals.trials_for_idle_workers(controller)) == {"a", "c"}
    assert looked_up == [SMALL, LARGE]
    idle.num_cached_objects = 0
    assert list(internals.trials_for_idle_workers(controller)) == []


def test_tune_keeps_pending_trials_by_request() -> None:
    """All pending trials are there, but for some that are about to run on an idle worker."""
    for method in ("add_trial", "_set_trial_status"):
        source = inspect.getsource(getattr(tune_controller.TuneController, method))
        assert "_resources_to_pending_trials[trial.placement_group_factory].add(trial)" in source

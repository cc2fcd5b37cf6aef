"""Addresses of clusters that do not answer: one line each, in a bounded time."""

from __future__ import annotations

import re

import pytest

from orchestrator.cluster import address
from orchestrator.cluster.address import reachable, refusal
from orchestrator.errors import LayerwiseError


@pytest.mark.parametrize("wrong", ["http://a:8265", "10.0.0.1", "a b:1", "a:99999", ":6379"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    expected = rf"--address \(RAY_ADDRESS\) {re.escape(wrong)}: expected auto, or host:port"
    with pytest.raises(LayerwiseError, match=expected):
        reachable(wrong)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_named(scheme: str, unused: int) -> None:
    with pytest.raises(LayerwiseError) as caught:
        reachable(f"{scheme}127.0.0.1:{unused}")
    assert str(caught.value).startswith(
        f"no Ray cluster at {scheme}127.0.0.1:{unused}, which --address or RAY_ADDRESS names: "
        "Connection refused; start one there with `ray start --head`"
    )
    assert address.LEAVE_OUT in str(caught.value)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", None),
        ("raise SystemExit('AuthenticationError: InvalidAuthToken: missing')", "asks for a token"),
        ("raise SystemExit('RpcError')", "does not answer as the head"),
        ("import time; time.sleep(60)", "does not answer as the head"),
    ],
)
def test_a_head_is_asked_in_a_process_of_its_own(program: str, reason: str | None) -> None:
    seconds = 0.2 if "sleep" in program else 20.0
    answer = refusal("10.0.0.1:6379", program, seconds)
    assert (reason is None and answer is None) or (reason or "-") in (answer or "")

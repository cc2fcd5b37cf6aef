"""GPU-hours on a device: the paper's own by hand, and those from files of measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.plan.cost import DEVICES, NETWORKS, budget, device_of, evaluated_images
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.report.plan_status import plan_summary
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from trainers.config import NetworkRef, training_macs

Layerwise = Callable[..., tuple[int, str, str]]

PAPER = """\
name: small_paper
dataset: imagenet
network: caffenet
reference: paper
splits: {random: [0, 1]}
treatments: [base, selffer+, transfer, transfer+]
layers: [1, 7]
recipe: {optimiser: caffe_sgd, steps: 450000, batch: 256, evaluate_every: 1000, crop: 227}
"""
MACS = NETWORKS["caffenet"]
MEASURED = {
    "device": "Fast",
    "network": "caffenet",
    "images_per_second": {"full": 1000, "frozen": {"1": 1250, "7": 4000}, "evaluate": 5000},
}


def planned(folder: Path, text: str = PAPER, macs: tuple[int, ...] = MACS) -> Plan:
    """The plan of a sweep on ImageNet, whose images need not be there, by these multiply-adds."""
    path = folder / "paper.yaml"
    path.write_text(text)
    resolved = resolve(*load_sweep(str(path)))
    layers = replace(resolved.layers, macs=macs)
    return make_plan(replace(resolved, networks={resolved.network: layers}))


def hours_of(plan: Plan, device: str) -> dict[str, Any]:
    treatments: dict[str, list[str]] = {}
    for trial in plan.trials.values():
        treatments.setdefault(trial.treatment_name, []).append(trial.id)
    return budget(plan, treatments, plan.trials, device_of(device))


def test_caffenet_has_these_multiply_adds() -> None:
    from trainers.networks import describe

    assert describe(NetworkRef(name="caffenet"), 1000, (3, 227, 227)).macs == MACS
    assert sum(MACS) == 724_406_816


def test_a_network_of_the_paper_takes_nine_and_a_half_days_on_its_device(tmp_path: Path) -> None:
    cost = hours_of(planned(tmp_path), "k20")
    days = {name: hours / 24 for name, hours in cost["treatments"].items()}
    tests = (450 * 25_000 + 25_000) * 130 / 50_000 / 86_400
    assert days["base"] / 4 == pytest.approx(450_000 * 1.77 / 86_400 + tests, rel=1e-9)
    assert days["base"] / 4 == pytest.approx(9.5, abs=0.1)  # as the authors say
    frozen = 4 * (450_000 * (1.48 + 0.65) / 86_400 + 2 * tests)
    assert days["transfer"] == pytest.approx(frozen, rel=1e-9)
    assert days["selffer+"] == pytest.approx(2 * days["base"], rel=1e-9)
    assert cost["hours"] == pytest.approx(sum(cost["treatments"].values()))
    assert cost["hours_open"] == pytest.approx(cost["hours"])
    assert cost["scaled"] == []


def test_evaluation_counts_every_validation_and_one_test(tmp_path: Path) -> None:
    rare = planned(tmp_path, PAPER.replace("evaluate_every: 1000", "evaluate_every: 200000"))
    base = rare.members[0]
    assert evaluated_images(rare, base) == 3 * 25_000 + 25_000  # after 200k, 400k, 450k steps
    tenths = planned(tmp_path, PAPER.replace(", evaluate_every: 1000", ""))
    assert evaluated_images(tenths, tenths.members[0]) == 10 * 25_000 + 25_000


def test_a_file_of_measurements(tmp_path: Path) -> None:
    path = tmp_path / "fast.json"
    path.write_text(json.dumps(MEASURED))
    cost = hours_of(planned(tmp_path), str(path))
    images, tests = 450_000 * 256, (450 + 1) * 25_000 / 5000
    assert cost["name"] == "Fast"
    assert cost["treatments"]["base"] == pytest.approx(4 * (images / 1000 + tests) / 3600)
    frozen = 4 * (images / 1250 + images / 4000 + 2 * tests) / 3600
    assert cost["treatments"]["transfer"] == pytest.approx(frozen)


def test_a_rate_that_was_not_measured_is_scaled_by_flops(tmp_path: Path) -> None:
    path = tmp_path / "fast.json"
    rates = {"full": 1000, "frozen": {"7": None}}
    path.write_text(json.dumps(MEASURED | {"images_per_second": rates}))
    cost = hours_of(planned(tmp_path), str(path))
    assert cost["scaled"] == ["transfer"]
    shares = [training_macs(MACS, n) / training_macs(MACS, 0) for n in (1, 7)]
    forward = 1000 * training_macs(MACS, 0) / sum(MACS)
    tests = 8 * (450 + 1) * 25_000 / forward
    expected = (4 * sum(shares) * 450_000 * 256 / 1000 + tests) / 3600
    assert cost["treatments"]["transfer"] == pytest.approx(expected)
    double = tuple(2 * macs for macs in MACS)
    twice = hours_of(planned(tmp_path, macs=double), str(path))
    assert twice["treatments"]["base"] == pytest.approx(2 * cost["treatments"]["base"])
    assert twice["scaled"] == ["base", "selffer+", "transfer", "transfer+"]
    fewer = hours_of(planned(tmp_path, macs=(*MACS[:-1], MACS[-1] // 2)), "k20")
    assert fewer["scaled"] == []  # another number of classes makes no other network


def test_the_summary_of_a_plan_shows_device_power_and_published_networks(tmp_path: Path) -> None:
    summary = plan_summary(planned(tmp_path), Store(tmp_path / "none"), device=DEVICES["k20"])
    assert summary["device"]["name"] == "k20"
    assert summary["detectable"]["splits"] == 2
    # of 2 splits: 4 bases, 4 frozen transfers per split, and the fine-tuned that have a log
    known = {row["name"]: row["published"] for row in summary["list"]}
    assert known["A7B s1"] is True
    assert (known["A1A+ s0"], known["A1A+ s1"], known["B1B+ s0"]) == (True, False, None)
    assert summary["published"] == sum(x is True for x in known.values()) == 4 + 8 + 4
    assert summary["unpublished"] == sum(x is False for x in known.values()) == 8
    silent = PAPER.replace("reference: paper\n", "").replace(", transfer+]", "]")
    summary = plan_summary(planned(tmp_path, silent), Store(tmp_path / "none"))
    assert (summary["device"], summary["detectable"], summary["published"]) == (None, None, None)
    assert "published" not in summary["list"][0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no device 'DEVICE': expected one of k20, or a JSON file of measurements"),
        ("{", "DEVICE: this is not JSON"),
        ("[]", "DEVICE: list indices must be integers"),
        ("{}", "DEVICE: no key 'images_per_second'"),
        (json.dumps(MEASURED | {"network": "mine"}), "network 'mine': give its macs"),
        (
            json.dumps(MEASURED).replace("5000", "-1"),
            "evaluate: expected a number above 0, found -1",
        ),
        (json.dumps(MEASURED).replace("1250", '"x"'), "frozen 1: expected a number above 0"),
    ],
)
def test_a_bad_device_is_one_line(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "device.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LayerwiseError) as caught:
        device_of(str(path))
    message = str(caught.value).replace(str(path), "DEVICE")
    assert reason in message
    assert "\n" not in message


def test_the_command_shows_the_budget(layerwise: Layerwise, tmp_path: Path) -> None:
    options = ("--store", str(tmp_path / "none"), "--set", "layers=[3]")
    code, out, err = layerwise("plan", "digits", *options, "--device", "k20")
    assert (code, err) == (0, "")
    assert "GPU-hours on k20" in out
    assert "not measured, but scaled by FLOPs from caffenet there: base, base_long, selffer" in out
    assert "smallest AnB+" not in out  # the spread is the paper's, and this is another dataset
    assert layerwise("plan", "digits", *options, "--device", "k99")[0] == 2

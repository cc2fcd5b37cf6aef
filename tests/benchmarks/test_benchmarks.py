"""Benchmarks compare equals: the same networks, data and recipe on both sides. Without Ray."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import caffenet, caffenet_limits, paper_cost, plain_tune, search, versus_tune
from benchmarks import input as images_in
from benchmarks.paper_cost import CONDITIONS, Rates, hours
from benchmarks.versus_tune import Figures, Row, figures
from orchestrator.execution.rows import EMPTY_ROW
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from trainers.schedules import factor
from trainers.splits import random_split
from trainers.task_data import task_data


def digits_plan(splits: int) -> Plan:
    loaded, source = load_sweep("digits", [f"splits.random={list(range(splits))}"])
    return make_plan(resolve(loaded, source))


def row(**changes: object) -> Row:
    values = {
        "name": "A s0",
        "arm": "base",
        "top1": 0.5,
        "started": 0.0,
        "ended": 1.0,
        "seconds": 1.0,
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("splits", [1, 4])
def test_both_programs_train_the_same_networks(splits: int) -> None:
    peer = [
        (plain_tune.name(config), config["treatment"][0])
        for space in plain_tune.spaces(splits)
        for config in plain_tune.networks(space)
    ]
    ours = [
        (trial.name, trial.training.treatment.kind + "+" * trial.training.treatment.fine_tuned)
        for trial in digits_plan(splits).members
    ]
    assert Counter(peer) == Counter(ours)
    assert len(peer) == 74 * splits


def test_the_first_experiment_needs_no_base() -> None:
    first, second = (
        {c["treatment"][0] for c in plain_tune.networks(s)} for s in plain_tune.spaces(1)
    )
    assert first == {"base", "base_long", "random"}
    assert second == {"selffer", "selffer+", "transfer", "transfer+"}


def test_the_recipe_and_the_data_are_those_of_the_sweep() -> None:
    sweep = load_sweep("digits")[0]
    recipe = sweep.recipe
    assert sweep.dataset.options == plain_tune.DATA
    assert dict(sweep.network.frozen_options) == plain_tune.NETWORK
    assert (recipe.optimiser, recipe.init, recipe.normalise) == ("sgd", "he", "target")
    assert (recipe.rate, recipe.momentum) == (plain_tune.RATE, plain_tune.MOMENTUM)
    assert (recipe.weight_decay, recipe.batch) == (plain_tune.WEIGHT_DECAY, plain_tune.BATCH)
    assert (recipe.steps, recipe.evaluate_every) == (plain_tune.STEPS, plain_tune.EVALUATE_EVERY)
    for steps in (recipe.steps, 2 * recipe.steps):
        assert [plain_tune.rate_factor(s, steps) for s in range(steps)] == pytest.approx(
            [factor(recipe.schedule, s, steps) for s in range(steps)]
        )


def test_both_programs_see_the_same_pixels() -> None:
    peer = plain_tune.load_tasks(1)
    for trial in digits_plan(1).members[:2]:
        ours = task_data(trial.training, torch.device("cpu"))
        for subset, (images, labels) in peer[f"{trial.target}0"].items():
            our_images, our_labels, *_ = getattr(ours, subset)
            assert torch.equal(labels, our_labels)
            np.testing.assert_allclose(images.numpy(), our_images.numpy(), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("treatment", "learning"),
    [(("base", 0), 16), (("random", 2), 12), (("transfer", 7), 2), (("transfer+", 7), 16)],
)
def test_the_peer_freezes_and_copies(treatment: tuple[str, int], learning: int) -> None:
    base = plain_tune.build({"split": 0, "target": "B", "treatment": ("base", 0)}, {})
    config = {"split": 0, "target": "A", "treatment": treatment}
    network = plain_tune.build(config, {"B0": base.state_dict()})
    assert sum(parameter.requires_grad for parameter in network.parameters()) == learning
    copied = treatment[1] if treatment[0].startswith("transfer") else 0
    for number, (layer, base_layer) in enumerate(zip(network, base, strict=True), start=1):
        equal = torch.equal(next(layer.parameters()), next(base_layer.parameters()))
        assert equal == (number <= copied)


def test_the_peer_imports_nothing_from_orchestrator() -> None:
    assert "import orchestrator" not in (source := inspect.getsource(plain_tune))
    assert "from orchestrator" not in source


def test_figures() -> None:
    rows = [
        row(started=110.0, ended=114.0, seconds=3.0),
        row(started=110.5, ended=116.0, seconds=5.0),
        row(started=114.0, ended=120.0, seconds=6.0),
        row(started=116.0, ended=119.0, seconds=2.0),
    ]
    assert figures(rows, begun=103.0, wall=20.0, slots=2) == Figures(
        wall=20.0, warm_up=7.0, overhead=(40 - 16) / 4, share=16 / 20, network=4.0
    )


def test_medians_and_ratios_over_repetitions() -> None:
    def one(wall: float) -> Figures:
        return Figures(wall=wall, warm_up=wall / 10, overhead=0.1, share=0.9, network=1.0)

    rounds = [
        {"layerwise": one(10.0), "plain Tune": one(50.0)},
        {"layerwise": one(20.0), "plain Tune": one(60.0)},
        {"layerwise": one(12.0), "plain Tune": one(48.0)},
    ]
    assert versus_tune.medians(rounds)["layerwise"] == one(12.0)
    assert versus_tune.medians(rounds)["plain Tune"] == one(50.0)
    assert versus_tune.ratios(rounds) == {"layerwise": 1.0, "plain Tune": 4.0}
    assert versus_tune.table(rounds).splitlines()[2:] == [
        "| layerwise | 12.0 | 1.00 | 0.10 | 90 % | 1.2 | 1.00 |",
        "| plain Tune | 50.0 | 4.00 | 0.10 | 90 % | 5.0 | 1.00 |",
    ]


def test_accuracies_are_shown_by_treatment() -> None:
    rows = [row(top1=0.5), row(top1=0.75), row(arm="random", top1=0.25)]
    shown = versus_tune.accuracy_table({"layerwise": rows, "plain Tune": rows})
    assert shown.splitlines() == [
        "| top-1, % | base | random |",
        "|---|---|---|",
        "| layerwise | 62.5 | 25.0 |",
        "| plain Tune | 62.5 | 25.0 |",
    ]


def test_rows_are_read_from_what_each_program_writes(tmp_path: Path) -> None:
    second = datetime(2026, 1, 1, tzinfo=UTC)
    Store(tmp_path / "store").write_row(
        EMPTY_ROW
        | {
            "id": "0123456789abcdef",
            "name": "A3B+ s0",
            "treatment": "transfer",
            "n": 3,
            "frozen": False,
        }
        | {"outcome": "complete", "top1": 0.5, "started": second, "ended": second}
        | {"attempt": "aaaaaaaa"}
        | {"seconds_data": 1.0, "seconds_train": 2.0, "seconds_evaluate": 4.0}
    )
    moment = second.timestamp()
    expected = row(name="A3B+ s0", arm="transfer+", started=moment, ended=moment, seconds=7.0)
    assert versus_tune.read_rows("layerwise", tmp_path) == [expected]
    (tmp_path / "rows.json").write_text(json.dumps([vars(expected)]))
    assert versus_tune.read_rows("plain Tune", tmp_path) == [expected]


def test_each_program_gets_the_same_size_and_slots(tmp_path: Path) -> None:
    lines = [" ".join(versus_tune.command(p, 2, 3, tmp_path)[1:]) for p in versus_tune.PROGRAMS]
    out = f"--out {tmp_path}/rows.json --splits 2 --cpus 3"
    assert lines == [
        "-m orchestrator run digits --set splits.random=[0, 1] "
        f"--store {tmp_path}/store --no-report --cpus 3",
        "-m orchestrator run digits --set splits.random=[0, 1] --set lanes=1 "
        f"--store {tmp_path}/store --no-report --cpus 3",
        f"-m benchmarks.plain_tune {out}",
        f"-m benchmarks.plain_tune {out} --reuse-actors",
    ]


@pytest.mark.parametrize(
    ("arguments", "splits", "repeat"),
    [([], 1, 1), (["--full"], 4, 1), (["--splits", "2", "--repeat", "3"], 2, 3)],
)
def test_options(arguments: list[str], splits: int, repeat: int) -> None:
    chosen = versus_tune.options(arguments)
    assert (chosen.splits, chosen.repeat) == (splits, repeat)
    assert chosen.cpus >= 1


def test_a_program_that_fails_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versus_tune, "PROGRAMS", ("no such",))
    monkeypatch.setattr(versus_tune, "command", lambda *_: ["sh", "-c", "echo a reason; exit 3"])
    with pytest.raises(SystemExit, match=r"exit code 3:\na reason"):
        versus_tune.measure("no such", 1, 1)


def test_the_processor_is_named() -> None:
    assert versus_tune.processor(lambda: "model name\t: AMD EPYC\nflags: x\n") == "AMD EPYC"
    assert versus_tune.processor(lambda: "")


# CaffeNet ---------------------------------------------------------------------------------------


def test_the_papers_networks_are_163() -> None:
    assert {it.name: it.networks for it in CONDITIONS} == {
        "bases of halves": 10,
        "base of all classes": 1,
        "BnB, frozen": 28,
        "AnB, frozen": 56,
        "AnB, natural and man-made": 14,
        "BnB+": 14,
        "AnB+": 28,
        "fewer images": 12,
    }
    assert sum(it.networks for it in CONDITIONS) == 163
    steps = sum(it.networks * it.iterations for it in CONDITIONS)
    assert steps == 151 * 450_000 + 12 * 200_000 == 70_350_000


def test_hours_are_images_by_rate() -> None:
    """1000 images per second, 5000 in tests: 115.2 million images, and 450 tests of 50,000."""
    rates = Rates(full=1000.0, frozen={n: 1000.0 * n for n in range(1, 8)}, evaluate=5000.0)
    base, frozen = CONDITIONS[0], CONDITIONS[2]
    assert hours(base, rates) == pytest.approx(10 * (115_200 + 4500) / 3600)
    harmonic = sum(1 / n for n in range(1, 8))
    assert hours(frozen, rates) == pytest.approx((4 * 115_200 * harmonic + 28 * 4500) / 3600)
    fewer = paper_cost.Condition(name="", full=1, iterations=200_000)
    assert hours(fewer, rates) == pytest.approx((51_200 + 2000) / 3600)


def test_traffic_of_a_training_image_falls_with_frozen_layers_and_half_the_bits() -> None:
    by_n = [caffenet_limits.needed_bytes(caffenet.QUICK, n) for n in range(8)]
    singles, halves = [it["float32"] for it in by_n], [it["bfloat16"] for it in by_n]
    assert singles == sorted(singles, reverse=True)
    assert all(single / 2 < half < single for single, half in zip(singles, halves, strict=True))


def test_caffenet_is_measured_at_a_tiny_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All engines of a CPU but compilation run. An engine that a CPU lacks gives its error."""
    path = tmp_path / "rates.json"
    ways = "--precisions float32 --engines plain trainer graph --frozen 1 7"
    command = f"--quick --batch 4 --steps 1 {ways} --device cpu --json {path}"
    caffenet.main(command.split())
    rates = json.loads(path.read_text())
    assert rates["device"].startswith("cpu ")
    assert (rates["engine"], rates["precision"]) == ("trainer", "float32")
    speed = rates["images_per_second"]
    assert list(speed["frozen"]) == ["1", "7"]
    assert all(rate > 0 for rate in (speed["full"], speed["evaluate"], *speed["frozen"].values()))
    assert rates["paper_gpu_hours"] is None  # the network is tiny
    errors = {row["error"] for row in rates["rows"] if row["case"]["engine"] == "graph"}
    assert errors == {"CUDA graphs need a CUDA GPU"}
    known = {(way["engine"], way["layout"]) for way in rates["ways"]}
    assert {("plain", "channels-last"), ("trainer", "channels-last")} <= known
    out = capsys.readouterr().out
    assert "limits in float32: " in out
    assert "| float32 | contiguous | graph | full | CUDA graphs need a CUDA GPU |" in out


# Images into the trainer ------------------------------------------------------------------------


def test_all_ways_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERWISE_CACHE", "")  # set by the benchmark, for itself
    command = "--images 9 --batch 4 --repeat 1 --steps 1 --shrink 16 --workers 1"
    images_in.main(command.split(" "))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 JPEGs of ")
    assert lines[1].startswith("packed 12 images in ")
    assert lines[2].startswith("training from the pack waits ")
    assert [line.split(" | ")[0] for line in lines[3:]] == [
        *("|", "|---|---|---|", "| packed", "| decoded once", "| unpacked", "| torch DataLoader")
    ]
    assert lines[5].endswith(" | 1.00 |")


def test_ratios_are_of_the_same_repetition() -> None:
    rates = {"packed": [10.0, 30.0, 20.0], "unpacked": [5.0, 5.0, 5.0]}
    assert images_in.table(rates).splitlines()[2:] == [
        "| packed | 20 | 1.00 |",
        "| unpacked | 5 | 4.00 |",
    ]


def test_the_loader_gives_what_the_trainer_gives(tmp_path: Path) -> None:
    """Both give float images of the crop's size, less the mean. The loader resizes differently."""
    images_in.draw(tmp_path / "images", 8)
    size = images_in.Size(images=8, batch=4, repeat=1, workers=1, steps=1, shrink=16)
    one = images_in.training(tmp_path / "images", size)
    root = str(tmp_path / "images")
    data = task_data(one, torch.device("cpu"), whole_bytes=0, data_root=root)
    assert data.view.mean is not None
    theirs = next(images_in.loaded(tmp_path / "images", data.view.mean, size))
    ours = next(images_in.streamed(one, data, size))
    assert ours.shape == theirs.shape == (4, 3, 227, 227)
    assert ours.dtype == theirs.dtype == torch.float32
    assert abs(float(ours.mean()) - float(theirs.mean())) < 5
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.1)


# Searches ---------------------------------------------------------------------------------------


def small(sampler: str, repeat: int) -> Plan:
    loaded = load_sweep("digits_search", search.changes(sampler, repeat))
    return make_plan(resolve(*loaded))


def test_a_pair_of_small_searches_differs_in_the_sampler_only() -> None:
    [tpe], [random] = (small(sampler, 3).studies for sampler in search.SAMPLERS)
    assert [cell.id for cell in tpe.cells] == [cell.id for cell in random.cells]
    assert (tpe.first, tpe.trials, tpe.tree) == (random.first, random.trials, random.tree)
    assert (tpe.sampler, random.sampler) == ("tpe", "random")
    assert tpe.pruner == random.pruner == "none"  # so that both take the same number of steps


def test_no_two_searches_have_a_split_in_common() -> None:
    seeds = [seed for repeat in range(40) for seed in search.distinct(repeat)]
    halves = {frozenset((random_split(seed, 10).a, random_split(seed, 10).b)) for seed in seeds}
    assert len(seeds) == len(halves) == 80


def test_a_ratio_and_its_interval_by_hand() -> None:
    """Logarithms 0 and 2 ln 2: mean ln 2, standard error ln 2, t of one degree of freedom."""
    result = search.ratio([(0.5, 0.5), (0.8, 0.2)])
    assert result["ratio"] == pytest.approx(2)
    assert result["high"] == pytest.approx(2 * 2**12.7062, rel=1e-4)
    assert result["low"] == pytest.approx(2 / 2**12.7062, rel=1e-4)


def test_the_reported_splits_of_the_large_search_are_ten_that_it_does_not_search() -> None:
    planned = make_plan(resolve(*load_sweep("digits_search", list(search.HELD_OUT))))
    [study] = planned.studies
    reported = {trial.split for trial in planned.members}
    assert len(reported) == 10
    assert not reported & {cell.split for cell in study.cells}
    waiting = [trial for trial in planned.members if trial.training.schedule_from == study.id]
    assert len(waiting) == 10 * 2 * 2 * 7
    assert len([trial for trial in planned.extra if trial.training.tested]) == len(waiting)

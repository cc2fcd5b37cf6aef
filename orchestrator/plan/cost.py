"""The cost of a plan: FLOPs, time at measured rates, GPU-hours on a device."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from trainers.config import training_macs

NETWORKS = {  # multiply-adds of one image forward, per layer, to scale to other networks
    "caffenet": (
        105_415_200,
        223_948_800,
        149_520_384,
        112_140_288,
        74_760_192,
        37_748_736,
        16_777_216,
        4_096_000,
    )
}
EXPECTED = (
    'expected {"device": name, "network": name, "images_per_second": '
    '{"full": x, "frozen": {"1": x, …}, "evaluate": x}}'
)


RateKey = tuple[str, int, bool, str | None, str | None]


@dataclass(frozen=True)
class Cost:
    """Work, time and storage of a set of trials."""

    flops: float
    seconds: float | None
    """Time of all trials one after the other; None without a measured rate."""
    checkpoint_bytes: int


def cost(plan: Plan, ids: Iterable[str], rates: Mapping[RateKey, float]) -> Cost:
    """Return the cost of training `ids`. `rates` are images per second, by `rate_key`.

    The rate of a trial that was never measured is scaled by FLOPs from the measured rates.
    """
    return costs(plan, [ids], rates)[0]


def costs(plan: Plan, parts: Iterable[Iterable[str]], rates: Mapping[RateKey, float]) -> list[Cost]:
    """Return the `cost` of each part of a plan."""
    measured = [
        plan.flops(t) / (t.images / rate)
        for t in (plan.trials.values() if rates else ())
        if plan.macs(t) and (rate := rates.get(rate_key(t)))
    ]
    speed = sum(measured) / len(measured) if measured else None
    return [_cost(plan, [plan.trials[id] for id in ids], rates, speed) for ids in parts]


def _cost(
    plan: Plan, trials: Sequence[Trial], rates: Mapping[RateKey, float], speed: float | None
) -> Cost:
    """Return the cost of trials. `speed` is the mean of FLOPs per second, where it is known."""
    seconds = 0.0
    for trial in trials:
        if rate := rates.get(rate_key(trial)):
            seconds += trial.images / rate
        elif speed:
            seconds += plan.flops(trial) / speed
    return Cost(
        flops=sum(plan.flops(trial) for trial in trials),
        seconds=seconds if speed else None,
        checkpoint_bytes=sum(
            plan.layers(trial).state_bytes
            for trial in trials
            if trial.keep_checkpoint and plan.sweep.keep != "none"
        ),
    )


def rate_key(trial: Trial) -> RateKey:
    """Return (treatment, n, frozen, classifier, detector): such trials are equally fast."""
    treatment, recipe = trial.training.treatment, trial.training.recipe
    classifier, detector = (x.kind if x else None for x in (recipe.classifier, recipe.detector))
    return treatment.kind, treatment.n, treatment.frozen, classifier, detector


@dataclass(frozen=True, kw_only=True)
class Device:
    """Measured rates of one network on one device, in images per second."""

    name: str
    network: str
    macs: tuple[int, ...]
    """Multiply-adds of one image forward, per layer."""
    full: float
    """Training of all layers."""
    evaluate: float
    """Evaluation."""
    frozen: Mapping[int, float] = field(default_factory=dict)
    """Training with the first n layers frozen, by n."""

    def rate(self, macs: Sequence[int], frozen: int) -> tuple[float, bool]:
        """Return training images per second with `frozen` first layers frozen, and if measured.

        An unknown rate is scaled by FLOPs from the training of all layers.
        """
        if self._is_measured(macs):
            rate = self.frozen.get(frozen) if frozen else self.full
            if rate:
                return rate, True
        return self.full * training_macs(self.macs, 0) / training_macs(macs, frozen), False

    def evaluation_rate(self, macs: Sequence[int]) -> float:
        """Return evaluated images per second, scaled by FLOPs for another network."""
        factor = 1.0 if self._is_measured(macs) else sum(self.macs) / sum(macs)
        return self.evaluate * factor

    def _is_measured(self, macs: Sequence[int]) -> bool:
        """Return whether a network is the measured one; its number of classes may differ."""
        return macs[:-1] == self.macs[:-1]


K20 = Device(  # medians of the paper's logs: seconds per step of 256 images, per test of 50,000
    name="k20",
    network="caffenet",
    macs=NETWORKS["caffenet"],
    full=256 / 1.77,
    frozen={
        n: 256 / seconds
        for n, seconds in enumerate((1.48, 1.19, 1.01, 0.83, 0.69, 0.66, 0.65), start=1)
    },
    evaluate=50_000 / 130,
)
DEVICES = {"k20": K20}


def device_of(text: str) -> Device:
    """Return a device by name, or from a JSON file of measurements. Raises `LayerwiseError`.

    The file may omit the rates of frozen layers and of evaluation: they are scaled by FLOPs.
    """
    if text in DEVICES:
        return DEVICES[text]
    path = Path(text)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(DEVICES)
        message = f"no device {text!r}: expected one of {known}, or a JSON file of measurements"
        raise LayerwiseError(message) from error
    except OSError as error:
        raise LayerwiseError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise LayerwiseError(f"{path}: this is not JSON: {error}") from error
    try:
        return _device(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else error
        raise LayerwiseError(f"{path}: {reason}; {EXPECTED}") from error


def _device(content: Mapping[str, Any]) -> Device:
    rates, network = content["images_per_second"], content["network"]
    macs = content.get("macs", NETWORKS.get(network))
    if macs is None:
        known = ", ".join(NETWORKS)
        raise ValueError(f"network {network!r}: give its macs, one per layer; known: {known}")
    frozen, full = rates.get("frozen", {}).items(), _positive("full", rates["full"])
    layers = tuple(int(_positive("macs", x)) for x in macs)
    forward = full * training_macs(layers, 0) / sum(layers)
    return Device(
        name=str(content["device"]),
        network=str(network),
        macs=layers,
        full=full,
        frozen={int(n): _positive(f"frozen {n}", rate) for n, rate in frozen if rate is not None},
        evaluate=_positive("evaluate", rates.get("evaluate", forward)),
    )


def _positive(name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a number above 0, found {value!r}")
    return float(value)


def evaluated_images(plan: Plan, trial: Trial) -> int:
    """Return the images that a trial is evaluated on: validation each time, and test once."""
    from trainers.loop import EVALUATIONS

    recipe, target = trial.training.recipe, trial.training.target
    steps = recipe.steps or 0
    data = plan.datasets[target.dataset]
    times = math.ceil(steps / (recipe.evaluate_every or math.ceil(steps / EVALUATIONS)))
    validation, test = (
        sum(images[index] for index in target.classes + target.rest)
        for images in (data.validation, data.test)
    )
    return times * validation + test


def budget(
    plan: Plan, treatments: Mapping[str, Sequence[str]], open_ids: Iterable[str], device: Device
) -> dict[str, Any]:
    """Return the GPU-hours of trials on a device as JSON values, evaluation included.

    `treatments` holds ids by treatment, `open_ids` the trials that are still to be trained. Each
    trial takes one GPU. `scaled` lists the treatments with a rate that was not measured.
    """
    rates, measured = {}, {}
    for trial in plan.trials.values():
        if macs := plan.macs(trial):  # a classifier on pixels runs no layer
            rate = device.rate(macs, trial.training.frozen_layers)
            rates[rate_key(trial)], measured[trial.id] = rate

    def hours(ids: Sequence[str]) -> float:
        evaluation = 0.0
        for trial in (plan.trials[id] for id in ids):
            if macs := plan.macs(trial):
                evaluation += evaluated_images(plan, trial) / device.evaluation_rate(macs)
        return ((cost(plan, ids, rates).seconds or 0.0) + evaluation) / 3600

    return {
        "name": device.name,
        "network": device.network,
        "hours": hours([id for ids in treatments.values() for id in ids]),
        "hours_open": hours(list(open_ids)),
        "treatments": {name: hours(ids) for name, ids in treatments.items()},
        "scaled": [
            name
            for name, ids in treatments.items()
            if not all(measured.get(id, True) for id in ids)
        ],
    }

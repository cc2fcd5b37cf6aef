"""What a plan takes on a device whose images a second were measured: GPU-hours by treatment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.plan import Plan, Trial, cost, rate_key
from trainers.config import training_macs

NETWORKS = {  # multiply-adds of one image forward, layer by layer, for scaling to other networks
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


@dataclass(frozen=True, kw_only=True)
class Device:
    """Images a second of one network, measured: trained in all layers or with n frozen, evaluated.

    `macs` are the network's multiply-adds of one image forward, layer by layer.
    """

    name: str
    network: str
    macs: tuple[int, ...]
    full: float
    evaluate: float
    frozen: Mapping[int, float] = field(default_factory=dict)

    def rate(self, macs: Sequence[int], frozen: int) -> tuple[float, bool]:
        """Training images a second with the first n frozen, and whether that was measured.

        Scaled by FLOPs from full training where n, or the network, was not measured. Another number
        of classes makes no other network.
        """
        if macs[:-1] == self.macs[:-1]:
            known = self.frozen.get(frozen) if frozen else self.full
            return (known, True) if known else (self._scaled(macs, frozen), False)
        return self._scaled(macs, frozen), False

    def evaluation_rate(self, macs: Sequence[int]) -> float:
        """Images a second of an evaluation, by FLOPs where the network is another."""
        same = macs[:-1] == self.macs[:-1]
        return self.evaluate * (1.0 if same else sum(self.macs) / sum(macs))

    def _scaled(self, macs: Sequence[int], frozen: int) -> float:
        return self.full * training_macs(self.macs, 0) / training_macs(macs, frozen)


K20 = Device(  # seconds a step of 256 images and a test of 50,000, medians of the paper's logs
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
    """A device by name, or from a JSON file of measurements. Raises `LayerwiseError`.

    Rates of frozen layers and of evaluation may be missing from the file: they are scaled by FLOPs.
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
        raise ValueError(f"network {network!r}: give its macs, layer by layer; known: {known}")
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
    """Images that a training is scored on: validation at every evaluation, and test once."""
    from trainers.loop import EVALUATIONS

    recipe, target = trial.training.recipe, trial.training.target
    steps = recipe.steps or 0
    times = math.ceil(steps / (recipe.evaluate_every or math.ceil(steps / EVALUATIONS)))
    validation, test = (
        sum(images[index] for index in target.classes + target.rest)
        for images in (plan.data.validation, plan.data.test)
    )
    return times * validation + test


def budget(
    plan: Plan, treatments: Mapping[str, Sequence[str]], open_ids: Iterable[str], device: Device
) -> dict[str, Any]:
    """GPU-hours of trials (ids by treatment) on a device, as JSON values, evaluation included.

    One GPU a trial. `scaled` lists the treatments of which a rate was not measured.
    """
    rates, measured = {}, {}
    for trial in plan.trials.values():
        frozen = trial.training.treatment.frozen_layers
        macs = plan.layers(trial).macs
        rates[rate_key(trial)], measured[trial.id] = device.rate(macs, frozen)

    def hours(ids: Sequence[str]) -> float:
        scoring = 0.0
        for trial in (plan.trials[id] for id in ids):
            rate = device.evaluation_rate(plan.layers(trial).macs)
            scoring += evaluated_images(plan, trial) / rate
        return ((cost(plan, ids, rates).seconds or 0.0) + scoring) / 3600

    return {
        "name": device.name,
        "network": device.network,
        "hours": hours([id for ids in treatments.values() for id in ids]),
        "hours_open": hours(list(open_ids)),
        "treatments": {name: hours(ids) for name, ids in treatments.items()},
        "scaled": [name for name, ids in treatments.items() if not all(measured[id] for id in ids)],
    }

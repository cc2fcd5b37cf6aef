"""The digits sweep as a competent user writes it with Ray Tune today: the peer of `layerwise run`.

    python -m benchmarks.plain_tune --splits 1 --out rows.json [--reuse-actors]

Two experiments run one after the other: first the networks that need no base, then the networks
that copy layers of a base. Images, splits and the network come from `trainers`, so that both
programs train the same networks. Everything else is plain torch and plain Tune: nothing comes from
`orchestrator`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import secrets
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainers.datasets.digits import DigitsOptions, digits
from trainers.networks import conv8
from trainers.splits import random_split

DATA: dict[str, Any] = {
    "canvas": 12,
    "noise": 0.15,
    "train": 40,
    "renderings": 4,
    "validation": 40,
    "test": 94,
}
NETWORK: dict[str, Any] = {"conv": (8, 16, 16, 16, 16), "pool": (1, 3), "fc": (32, 32)}
RATE, MOMENTUM, WEIGHT_DECAY, WARMUP = 0.03, 0.9, 5e-4, 0.1
BATCH, STEPS, EVALUATE_EVERY = 32, 500, 25
LAYERS = range(1, 8)

# A treatment and the number of layers that are copied or random.
WITHOUT_BASE = [("base_long", 0), ("base", 0), *(("random", n) for n in LAYERS)]
WITH_BASE = list(itertools.product(["selffer+", "transfer+", "selffer", "transfer"], LAYERS))

COLUMNS = ("name", "arm", "top1", "started", "ended", "seconds")

Space = dict[str, list[Any]]
Images = tuple[torch.Tensor, torch.Tensor]
Task = Mapping[str, Images]
Weights = Mapping[str, torch.Tensor]


def spaces(splits: int) -> tuple[Space, Space]:
    """Return the search spaces of the two experiments; each trains every combination."""
    halves: Space = {"split": list(range(splits)), "target": ["A", "B"]}
    return halves | {"treatment": WITHOUT_BASE}, halves | {"treatment": WITH_BASE}


def networks(space: Space) -> Iterator[dict[str, Any]]:
    """Yield the combinations that `grid_search` makes."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def name(config: Mapping[str, Any]) -> str:
    """Return a name such as `A3B+ s2`: the first 3 layers from A, fine-tuned on B, split 2."""
    (treatment, n), target, split = config["treatment"], config["target"], config["split"]
    if n == 0:
        return f"{target}{'-long' if treatment == 'base_long' else ''} s{split}"
    source = "R" if treatment == "random" else source_of(config)
    return f"{source}{n}{target}{'+' if treatment.endswith('+') else ''} s{split}"


def source_of(config: Mapping[str, Any]) -> str:
    """Return the half whose base the layers are copied from."""
    target: str = config["target"]
    return target if config["treatment"][0].startswith("selffer") else {"A": "B", "B": "A"}[target]


def load_tasks(splits: int) -> dict[str, Task]:
    """Return normalised images and labels 0..4 of each set, by half and split such as `A0`."""
    data = digits(DigitsOptions(**DATA))
    tasks: dict[str, Task] = {}
    for number, half in itertools.product(range(splits), "AB"):
        classes = torch.tensor(random_split(number, 10).half(half))
        task = {}
        for subset in ("train", "validation", "test"):
            one = data.subset(subset)
            images, labels = torch.from_numpy(one.images), torch.from_numpy(one.labels)
            keep = torch.isin(labels, classes)
            task[subset] = images[keep], torch.searchsorted(classes, labels[keep])
        deviation, average = torch.std_mean(task["train"][0])
        for subset, (images, labels) in task.items():
            task[subset] = (images - average) / deviation, labels
        tasks[f"{half}{number}"] = task
    return tasks


def build(config: Mapping[str, Any], bases: Mapping[str, Weights]) -> nn.Sequential:
    """Build a network with He initialisation; copy and freeze its first layers as `config` says."""
    torch.manual_seed(zlib.crc32(name(config).encode()))
    network = nn.Sequential(*conv8(classes=5, shape=(1, 12, 12), **NETWORK))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    output = list(network.parameters())[-2]  # no ReLU follows it
    nn.init.kaiming_normal_(output, nonlinearity="linear")
    treatment, n = config["treatment"]
    if n and treatment != "random":
        base = bases[f"{source_of(config)}{config['split']}"]
        copied = network[:n].state_dict()
        network[:n].load_state_dict({key: base[key] for key in copied})
    if n and not treatment.endswith("+"):
        network[:n].requires_grad_(False)
    return network


def rate_factor(step: int, steps: int) -> float:
    """Return the factor of the rate: a linear warm-up, then a half cosine."""
    warmup = round(WARMUP * steps)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


@torch.no_grad()
def evaluate(network: nn.Sequential, batch: Images) -> tuple[float, float]:
    """Return the mean loss and top-1."""
    images, labels = batch
    network.eval()
    scores = network(images)
    network.train()
    right = scores.argmax(1) == labels
    return F.cross_entropy(scores, labels).item(), right.double().mean().item()


def train(config: dict[str, Any], tasks: Mapping[str, Task], bases: Mapping[str, Weights]) -> None:
    """Train one network, as Tune's function trainable. Reports the seconds of its work too."""
    from ray import tune

    started = time.time()
    clock, seconds = time.perf_counter(), {"train": 0.0, "evaluate": 0.0}

    def spend(phase: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[phase] += now - clock
        clock = now

    torch.set_num_threads(1)
    treatment = config["treatment"][0]
    steps = 2 * STEPS if treatment == "base_long" else STEPS
    task = tasks[f"{config['target']}{config['split']}"]
    network = build(config, bases)
    loader = DataLoader(TensorDataset(*task["train"]), BATCH, shuffle=True, drop_last=True)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learning, RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, steps))

    step, train_loss, best = 0, 0.0, -1.0
    while step < steps:
        for images, labels in loader:
            loss = F.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            train_loss += loss.item()
            step += 1
            if step % EVALUATE_EVERY == 0:
                spend("train")
                val_loss, val_top1 = evaluate(network, task["validation"])
                if val_top1 > best or step == steps:
                    _, top1 = evaluate(network, task["test"])
                if val_top1 > best:
                    best, top1_at_best = val_top1, top1
                spend("evaluate")
                metrics = {
                    "name": name(config),
                    "arm": treatment,
                    "step": step,
                    "train_loss": train_loss / EVALUATE_EVERY,
                    "val_loss": val_loss,
                    "val_top1": val_top1,
                    "top1": top1,
                    "top1_at_best": top1_at_best,
                    "started": started,
                    "ended": time.time(),
                    "seconds": sum(seconds.values()),
                }
                if step == steps and treatment == "base":
                    with tempfile.TemporaryDirectory() as folder:
                        torch.save(network.state_dict(), Path(folder) / "network.pt")
                        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
                else:
                    tune.report(metrics)
                train_loss, clock = 0.0, time.perf_counter()
            if step == steps:
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--cpus", type=int, help="CPUs of the local Ray, all of them by default")
    parser.add_argument("--reuse-actors", action="store_true")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the rows")
    arguments = parser.parse_args()

    # Ray listens on every interface: the token, read when Ray is imported, keeps others out.
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    os.environ.pop("RAY_ADDRESS", None)
    import ray
    from ray import tune

    ray.init(num_cpus=arguments.cpus, include_dashboard=False, _node_ip_address="127.0.0.2")
    tasks = load_tasks(arguments.splits)

    def fit(space: Space, bases: Mapping[str, Weights], folder: str) -> Any:
        trainable = tune.with_parameters(train, tasks=tasks, bases=bases)
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={key: tune.grid_search(values) for key, values in space.items()},
            tune_config=tune.TuneConfig(reuse_actors=arguments.reuse_actors),
            run_config=tune.RunConfig(storage_path=folder),
        ).fit()
        if results.errors:
            raise results.errors[0]
        return results

    with tempfile.TemporaryDirectory(prefix="plain-tune-") as folder:
        first, second = spaces(arguments.splits)
        independent = fit(first, {}, folder)
        bases = {
            f"{result.config['target']}{result.config['split']}": torch.load(
                Path(result.checkpoint.path) / "network.pt"
            )
            for result in independent
            if result.config["treatment"][0] == "base"
        }
        dependent = fit(second, bases, folder)
        results = [*independent, *dependent]
        rows = [{key: result.metrics[key] for key in COLUMNS} for result in results]
    arguments.out.write_text(json.dumps(rows, indent=1))
    accuracies = defaultdict(list)
    for row in rows:
        accuracies[row["arm"]].append(row["top1"])
    for arm, values in accuracies.items():
        print(f"{arm:10} {100 * mean(values):5.1f} % ({len(values)} networks)")


if __name__ == "__main__":
    main()

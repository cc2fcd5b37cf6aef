"""Descriptions of networks that this machine has made before, so that planning needs no torch.

torch takes two seconds to import, and every command plans. A description depends on the code of
`trainers`, on the releases of the libraries, and on the question. A user's own networks are
described anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator import remembered as texts
from trainers.canonical import Options, canonical, freeze_options
from trainers.config import NetworkInfo

Described = tuple[Options, list[NetworkInfo]]
"""The options that differ from their default, and the layers for each shape of images."""

LIBRARIES = ("torch", "torchvision", "numpy")


def remembered(name: str, question: Sequence[Any], describe: Callable[[], Described]) -> Described:
    """Return `describe()`, or its earlier answer to the same question about network `name`."""
    asked = f"{_surroundings()} {name} {canonical(question)}"
    return _read(texts.remembered("networks", asked, lambda: _text(describe())))


def _surroundings() -> str:
    """Return a hash of the code of `trainers` and of the installed libraries."""
    return texts.surroundings(("trainers",), LIBRARIES)


def _text(answer: Described) -> str:
    options, layers = answer
    return json.dumps([dict(options), [asdict(info) for info in layers]])


def _read(text: str) -> Described:
    options, layers = json.loads(text)
    return freeze_options(options), [_info(fields) for fields in layers]


def _info(fields: dict[str, Any]) -> NetworkInfo:
    return NetworkInfo(
        macs=tuple(fields["macs"]),
        parameters=tuple(fields["parameters"]),
        shapes=tuple(tuple(shape) for shape in fields["shapes"]),
        state_bytes=fields["state_bytes"],
    )

"""Descriptions of networks that this machine has made before, so that planning needs no torch.

torch takes two seconds to import, and every command plans. A description depends on the code of
`trainers`, on the releases of the libraries, and on the question. The name of its file is the hash
of all of these, and the file ends with the hash of its content: a description is never out of date.
A user's own networks are described anew each time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trainers
from trainers import whole_file
from trainers.canonical import ConfigError, Options, canonical, freeze_options
from trainers.config import NetworkInfo
from trainers.datasets.places import cache

Described = tuple[Options, list[NetworkInfo]]
"""The options that differ from their default, and the layers for each shape of images."""

LIBRARIES = ("torch", "torchvision", "numpy")


def remembered(name: str, question: Sequence[Any], describe: Callable[[], Described]) -> Described:
    """Return `describe()`, or its earlier answer to the same question about network `name`."""
    key = hashlib.sha256(f"{_surroundings()} {name} {canonical(question)}".encode()).hexdigest()
    path = cache() / "networks" / f"{key[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ConfigError):
        return _read(path.read_bytes())
    answer = describe()
    with contextlib.suppress(OSError):  # the next command describes it again
        whole_file.write(path, _bytes(answer))
    return answer


@functools.cache
def _surroundings() -> str:
    """Return a hash of the code of `trainers` and of the installed libraries."""
    content = hashlib.sha256(sys.version.encode())
    root = Path(trainers.__path__[0])
    for path in sorted(root.rglob("*.py")):
        content.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        if spec is not None and spec.origin:
            for file in (Path(spec.origin), Path(spec.origin).with_name("version.py")):
                if file.exists():
                    status = file.stat()
                    content.update(f"{file} {status.st_mtime_ns} {status.st_size}\0".encode())
    return content.hexdigest()


def _bytes(answer: Described) -> bytes:
    options, layers = answer
    text = json.dumps([dict(options), [asdict(info) for info in layers]])
    return f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n".encode()


def _read(data: bytes) -> Described:
    """Return the answer in a file. Raises `ValueError` for a damaged one."""
    text, digest = data.decode().splitlines()
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError("the description is damaged")
    options, layers = json.loads(text)
    return freeze_options(options), [_info(fields) for fields in layers]


def _info(fields: dict[str, Any]) -> NetworkInfo:
    return NetworkInfo(
        macs=tuple(fields["macs"]),
        parameters=tuple(fields["parameters"]),
        shapes=tuple(tuple(shape) for shape in fields["shapes"]),
        state_bytes=fields["state_bytes"],
    )

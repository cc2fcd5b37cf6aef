"""Published weights of torchvision's networks: their file, its place, and their normalisation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from trainers.config import TORCHVISION
from trainers.spelling import hint
from trainers.weights import WeightsError

HASH_DIGITS = 8  # of the SHA-256 at the end of a file's name


@dataclass(frozen=True)
class Published:
    """One entry of a network's weights enum."""

    name: str
    url: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def path(self) -> Path:
        """Place of the file on this machine: torch's own cache."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]

    def obtain(self) -> bytes:
        """Return the file, downloaded if it is not there.

        Raises `WeightsError`, which says which file to fetch and where to put it, without a
        network.
        """
        import torch

        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(self.path), progress=False)
            except (URLError, OSError) as error:
                reason = getattr(error, "reason", None) or error
                raise WeightsError(
                    f"cannot download the weights {self.name} ({reason}): fetch {self.url} on a "
                    f"machine with a network, and put it at {self.path}"
                ) from error
        data = self.path.read_bytes()
        expected = self.path.stem.rpartition("-")[2]
        digest = hashlib.sha256(data).hexdigest()
        if len(expected) == HASH_DIGITS and not digest.startswith(expected):
            raise WeightsError(
                f"{self.path} is damaged: its hash is {digest[:8]}, expected {expected}; delete "
                f"it, and fetch {self.url} again"
            )
        return data


def published(network: str, choice: str | None) -> Published:
    """Return the weights of `torchvision:NAME` by their name; torchvision's default without one.

    Raises `WeightsError` for another network and for an unknown name.
    """
    from torchvision import models

    if not network.startswith(TORCHVISION):
        raise WeightsError(
            f"torchvision has weights of its own networks only, and the network is {network}: give "
            "the path of a file"
        )
    enum: Any = models.get_model_weights(network.removeprefix(TORCHVISION))
    names = [entry.name for entry in enum]
    if choice is not None and choice not in names:
        near = hint(choice, names) or f"; known: {', '.join(names)}"
        raise WeightsError(f"{network} has no weights {choice!r}{near}")
    entry = enum.DEFAULT if choice is None else enum[choice]
    transforms = entry.transforms()
    return Published(
        entry.name, entry.url, tuple(map(float, transforms.mean)), tuple(map(float, transforms.std))
    )

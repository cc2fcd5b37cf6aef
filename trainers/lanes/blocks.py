"""Blocks of torchvision's networks, whose own forward pass runs on the values of all lanes.

Such a block calls its parts and adds what they return. Here its parts are joined ones, and its code
is torchvision's.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from trainers.lanes.values import Values

BLOCKS = {
    *("resnet.BasicBlock", "resnet.Bottleneck"),
    *("mobilenetv2.InvertedResidual", "mobilenetv3.InvertedResidual"),
}
"""Blocks for which lanes were found faster, by module and class below `torchvision.models`.

They only call parts and add, change no value in place which they use again, and draw no random
numbers outside of their parts.
"""

Part = Callable[[Values], Values]


def is_block(module: nn.Module) -> bool:
    """Return whether a module is one of `BLOCKS`."""
    kind = type(module)
    package, _, name = kind.__module__.rpartition(".")
    return package == "torchvision.models" and f"{name}.{kind.__qualname__}" in BLOCKS


class Block:
    """Stands in for a block in its forward pass: its parts run on the values of all lanes."""

    def __init__(self, block: nn.Module, parts: Mapping[str, Part]):
        self._block, self._parts = block, parts

    def __call__(self, values: Values) -> Values:
        outputs: Values = type(self._block).forward(self, values)
        return outputs

    def __getattr__(self, name: str) -> Any:
        """Return a part, a method with this object as `self`, or a setting of the block."""
        if name in self._parts:
            return self._parts[name]
        of_class = getattr(type(self._block), name, None)
        if inspect.isfunction(of_class):
            return types.MethodType(of_class, self)
        return getattr(self._block, name)

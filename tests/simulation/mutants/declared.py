"""What a mutant is, and how a module declares its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Patch = tuple[Any, str, Any]
"""Module or class, name of one of its attributes, and what takes its place."""


@dataclass(frozen=True)
class Mutant:
    """A wrong protocol."""

    name: str
    what: str
    patches: tuple[Patch, ...]


class Mutants(dict[str, Mutant]):
    """The mutants of a module by name, in the order in which they are declared."""

    def mutant(self, what: str, *places: tuple[Any, str]) -> Callable[[Any], Any]:
        """Declare a function that takes the place of one or several of production's."""

        def declare(function: Any) -> Any:
            self.add(function.__name__, what, *((*place, function) for place in places))
            return function

        return declare

    def add(self, name: str, what: str, *patches: Patch) -> None:
        """Declare a mutant that is no function of its own."""
        self[name] = Mutant(name, what, patches)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""

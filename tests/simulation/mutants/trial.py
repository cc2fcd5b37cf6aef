"""The trial of a mutant: scenarios, crash points and random sweeps while production is broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.simulation import known, scenarios
from tests.simulation.mutants.declared import Mutant
from tests.simulation.scene import undisturbed


@contextlib.contextmanager
def broken(one: Mutant) -> Iterator[None]:
    """Context in which production is broken."""
    before = [(where, name, vars(where)[name]) for where, name, _ in one.patches]
    for where, name, new in one.patches:
        setattr(where, name, new)
    try:
        yield
    finally:
        for where, name, old in before:
            setattr(where, name, old)


def caught(one: Mutant, seeds: int = 40, stride: int = 61, first: str = "") -> str:
    """Return what caught a mutant; empty if nothing did. The scenario `first` is tried first."""
    for kind in ("folder", "s3"):
        undisturbed(kind)
    with broken(one):
        order = sorted(known.SCENARIOS, key=lambda name: name != first)
        for name in order:
            for variant in known.variants(name):
                if problems := known.problems_of(name, variant):
                    return f"{name} ({variant}): {problems[0]}"
        for kind in ("folder", "s3"):
            for whom in scenarios.CRASHES:
                for point in scenarios.crashes(kind, 1, whom, stride):
                    if point.problems:
                        return f"{point.label}: {point.problems[0]}"
        for seed in range(seeds):
            at_random = scenarios.at_random(seed)
            if at_random.problems:
                return f"{at_random.label}: {at_random.problems[0]}"
    return ""

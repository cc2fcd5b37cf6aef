"""Measurements of a plan: comparisons of its trained networks. Nothing is trained but probes. Pure.

A measurement takes one or two trained networks and the images of one task. Its id is a hash of all
that it compares, so that two sweeps that share the networks share the measurement.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.sweep.schema import MEASURED, Measure, Resources
from trainers.canonical import digest
from trainers.classifier import Classifier
from trainers.config import ID_LENGTH, Adaptation, Task, Training
from trainers.recipe import Recipe

VERSIONS: dict[Measure, int] = {  # raised when the values of a measure change
    "weights": 1,
    "interpolation": 1,
    "similarity": 1,
    "predictors": 1,
}
PASSES: dict[Measure, int] = {  # forward passes over `IMAGES`, about, for the estimate of time
    "weights": 0,
    "interpolation": 11,
    "similarity": 10,  # products of features included
    "predictors": 100,  # per n; most of it is probes
}
IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network that is looked at."""

    id: str
    """Id of its trial, or of a file of weights."""
    training: Training | None
    """Training of the network; None for a file of weights."""
    seen: Training | None = None
    """Training whose images the network sees, in the form in which that training sees them."""

    @functools.cached_property
    def identity(self) -> list[object]:
        """All that the network's outputs depend on."""
        if self.seen is None:
            return [self.id]
        adapt = self.seen.adapt if self.seen.recipe.classifier else Adaptation()
        return [self.id, view_of(self.seen), adapt]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measure of one network, or of two."""

    measure: Measure
    first: Subject
    """The network that is measured."""
    second: Subject | None = None
    """The network that it is compared with."""
    layers: tuple[int, ...] = ()
    """Numbers n of copied layers, where the measure needs them."""
    trial: Trial = dataclasses.field(compare=False)
    """A trial with the request and the data folders of the measurement."""

    @functools.cached_property
    def id(self) -> str:
        subjects = [subject.identity for subject in self.subjects]
        content = [self.measure, VERSIONS[self.measure], subjects, self.layers]
        return digest(content, ID_LENGTH)

    @property
    def name(self) -> str:
        """Name that progress shows: `similarity of A3B s2`, or of the bases of several trials."""
        whose = "" if self.first.id == self.trial.id else "the bases of "
        return f"{self.measure} of {whose}{self.trial.name}"

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return (self.first, self.second) if self.second else (self.first,)

    @property
    def networks(self) -> tuple[str, ...]:
        """Ids of the networks, and files of weights, that must be complete before."""
        return tuple(subject.id for subject in self.subjects)

    def flops(self, plan: Plan) -> float:
        """Return the floating-point operations, about, two per multiply-add."""
        passes = PASSES[self.measure] * max(1, len(self.layers))
        return 2.0 * sum(plan.layers(self.trial).macs) * passes * IMAGES

    @property
    def task(self) -> Task | None:
        """The task whose images the networks see."""
        return self.first.seen.target if self.first.seen else None

    @property
    def request(self) -> Resources:
        return self.trial.request


def view_of(training: Training) -> list[object]:
    """Return all that the images depend on that a training sees."""
    recipe = training.recipe
    source = training.source if recipe.normalise == "source" else None
    return [training.target, source, recipe.normalise, recipe.pixels, recipe.precision]


def measurements_of(plan: Plan) -> dict[str, Measurement]:
    """Return the measurements of a plan by id, in canonical order.

    Measured are the transfers and selffers. Stitched networks and detectors have other layers, and
    classifiers on features are no networks: they are left out. A trial whose target has no base in
    the plan is compared with its source alone.
    """
    measures = plan.sweep.measure
    if not measures:
        return {}
    copies = [
        trial
        for trial in plan.members
        if trial.training.treatment.kind in MEASURED
        and not (trial.training.recipe.classifier or trial.training.recipe.detector)
    ]
    bases = {
        _place(trial): trial
        for trial in reversed(plan.members)
        if trial.training.treatment.kind == "base"
    }
    measurements: dict[str, Measurement] = {}
    for measure in dict.fromkeys(measures):
        for trial in copies:
            pair = _Pair(trial, bases.get(_place(trial)), plan.trials.get(trial.parent or ""))
            for one in getattr(pair, measure)():
                measurements.setdefault(one.id, one)
        if measure == "predictors":
            measurements |= {one.id: one for one in _predictors(plan, copies)}
    return measurements


@dataclass(frozen=True)
class _Pair:
    """A trial with the bases of its target and of its source, where the plan has them."""

    trial: Trial
    base: Trial | None
    source: Trial | None

    def weights(self) -> Iterator[Measurement]:
        """Compare the weights with those before the first step: copied ones, and new ones."""
        parent = self.trial.parent
        assert parent is not None
        start = Subject(id=parent, training=None)
        yield Measurement(
            measure="weights", first=_own(self.trial, None), second=start, trial=self.trial
        )

    def interpolation(self) -> Iterator[Measurement]:
        """Go from the base of the target to the network."""
        if self.base:
            seen = self.trial.training
            yield Measurement(
                measure="interpolation",
                first=_own(self.trial, seen),
                second=_own(self.base, seen),
                trial=self.trial,
            )

    def similarity(self) -> Iterator[Measurement]:
        """Compare the network with both bases, and the two bases with each other.

        The base of the source sees the target's images as the network does that copies it.
        """
        seen = self.trial.training
        own = _own(self.trial, seen)
        target = self.base and _own(self.base, self.base.training)
        source = self.source and _own(self.source, seen)
        if source and target and source.id == target.id:
            source = None
        for first, second in ((own, target), (own, source), (target, source)):
            if first and second:
                yield Measurement(
                    measure="similarity", first=first, second=second, trial=self.trial
                )

    def predictors(self) -> Iterator[Measurement]:
        """Yield nothing: one measurement has all n of a source and a target."""
        yield from ()


def _predictors(plan: Plan, copies: list[Trial]) -> Iterator[Measurement]:
    """Yield a measurement per source and target, with all n of the plan's transfers."""
    transfers: dict[str, list[Trial]] = {}
    for trial in copies:
        if trial.training.treatment.kind == "transfer":
            place = digest([trial.parent, view_of(trial.training)])
            transfers.setdefault(place, []).append(trial)
    for trials in transfers.values():
        last = max(trials, key=lambda trial: trial.training.treatment.n)
        source = plan.trials.get(last.parent or "")
        assert last.parent is not None
        yield Measurement(
            measure="predictors",
            first=Subject(
                id=last.parent,
                training=source.training if source else None,
                seen=_probe(last.training),
            ),
            layers=tuple(sorted({trial.training.treatment.n for trial in trials})),
            trial=last,
        )


def _probe(training: Training) -> Training:
    """Return the training of a logistic regression on the layers that a training copies."""
    recipe = Recipe(
        steps=1,
        batch=1,
        classifier=Classifier(kind="logistic"),
        pixels=training.recipe.pixels,
        normalise=training.recipe.normalise,
        precision=training.recipe.precision,
    )
    treatment = dataclasses.replace(training.treatment, fine_tuned=False)
    return dataclasses.replace(
        training, treatment=treatment, recipe=recipe, schedule_from=None, tested=False
    )


def _own(trial: Trial, seen: Training | None) -> Subject:
    return Subject(id=trial.id, training=trial.training, seen=seen)


def _place(trial: Trial) -> tuple[str, str, int, str | None]:
    """Return what a trial shares with the base of its target."""
    training = trial.training
    return digest(training.target), digest(training.network), training.seed, trial.condition

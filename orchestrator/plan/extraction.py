"""Extractions of a plan: outputs of layers of its networks, to be written as files. Pure.

The id of an extraction is a hash of network, images, layers and pooling. Two sweeps that ask for
the same vectors share them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.errors import LayerwiseError, SweepError
from orchestrator.plan.feature_size import all_images
from orchestrator.plan.origin import Origin, origin_of_trial, origin_of_weights, without_network
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from orchestrator.store.names import FeaturesFolder
from orchestrator.sweep.features import Features
from orchestrator.sweep.schema import TREATMENTS, Resources
from orchestrator.sweep.source import Path as KeyPath
from trainers import feature_form
from trainers.canonical import ConfigError, digest
from trainers.config import ID_LENGTH
from trainers.feature_form import FLOAT_BYTES, FeatureForm
from trainers.spelling import hint

VERSION = 1  # raised when the vectors or the files of an extraction change


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Outputs of layers of one network, for the images of one task."""

    origin: Origin
    form: FeatureForm
    part: str = field(default="", compare=False)
    """Name under `features` in the sweep file."""

    @functools.cached_property
    def id(self) -> str:
        """Hash of all that the vectors and their files depend on, less the weights."""
        recipe = self.origin.training.recipe
        seen = [recipe.normalise, recipe.pixels, recipe.crop, recipe.precision]
        form = [self.form.layers, self.form.pool, self.form.most, feature_form.PART_BYTES]
        content = [VERSION, self.origin.id, self.origin.network, self.task_hash, seen, form]
        if recipe.normalise == "source":
            content.append(self.origin.training.source or self.origin.training.target)
        return digest(content, ID_LENGTH)

    def folder(self, sha256: str) -> str:
        """Return the name of the files' folder, for weights with this SHA-256."""
        return FeaturesFolder(self.id, sha256).name

    @property
    def task_hash(self) -> str:
        """Hash of the task whose images the network sees."""
        return digest(self.origin.training.target)

    @property
    def name(self) -> str:
        """Name that progress shows: `features of A s2 for B s2`."""
        return f"features of {self.origin.name} for {self.origin.task}"

    @property
    def networks(self) -> tuple[str, ...]:
        """Id of the network, or file of weights, that must be complete before."""
        return (self.origin.id,)

    @property
    def request(self) -> Resources:
        return self.origin.trial.request

    def images(self, plan: Plan) -> int:
        """Return the number of images."""
        return all_images(plan, self.origin.training.target)

    def flops(self, plan: Plan) -> float:
        """Return the floating-point operations of the pass, two per multiply-add."""
        macs = plan.networks[self.origin.network].macs[: self.form.layers[-1]]
        return 2.0 * sum(macs) * self.images(plan)

    def bytes(self, plan: Plan) -> int:
        """Return the size of the vectors. Raises `ConfigError` for a limit below the channels."""
        shapes = plan.networks[self.origin.network].shapes
        values = sum(self.form.size(shapes[n - 1]) for n in self.form.layers)
        return FLOAT_BYTES * values * self.images(plan)


def extractions_of(plan: Plan) -> dict[str, Extraction]:
    """Return the extractions that a sweep asks for by id, in the order of its file.

    Detectors, stitched networks, and classifiers on features or pixels have no outputs of their own
    and are left out of a treatment. Raises `SweepError` for an unknown network or task, and for
    layers that a network does not have.
    """
    extractions: dict[str, Extraction] = {}
    for name, asked in plan.sweep.features.items():
        for extraction in _Part(plan, name, asked).extractions():
            extractions.setdefault(extraction.id, extraction)
    return extractions


@dataclass(frozen=True)
class _Part:
    """One entry under `features` in a sweep file."""

    plan: Plan
    name: str
    asked: Features

    def extractions(self) -> Iterator[Extraction]:
        for index, of in enumerate(self.asked.of):
            networks = self._networks(of, index)
            for task in self.asked.tasks or (None,):
                for network in networks:
                    for origin in self._origins(network, task):
                        yield self._extraction(origin)

    def _networks(self, of: str, index: int) -> list[Trial | WeightsParent]:
        """Return the networks of a treatment, or of a name."""
        trials = [x for x in self.plan.members if of in (x.training.treatment.name, x.name)]
        files = [x for x in self.plan.weights.values() if x.name == of]
        trials = list({trial.id: trial for trial in trials}.values())
        if fit := [trial for trial in trials if not without_network(trial)]:
            return [*fit, *files]
        if files:
            return [*files]
        if trials:
            problem = f"{trials[0].name} is {without_network(trials[0])}"
        elif of in TREATMENTS or of in self.plan.sweep.weights:
            problem = f"no grid of the sweep has {of}"
        else:
            names = [trial.name for trial in self.plan.members]
            near = hint(of, [*TREATMENTS, *self.plan.sweep.weights, *names])
            expected = "; expected a treatment, a file under weights, or a trial such as "
            problem = f"no network {of!r}{near or expected + repr(names[0])}"
        raise self._mistake(("of", index), problem)

    def _origins(self, network: Trial | WeightsParent, task: str | None) -> list[Origin]:
        """Return the origins of a network; by default, a file of weights sees all its targets."""
        plan = self.plan
        try:
            if isinstance(network, Trial):
                return [origin_of_trial(plan, network, task)]
            copies = [trial for trial in plan.members if trial.parent == network.id]
            tasks = [task] if task else dict.fromkeys(trial.target for trial in copies)
            return [origin_of_weights(plan, network, one) for one in tasks]
        except LayerwiseError as error:
            raise self._mistake(("tasks",), str(error)) from error

    def _extraction(self, origin: Origin) -> Extraction:
        depth = self.plan.networks[origin.network].depth - (origin.id in self.plan.weights)
        last = depth if origin.id in self.plan.weights else depth - 1
        layers = self.asked.layers or tuple(range(1, last + 1))
        for n in layers:
            if not 1 <= n <= depth:
                has = f"{origin.name} has layers 1..{depth}"
                raise self._mistake(("layers",), f"layer {n} is out of range: {has}")
        try:
            form = FeatureForm(layers=layers, pool=self.asked.pool, most=self.asked.most)
            extraction = Extraction(origin=origin, form=form, part=self.name)
            extraction.bytes(self.plan)
        except ConfigError as error:
            raise self._mistake((error.field,), f"{origin.name}: {error}") from error
        return extraction

    def _mistake(self, path: KeyPath, message: str) -> SweepError:
        source = self.plan.source
        return SweepError([source.mistake(source.nearest(("features", self.name, *path)), message)])

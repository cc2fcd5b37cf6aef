"""Sweeps for Python: written in code, read from files, planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from orchestrator.errors import LayerwiseError, SweepError

if TYPE_CHECKING:
    from typing import Self, Unpack

    from orchestrator.plan.plan import Plan
    from orchestrator.store.store import Store
    from orchestrator.sweep.code import SweepKeys
    from orchestrator.sweep.schema import Sweep as Settings
    from orchestrator.sweep.source import Source


class Sweep:
    """A sweep: which networks are trained.

    Example: `Sweep(name="mine", dataset="digits", splits={"random": [0, 1]}, recipe={"steps": 100,
    "rate": 0.03, "batch": 32})`. The keys are those of a sweep file.
    """

    schema: Settings
    """The validated settings."""
    source: Source
    """The text of the sweep, and where each value stands in it."""

    def __init__(self, **keys: Unpack[SweepKeys]) -> None:
        """Make a sweep from its keys. Raises `SweepError` with a line for every mistake.

        Line numbers in messages are those of `to_yaml()`.
        """
        from orchestrator.sweep.code import to_yaml
        from orchestrator.sweep.load import load_recorded

        try:
            text = to_yaml(keys)
        except TypeError as error:
            raise SweepError([str(error)]) from error
        self.schema, self.source = load_recorded(str(keys.get("name", "sweep")), text)

    @classmethod
    def load(cls, name: str, changes: Sequence[str] = ()) -> Self:
        """Return the sweep of a YAML file, or a bundled one: `digits`, `paper:tiny`.

        Each of the `changes` is `key=value`, as for `--set` of the commands. Raises `SweepError`.
        """
        from orchestrator.sweep.load import load_sweep

        return cls.of(*load_sweep(name, changes))

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Return the sweep of the text of a sweep file. Raises `SweepError`."""
        from orchestrator.sweep.load import load_recorded

        return cls.of(*load_recorded("sweep", text))

    @classmethod
    def of(cls, sweep: Settings, source: Source) -> Self:
        """Return a sweep that is loaded already."""
        made = cls.__new__(cls)
        made.schema, made.source = sweep, source
        return made

    def to_yaml(self) -> str:
        """Return the sweep as the text of a sweep file; `from_yaml` gives an equal sweep again."""
        from orchestrator.sweep.code import text_of

        return text_of(self.source)

    @property
    def name(self) -> str:
        """Name of the sweep in the store."""
        return self.schema.name

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides which networks are trained, by dotted key such as `recipe.steps`."""
        from orchestrator.sweep.settings import settings

        return settings(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sweep) and self.schema == other.schema

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Sweep {self.name}>"


def sweep_of(sweep: Sweep | str, store: Store | None = None) -> Sweep:
    """Return a sweep given by itself, by its file or bundled name, or by its name in a store."""
    return sweep if isinstance(sweep, Sweep) else Sweep.of(*loaded(sweep, (), store))


def loaded(
    sweep: str, changes: Sequence[str], store: Store | None = None
) -> tuple[Settings, Source]:
    """Load a sweep by its file or bundled name with changes, or by its name in a store."""
    from orchestrator.sweep.load import is_file_or_bundled, load_recorded, load_sweep

    if store is None or is_file_or_bundled(sweep):
        return load_sweep(sweep, changes)
    names = store.sweep_names()
    if sweep not in names:
        return load_sweep(sweep, changes, known=names)
    if changes:
        raise LayerwiseError(
            f"--set changes a sweep file or a bundled sweep; {sweep} is a sweep of the store"
        )
    record = store.sweep_record(sweep)
    return load_recorded(sweep, record.text, record.forms or ())


def planned(sweep: Sweep | str, store: Store | None = None) -> Plan:
    """Return the plan of a sweep. Raises `SweepError`."""
    from orchestrator.plan.plan import make_plan
    from orchestrator.plan.resolve import resolve

    given = sweep_of(sweep, store)
    return make_plan(resolve(given.schema, given.source))


def chosen(plan: Plan, only: str | Iterable[str] | None, option: str = "only") -> set[str] | None:
    """Return the ids of the trials that an SQL condition on their labels names, or these ids.

    None without a choice. `option` is the name of the argument in messages. Raises `LayerwiseError`
    for a condition that is not valid or that no trial meets.
    """
    if only is None:
        return None
    if not isinstance(only, str):
        return _known(plan, only)
    from orchestrator.report.query import QueryError, matching, values_of
    from orchestrator.store.schemas import to_table
    from orchestrator.sweep.schema import TreatmentName
    from orchestrator.sweep.source import shown
    from trainers.config import Treatment

    for name in get_args(TreatmentName):
        treatment = Treatment.of(name)
        if treatment.fine_tuned and name in only:
            raise LayerwiseError(
                f"{option}: no label is {name!r}; fine-tuned trials are "
                f"treatment = '{treatment.kind}' AND NOT frozen"
            )
    labels = to_table("sweeps", [trial.labels() for trial in plan.members])
    labels = labels.drop_columns(["tuning_unequal"])
    try:
        ids = matching(labels, only)
    except QueryError as error:
        raise LayerwiseError(f"{option}: {error}") from error
    if not ids:
        raise LayerwiseError(
            f"{option}: no trial of sweep {plan.sweep.name} matches {shown(only)}; "
            f"there are {values_of(labels, only)}"
        )
    return set(ids)


def _known(plan: Plan, ids: Iterable[str]) -> set[str]:
    """Return ids, all of which the plan has. Raises `LayerwiseError`."""
    wanted = set(ids)
    if unknown := sorted(wanted - plan.trials.keys()):
        raise LayerwiseError(f"only: no trial {unknown[0]} in sweep {plan.sweep.name}")
    return wanted

"""The protocol, broken on purpose: each mutant is a patch of production code that must be caught.

A mutant is caught if a scenario, a crash point or a random sweep shows a problem. Those marked with
a commit bring back a fault that this project had.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution import frontier, items, run, worker
from orchestrator.execution.assignment import Report
from orchestrator.states import Ending, State
from orchestrator.store import (
    cleanup,
    compaction,
    damage,
    files,
    leases,
    local_files,
    names,
    node_cache,
    parts,
    remote_files,
    row_files,
    store,
    trial_tables,
    view,
)
from orchestrator.store.names import SnapshotFile
from tests.simulation import known, scenarios
from tests.simulation.scene import undisturbed
from trainers import checkpoint, whole_file

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """A wrong protocol."""

    name: str
    what: str
    patches: tuple[Patch, ...]


MUTANTS: dict[str, Mutant] = {}


def mutant(what: str, *places: tuple[Any, str]) -> Callable[[Any], Any]:
    """Declare a function that takes the place of one or several of production's."""

    def declare(function: Any) -> Any:
        name = function.__name__
        MUTANTS[name] = Mutant(name, what, tuple((*place, function) for place in places))
        return function

    return declare


def replaced(name: str, what: str, *patches: Patch) -> None:
    """Declare a mutant that is no function of its own."""
    MUTANTS[name] = Mutant(name, what, patches)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


# Files of a folder --------------------------------------------------------------------------------


def _beside(flush: bool = True, fsync: bool = True, folder: bool = True, half: str = "") -> Any:
    @contextlib.contextmanager
    def beside(path: Path, finish: Callable[[Path], object]) -> Iterator[Any]:
        token = whole_file.secrets.token_hex(4)
        beside_it = path.with_name(half.format(path.name, token) or f".{path.name}.{token}.tmp")
        try:
            with beside_it.open("wb") as file:
                yield file
                if flush:
                    file.flush()
                if fsync:
                    whole_file.os.fsync(file.fileno())
            finish(beside_it)
        except BaseException:
            with contextlib.suppress(OSError):
                beside_it.unlink()
            raise
        if folder:
            with contextlib.suppress(FileNotFoundError):
                whole_file._flush_names(path)

    return beside


replaced(
    "no_fsync", "A file is renamed before its content is on the disk.",
    (whole_file, "_beside", _beside(fsync=False)),
)  # fmt: skip
replaced(
    "fsync_of_an_empty_buffer", "fsync comes before Python's own buffer is written.",
    (whole_file, "_beside", _beside(flush=False)),
)  # fmt: skip
replaced(
    "no_fsync_of_the_folder", "The new name is not flushed. Fault of this project until now.",
    (whole_file, "_beside", _beside(folder=False)),
)  # fmt: skip
replaced(
    "one_half_for_all_writers", "Two writers of a file share the half-written file.",
    (whole_file, "_beside", _beside(half=".{0}.00000000.tmp")),
)  # fmt: skip
replaced(
    "half_file_in_sight", "The half-written file has a name that readers list.",
    (whole_file, "_beside", _beside(half="{0}")),
)  # fmt: skip


@mutant("A file is written in its place.", (whole_file, "write"))
def no_rename(path: Path, data: bytes) -> None:
    whole_file.make_folder(path.parent)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        whole_file.os.fsync(file.fileno())


@mutant(
    "Only the last folder is flushed; its maker may have died. Fault of this project until now.",
    (whole_file, "_flush_names"),
)
def one_folder_is_flushed(path: Path) -> None:
    whole_file.flush(path.parent)


@mutant("A file whose folder goes away meanwhile is not written again.", (whole_file, "write"))
def written_once(path: Path, data: bytes) -> None:
    with whole_file.replacing(path) as file:
        file.write(data)


@mutant(
    "The folder of a store that is gone is made again.", (local_files.LocalFiles, "_look_for_root")
)
def no_look_for_the_root(self: Any) -> None: ...


@mutant(
    "A failing disk raises an error that no one expects. Fault of this project until now.",
    (local_files.LocalFiles, "walk"),
)
def impatient_walk(self: Any, folder: str) -> Any:
    yield from self._below(folder)


# Patience -----------------------------------------------------------------------------------------

replaced("no_patience", "A failure of the store is not waited for.", (files, "PAUSES", ()))
replaced(
    "endless_patience", "A failure of the store is waited for without end.",
    (files, "PAUSES", (8.0,) * 100_000), (files, "PATIENCE", 1e12),
)  # fmt: skip
replaced(
    "full_disk_is_final", "A full disk is not waited for.",
    (local_files, "PASSING", local_files.PASSING - {errno.ENOSPC}),
)  # fmt: skip
replaced(
    "refusal_is_transient",
    "A refused upload is tried for forty seconds.",
    (remote_files, "REFUSED", ()),
)


@mutant(
    "An object store that asks for less haste is an error.", (remote_files.RemoteFiles, "transient")
)
def nothing_is_transient(self: Any, error: OSError) -> bool:  # noqa: ARG001
    return False


@mutant(
    "The size of an object is not compared after its upload.", (remote_files.RemoteFiles, "_send")
)
def no_look_after_an_upload(self: Any, path: str, data: bytes) -> None:
    stream = self.fs.open_output_stream(path)
    stream.write(data)
    stream.close()


@mutant(
    "An object that was moved since it was listed is waited for. Fault of this project until now.",
    (remote_files.RemoteFiles, "get"),
)
def moved_is_a_failure(self: Any, path: str) -> bytes:
    if (size := self.sizes.get(path)) is None:
        return files.Files.get(self, path)
    fragment = remote_files._lines(size).make_fragment(path, self.fs, file_size=size)

    def read() -> bytes:
        lines = fragment.to_table(schema=remote_files.LINE)["line"]
        return b"".join(line.as_py() + b"\n" for line in lines)

    return self.patiently("read", read)


# Snapshots and weights ----------------------------------------------------------------------------


def _unchecked(data: bytes, expected: str) -> bytes:  # noqa: ARG001
    return data


replaced(
    "no_hash_check_of_weights",
    "Weights and snapshots are used unseen.",
    (store, "verify", _unchecked),
)
replaced(
    "no_hash_check_in_the_cache",
    "A node's cache is used unseen.",
    (node_cache, "verify", _unchecked),
)


@mutant("The oldest snapshot is resumed from.", (store.Store, "progress"))
def oldest_snapshot_first(self: Any, trial: str) -> Iterator[bytes]:
    for file in self._snapshots(trial):
        with contextlib.suppress(checkpoint.CheckpointError, FileNotFoundError):
            yield checkpoint.verify(self.get(self.path("progress", trial, file.name)), file.sha256)


@mutant("Snapshots are not resumed from.", (store.Store, "progress"))
def never_resumed(self: Any, trial: str) -> Iterator[bytes]:  # noqa: ARG001
    yield from ()


@mutant("A damaged snapshot hides the one before it.", (store.Store, "progress"))
def newest_snapshot_only(self: Any, trial: str) -> Iterator[bytes]:
    for file in reversed(self._snapshots(trial)):
        with contextlib.suppress(checkpoint.CheckpointError, FileNotFoundError):
            yield checkpoint.verify(self.get(self.path("progress", trial, file.name)), file.sha256)
        return


@mutant("Only the newest snapshot is kept.", (store.Store, "put_progress"))
def one_snapshot(self: Any, trial: str, attempt: str, step: int, data: bytes) -> bool:
    new = SnapshotFile(step, attempt, checkpoint.checksum(data))
    self.put(self.path("progress", trial, new.name), data)
    own = [file for file in self._snapshots(trial) if file.attempt == attempt]
    for old in own[:-1]:
        self.delete(self.path("progress", trial, old.name))
    return len(own) > 1


@mutant("Older snapshots are deleted before the new one is written.", (store.Store, "put_progress"))
def deleted_too_early(self: Any, trial: str, attempt: str, step: int, data: bytes) -> bool:
    old = self._snapshots(trial)
    for file in old:
        self.delete(self.path("progress", trial, file.name))
    new = SnapshotFile(step, attempt, checkpoint.checksum(data))
    self.put(self.path("progress", trial, new.name), data)
    return any(file.attempt == attempt for file in old)


@mutant("Snapshots stay after the row.", (worker.Training, "_drop_snapshots"), (run.Run, "_tidy"))
def snapshots_stay(self: Any) -> None: ...


@mutant("Weights that are gone are an error of the worker.", (store.Store, "get_checkpoint"))
def gone_weights_are_an_accident(
    self: Any,
    trial: str,
    sha256: str,
    *,
    cached: bool = False,  # noqa: ARG001
) -> bytes:
    return checkpoint.verify(self.get(self.checkpoint_path(trial, sha256)), sha256)


# The worker ---------------------------------------------------------------------------------------


@mutant("The snapshots go before the row is written.", (worker.Training, "_finish"))
def snapshots_go_before_the_row(self: Any, ending: Ending, columns: dict[str, Any]) -> Report:
    self._drop_snapshots()
    return FINISH(self, ending, columns)


@mutant("The row is written before the weights.", (worker.Training, "_finish"))
def row_before_weights(self: Any, ending: Ending, columns: dict[str, Any]) -> Report:
    report = FINISH(self, ending, columns)
    if late := getattr(self, "late", None):
        self.store.put_checkpoint(self.id, late)
    return report


FINISH = worker.Training._finish
WRITE_RESULT = worker.Training._write_result


def _without_weights(self: Any, result: Any) -> None:
    self.late = result.checkpoint if self.assignment.keep_checkpoint else None
    real, self.store.put_checkpoint = self.store.put_checkpoint, nothing
    WRITE_RESULT(self, result)
    self.store.put_checkpoint = real


MUTANTS["row_before_weights"] = Mutant(
    "row_before_weights",
    "The row is written before the weights that it names.",
    (
        (worker.Training, "_finish", row_before_weights),
        (worker.Training, "_write_result", _without_weights),
    ),
)


@mutant("The row is written without its curve.", (worker.Training, "_take_curve"))
def no_curve(self: Any, ended: Any) -> None: ...


@mutant(
    "A worker that wakes trains on and leaves a snapshot (d39f7e1).",
    (worker.Training, "_completed_row"),
)
def no_look_at_the_row(self: Any) -> None:  # noqa: ARG001
    return None


replaced(
    "late_snapshots_stay", "A snapshot of a worker that wakes and dies stays (fdb181d).",
    (run.Run, "_tidy", nothing),
)  # fmt: skip


def _own_row_ends_it(self: Any) -> Any:
    row = COMPLETED_ROW(self)
    return row | {"attempt": "another"} if row and self.before is None else row


COMPLETED_ROW = worker.Training._completed_row
replaced(
    "its_own_row_ends_it", "A base that is trained again ends at its old row (db9ce3e).",
    (worker.Training, "_completed_row", _own_row_ends_it),
)  # fmt: skip


@mutant("A failure of the store counts as the death of a worker.", (worker, "run"))
def store_failure_is_a_death(assignment: Any, **options: Any) -> Report:
    report = RUN(assignment, **options)
    if report.ending is Ending.STORE_FAILED:
        return Report(report.trial, Ending.WORKER_DIED, report.message)
    return report


RUN = worker.run


@mutant("A stopped training counts as complete.", (worker.Training, "report"))
def stopped_is_complete(self: Any, ending: Ending, message: str = "") -> Report:
    real = Ending.COMPLETE if ending is Ending.STOPPED else ending
    return Report(self.id, real, message)


@mutant("A base that is damaged counts as a death of its child.", (worker.Training, "parents"))
def damaged_base_is_a_death(self: Any) -> dict[str, bytes]:
    try:
        return PARENTS(self)
    except worker.BaseMissingError as error:
        died = Report(self.id, Ending.WORKER_DIED, error.report.message)
        raise worker.BaseMissingError(died) from error


PARENTS = worker.Training.parents


# The frontier -------------------------------------------------------------------------------------

FINISH_ATTEMPT = frontier.Frontier.finish


def _as(**endings: Ending) -> Any:
    def finish(self: Any, attempt: Any, ending: Ending, *more: Any) -> Any:
        return FINISH_ATTEMPT(self, attempt, endings.get(ending.name, ending), *more)

    return finish


for name, what, endings in (
    (
        "lost_node_counts",
        "A lost node counts as a death of the worker.",
        {"NODE_LOST": Ending.WORKER_DIED},
    ),
    (
        "death_does_not_count",
        "A dead worker counts as a lost node.",
        {"WORKER_DIED": Ending.NODE_LOST},
    ),
    ("death_is_failure", "A dead worker is a failed training.", {"WORKER_DIED": Ending.FAILED}),
    ("failure_is_repeated", "A failed training is repeated.", {"FAILED": Ending.WORKER_DIED}),
    (
        "memory_counts_as_death",
        "A lack of memory is a death.",
        {"OUT_OF_MEMORY": Ending.WORKER_DIED},
    ),
):
    replaced(name, what, (frontier.Frontier, "finish", _as(**endings)))

replaced("one_death_fewer", "A trial is lost at the third death.", (frontier, "WORKER_DEATHS", 2))
replaced("one_death_more", "A trial is lost at the fifth death.", (frontier, "WORKER_DEATHS", 4))
replaced(
    "same_memory",
    "The request is not raised.",
    (frontier, "with_more_memory", lambda request: request),
)


@mutant("Retries are not counted.", (frontier.Frontier, "_repeat"))
def retries_are_not_counted(self: Any, id: str) -> None:
    self._wait(id)


@mutant("Children of a failed base wait for ever.", (frontier.Frontier, "_fail_below"))
def nothing_is_skipped(self: Any, id: str) -> None: ...


@mutant("Children of a failed base begin.", (frontier.Frontier, "_fail_below"))
def children_of_a_failed_base_begin(self: Any, id: str) -> None:
    self._release_below(id)


@mutant("Children do not wait for a base that is trained again.", (frontier.Frontier, "redo"))
def children_do_not_wait(self: Any, id: str) -> None:
    self._set(id, State.WAITING)
    self._offer(id)


# The run ------------------------------------------------------------------------------------------


@mutant("A damaged base is not trained again.", (run.Run, "_train_again"))
def damaged_base_stays(self: Any, base: str, sha256: str) -> None: ...


@mutant("Weights of bases are not looked at when a run opens.", (run, "_checkpoints"))
def bases_are_trusted(store: Any, bases: Any) -> dict[str, str]:
    return dict(store.checkpoints(bases))


@mutant("Rows are not read when a run opens.", (store.Store, "check"))
def rows_are_trusted(self: Any, trials: Any, *, curves: bool = False) -> dict[str, str]:  # noqa: ARG001
    return {}


replaced("damage_stays", "Damaged files are not set aside.", (damage.Damage, "set_aside", nothing))


@mutant("Trials that were lost are not tried again by the next run.", (run, "_failures"))
def lost_is_failed(store: Any, trials: Any, outcomes: Any) -> dict[str, str]:  # noqa: ARG001
    return {id: "lost" for id in trials if outcomes.get(id) in (State.FAILED, State.LOST)}


@mutant("Snapshots of trials that are not complete are dropped.", (run.Run, "_tidy"))
def tidied_too_early(self: Any) -> None:
    for id in self.trials:
        self.store.drop_progress(id)


@mutant("A run goes on although its store has failed.", (run.Run, "_noting_failures"))
@contextlib.contextmanager
def failures_pass(self: Any) -> Iterator[None]:  # noqa: ARG001
    with contextlib.suppress(StoreError):
        yield


@mutant("The hash of a base that was trained is not taken over.", (items.TrialItem, "end"))
def hash_of_the_base_is_forgotten(self: Any, reports: Any) -> tuple[Ending, str]:
    report = reports[self.id]
    if report.checkpoint:
        self.bench.checkpoints.setdefault(self.id, "0" * 64)
    return report.ending, report.message


# Packs --------------------------------------------------------------------------------------------


@mutant("A complete row that nobody reported is trained again.", (worker.Training, "ended_before"))
def unheard_rows_are_replaced(self: Any) -> None:
    self.before = self._completed_row()


@mutant(
    "A late report of a damaged base trains it once more. Fault of this project until now.",
    (run.Run, "_train_again"),
)
def late_reports_count(self: Any, base: str, checkpoint: str) -> None:
    is_newest = self.bench.checkpoints[base] == checkpoint
    if is_newest and self.frontier.state[base] is State.COMPLETE:
        self.frontier.redo(base)


@mutant("A pack that fails is not halved.", (frontier.Frontier, "finish"))
def packs_are_not_halved(self: Any, attempt: Any, ending: Ending, *more: Any) -> Any:
    size = self.most[attempt.item]
    given_up = FINISH_ATTEMPT(self, attempt, ending, *more)
    if ending is Ending.PACK_FAILED:
        self.most[attempt.item] = size
    return given_up


@mutant("A pack without memory raises the requests of its trials.", (run.Run, "_end"))
def packs_ask_for_more(self: Any, attempt: Any, reports: Any, can: Any, lanes: int) -> None:  # noqa: ARG001
    END_ATTEMPT(self, attempt, reports, can, 1)


END_ATTEMPT = run.Run._end


@mutant("A trial whose worker died shares a pack again.", (frontier.Frontier, "_count_death"))
def deaths_are_shared(self: Any, id: str, ending: Ending, reason: str) -> None:
    size = self.most[id]
    COUNT_DEATH(self, id, ending, reason)
    self.most[id] = size


COUNT_DEATH = frontier.Frontier._count_death


# Leases and cleaning ------------------------------------------------------------------------------

replaced(
    "clean_sees_no_lease",
    "`clean` does not ask for runs.",
    (cleanup, "spare", lambda _, waste: list(waste)),
)
replaced("leases_hold_no_time", "A lease expires at once.", (leases, "HOLDS", 0.0))


@mutant("`clean` removes what it saw first, without a second look.", (cleanup.Cleaner, "remove"))
def no_second_look(self: Any, waste: Any) -> int:
    for item in waste:
        self.store.delete(item.path)
    return len(waste)


# Rows and parts -----------------------------------------------------------------------------------


def _names_without(what: str) -> Any:
    """Return the name of a row file without its attempt or digest."""

    def name(self: Any) -> str:
        attempt = "0" * 8 if what == "attempt" else self.attempt
        digest = "0" * 16 if what == "digest" else self.digest
        return f"{self.trial}-{self.outcome}-{attempt}-{digest}.json"

    return property(name)


replaced(
    "no_digest_in_the_name",
    "A row's name has no checksum.",
    (names.RowFile, "name", _names_without("digest")),
)


def _no_digest(data: bytes | memoryview) -> str:  # noqa: ARG001
    return "0" * 16


@mutant("The bytes of a row are not compared with its name.", (row_files, "decode"))
def no_hash_check_of_rows(file: Any, data: bytes, root: str, tables: Any = row_files.TABLES) -> Any:  # noqa: ARG001
    import json

    record: dict[str, Any] = {}
    for line in data.splitlines()[1:]:
        with contextlib.suppress(ValueError):
            record |= json.loads(line)
    record = {table: some for table, some in record.items() if table in tables}
    return record | ({"trials": {"id": file.trial}} if "trials" not in record else {})


@mutant(
    "The files of rows are deleted before their part is written.",
    (compaction._Compaction, "_write"),
)
def deleted_before_the_part(self: Any, copies: Any) -> None:
    self._delete([path for copy in copies for path in copy.sources])
    WRITE_COPIES(self, copies)


WRITE_COPIES = compaction._Compaction._write


@mutant("The file that names a part is written before the others.", (parts, "write"))
def part_is_named_too_early(files: Any, tables: Any) -> Any:
    order: list[tuple[str, bytes]] = []
    real = files.put

    def later(path: str, data: bytes, beside: Any = ()) -> None:  # noqa: ARG001
        order.append((path, data))

    reading, files.get = files.get, lambda path: dict(order)[path]
    files.put = later
    try:
        part = WRITE_PART(files, tables)
    finally:
        del files.put, files.get
    assert reading
    assert real
    for path, data in reversed(order):
        files.put(path, data)
    return part


WRITE_PART = parts.write


@mutant("A part is not read back.", (parts, "digest"))
def digest_of_nothing(data: bytes | memoryview) -> str:  # noqa: ARG001
    return "0" * 16


@mutant(
    "Compaction copies all rows of a part, also those that a better row replaced.",
    (view.View, "mask"),
)
def nothing_is_hidden(self: Any, part: Any) -> None:  # noqa: ARG001
    return None


@mutant("The worst outcome of a trial counts.", (view.Viewer, "_sorted"))
def worst_row_counts(self: Any, places: Any) -> Any:
    return list(reversed(SORTED(self, places)))


SORTED = view.Viewer._sorted


@mutant("Parts are listed once.", (view.Viewer, "_look"))
def parts_are_listed_once(self: Any, only: Any = None) -> Any:
    base = self.files.base
    names_now = self.files.names(f"{base}/trials")
    rows, foreign = self._row_files(only)
    removed = self._removed()
    old = self._old_rows(names_now, foreign, only)
    listed = self._parts([f for n in names_now if (f := names.CompactFile.parse(n))])
    return self._choose(rows, old, listed, removed, only)


@mutant("A damaged part is set aside with all its rows.", (run, "recover"))
def nothing_is_recovered(trials: Any) -> bool:  # noqa: ARG001
    return False


@mutant(
    "A part whose curves are gone ends every run. Fault of this project until now.",
    (trial_tables.TrialTables, "_refuse_gone"),
)
def gone_curves_are_an_accident(self: Any, table: str, part: Any) -> None: ...


@mutant("A file that moves while it is read is an error.", (trial_tables.TrialTables, "_steadily"))
def read_once(self: Any, read: Any) -> Any:  # noqa: ARG001
    try:
        return read()
    except FileNotFoundError as error:
        raise StoreError("a file has gone") from error


# Trial of all of them -----------------------------------------------------------------------------


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

"""Mutants of files in a folder: how they are written, flushed and listed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.store import local_files
from orchestrator.store.store import Store
from tests.simulation.mutants.declared import Mutants
from trainers import whole_file

MUTANTS = Mutants()


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


MUTANTS.add(
    "no_fsync", "A file is renamed before its content is on the disk.",
    (whole_file, "_beside", _beside(fsync=False)),
)  # fmt: skip
MUTANTS.add(
    "fsync_of_an_empty_buffer", "fsync comes before Python's own buffer is written.",
    (whole_file, "_beside", _beside(flush=False)),
)  # fmt: skip
MUTANTS.add(
    "no_fsync_of_the_folder", "The new name is not flushed. Fault of this project until now.",
    (whole_file, "_beside", _beside(folder=False)),
)  # fmt: skip
MUTANTS.add(
    "one_half_for_all_writers", "Two writers of a file share the half-written file.",
    (whole_file, "_beside", _beside(half=".{0}.00000000.tmp")),
)  # fmt: skip
MUTANTS.add(
    "half_file_in_sight", "The half-written file has a name that readers list.",
    (whole_file, "_beside", _beside(half="{0}")),
)  # fmt: skip


@MUTANTS.mutant("A file is written in its place.", (whole_file, "write"))
def no_rename(path: Path, data: bytes) -> None:
    whole_file.make_folder(path.parent)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        whole_file.os.fsync(file.fileno())


@MUTANTS.mutant(
    "Only the last folder is flushed; its maker may have died. Fault of this project until now.",
    (whole_file, "_flush_names"),
)
def one_folder_is_flushed(path: Path) -> None:
    whole_file.flush(path.parent)


MUTANTS.add(
    "found_rows_are_not_flushed",
    "A row is found whose writer died before it flushed the name. Fault of this project until now.",
    (Store, "keep_rows", lambda _: None),
)


@MUTANTS.mutant(
    "A file whose folder goes away meanwhile is not written again.", (whole_file, "write")
)
def written_once(path: Path, data: bytes) -> None:
    with whole_file.replacing(path) as file:
        file.write(data)


@MUTANTS.mutant(
    "The folder of a store that is gone is made again.", (local_files.LocalFiles, "_look_for_root")
)
def no_look_for_the_root(self: Any) -> None: ...


@MUTANTS.mutant(
    "A failing disk raises an error that no one expects. Fault of this project until now.",
    (local_files.LocalFiles, "walk"),
)
def impatient_walk(self: Any, folder: str) -> Any:
    yield from self._below(folder)

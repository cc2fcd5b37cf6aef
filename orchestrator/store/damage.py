"""Files of tables that are damaged or foreign: each is named once and set aside.

A store is copied, synchronised and edited by hand. A file of zeros, half a file, or one that
another program wrote stops no reader: it is left out, and the next run trains again what it held.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping

from orchestrator.errors import StoreError
from orchestrator.store.files import Files
from orchestrator.store.schemas import SCHEMA_VERSION

FOLDER = "damaged"  # below the root of a store; readers do not look there
NAMED = 10  # most files to name; the others are counted

log = logging.getLogger("layerwise")


class DamagedError(Exception):
    """A file cannot be read as what its name says; the message is the flaw."""


class Damage:
    """The damaged files that one process has met in a store, with the reasons."""

    def __init__(self, files: Files):
        self.files = files
        self.foreign_named = False
        self.is_quiet = False
        """True where the caller names the files itself."""
        self.reasons: dict[str, str] = {}

    def without(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of files that are not known as damaged."""
        return [path for path in paths if path not in self.reasons]

    def note(self, table: str, flaws: Mapping[str, str]) -> None:
        """Remember the flaws of files by their paths, and name these files."""
        new = {path: flaw for path, flaw in flaws.items() if path not in self.reasons}
        self.reasons |= new
        if self.is_quiet:
            return
        for path, flaw in list(new.items())[:NAMED]:
            log.warning("%s is damaged and left out: %s", self.files.shown(path), flaw)
        if len(new) > NAMED:
            log.warning("%d more files of %s are damaged and left out", len(new) - NAMED, table)

    def name_foreign(self, folder: str, names: list[str]) -> None:
        """Name files, or copies of files, that are no rows, once. They are left out."""
        if names and not self.foreign_named and not self.is_quiet:
            self.foreign_named = True
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            log.warning(
                "%s contains files that are no rows of layerwise; they are left out: %s%s",
                self.files.shown(folder),
                ", ".join(sorted(names)[:NAMED]),
                more,
            )

    def set_aside(self) -> None:
        """Move the known damaged files to a folder that no reader looks at. Raises `StoreError`."""
        for path in list(self.reasons):
            name = path.removeprefix(f"{self.files.base}/")
            with contextlib.suppress(FileNotFoundError):  # another run was faster
                self.files.put(f"{self.files.base}/{FOLDER}/{name}", self.files.get(path))
            self.files.delete(path)
        if number := len(self.reasons):
            folder = self.files.shown(f"{self.files.base}/{FOLDER}")
            who, it = ("1 file is", "it") if number == 1 else (f"{number} files are", "they")
            log.warning("%s set aside in %s; what %s held is trained again", who, folder, it)
        self.reasons.clear()


def refuse_newer(version: int, root: str) -> None:
    """Raise `StoreError` for a file of a newer version."""
    if version > int(SCHEMA_VERSION):
        raise StoreError(
            f"store {root} was written by a newer layerwise (schema "
            f"{version}, this one knows {SCHEMA_VERSION}); upgrade layerwise"
        )

"""Names of the files in a store. `name` writes one; `parse` reads one, or gives None.

A name says what is in its file. Ids, attempts and hashes are hexadecimal: they contain no dash.
`stored` knows every path that layerwise makes in a store: nothing else is listed or removed.
"""

from __future__ import annotations

import functools
import re
from typing import Literal, NamedTuple, Self

from orchestrator.states import OUTCOMES, STUDY_OUTCOMES

HASH = 16  # hexadecimal digits of a SHA-256 in a file's name
ID = r"[0-9a-f]{16}"  # of a trial, a search or a hash
ATTEMPT = r"[0-9a-f]{8}"
SWEEP = r"[A-Za-z0-9][A-Za-z0-9_.,+=-]*"
SAFE = re.compile(SWEEP)  # a name that leads to no other folder
MARKER = "layerwise-store.json"  # written when a store is made
PAGE = "index.html"  # of a report
PICTURES = "pictures"  # folder in that of a report
FORMATS: tuple[Literal["png", "svg", "pdf"], ...] = ("png", "svg", "pdf")  # of a figure
FIGURES = (  # kinds of figures that a report has as files
    "figure2",
    "images",
    "effects_by_images",
    "cost",
    "figure3",
    "decomposition",
    "speed",
    "overfitting",
    "curves",
    "weights",
    "interpolation",
    "similarity",
    "predictors",
    "map",
    "filters",
    "search_fine_tune",
    "search_base_long",
)


class RowFile(NamedTuple):
    """`<id>-<outcome>-<attempt>-<digest>.json`: all that one attempt at a trial recorded.

    The name of another row begins with its table: `studies-<series>-<number>-complete-…`.
    """

    id: str
    outcome: str
    attempt: str
    digest: str
    table: str = "trials"

    @property
    def name(self) -> str:
        table = "" if self.table == "trials" else f"{self.table}-"
        return f"{table}{self.id}-{self.outcome}-{self.attempt}-{self.digest}.json"

    @classmethod
    @functools.lru_cache(maxsize=4096)  # readers list the same names again and again
    def parse(cls, name: str) -> Self | None:
        if match := _ROW_NAME.fullmatch(name):
            table, id, outcome, attempt, digest = match.groups()
            return cls(id, outcome, attempt, digest, table or "trials")
        return None


class CompactFile(NamedTuple):
    """`part-<token>-<digest>.parquet`: rows of many attempts. A token is never used again."""

    token: str
    digest: str

    @property
    def name(self) -> str:
        return f"part-{self.token}-{self.digest}.parquet"

    @classmethod
    @functools.lru_cache(maxsize=4096)
    def parse(cls, name: str) -> Self | None:
        match = _COMPACT_NAME.fullmatch(name)
        return cls(*match.groups()) if match else None


class RemovalFile(NamedTuple):
    """`<token>-<digest>.json`: rows that were removed, wherever they still lie."""

    token: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.token}-{self.digest}.json"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(_REMOVAL, name)
        return cls(*match.groups()) if match else None


class OldRowFile(NamedTuple):
    """`<id>.parquet`: the row of one trial, as versions before 2 of the store wrote it."""

    trial: str

    @property
    def name(self) -> str:
        return f"{self.trial}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})\.parquet", name)
        return cls(match[1]) if match else None


class AttemptFile(NamedTuple):
    """`<id>-<attempt>.parquet`: the curve or the class counts beside an `OldRowFile`."""

    trial: str
    attempt: str

    @property
    def name(self) -> str:
        return f"{self.trial}-{self.attempt}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})-({ATTEMPT})\.parquet", name)
        return cls(match[1], match[2]) if match else None


class WeightsFile(NamedTuple):
    """`<sha256>.safetensors`: final weights, named by the first digits of their hash."""

    sha256: str

    @property
    def name(self) -> str:
        return f"{self.sha256[:HASH]}.safetensors"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})\.safetensors", name)
        return cls(match[1]) if match else None


class SnapshotFile(NamedTuple):
    """`<step>-<attempt>-<sha256>.safetensors`: a snapshot; names sort by step."""

    step: int
    attempt: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.step:010d}-{self.attempt}-{self.sha256[:HASH]}.safetensors"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = _SNAPSHOT_NAME.fullmatch(name)
        return cls(int(match[1]), match[2], match[3]) if match else None


class DerivedFile(NamedTuple):
    """`<network>-<id>.parquet`: a measurement or extraction, as versions before 3 wrote it."""

    network: str
    id: str

    @property
    def name(self) -> str:
        return f"{self.network}-{self.id}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})-({ID})\.parquet", name)
        return cls(match[1], match[2]) if match else None


class FeaturesFolder(NamedTuple):
    """`<extraction>-<sha256>`: vectors of one extraction, for weights with this hash."""

    extraction: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.extraction}-{self.sha256[:HASH]}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})-({ID})", name)
        return cls(match[1], match[2]) if match else None


class PartFile(NamedTuple):
    """`<subset>-<first>.parquet`: vectors of images of one subset, from its image `first` on."""

    subset: str
    first: int

    @property
    def name(self) -> str:
        return f"{self.subset}-{self.first:09d}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(_PART, name)
        return cls(match[1], int(match[2])) if match else None


class SweepFile(NamedTuple):
    """`<name>.parquet`: the members of one sweep."""

    sweep: str

    @property
    def name(self) -> str:
        return f"{self.sweep}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({SWEEP})\.parquet", name)
        return cls(match[1]) if match else None


class LeaseFile(NamedTuple):
    """`<sweep>-<token>.json`: a run that uses the store now."""

    sweep: str
    token: str

    @property
    def name(self) -> str:
        return f"{self.sweep}-{self.token}.json"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({SWEEP})-({ID})\.json", name)
        return cls(*match.groups()) if match else None


class RunningFile(NamedTuple):
    """`<token>.json`: what one worker trains now."""

    token: str

    @property
    def name(self) -> str:
        return f"{self.token}.json"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})\.json", name)
        return cls(match[1]) if match else None


class StudyFile(NamedTuple):
    """`<series>-<number>.parquet`: a trial of a search, as versions before 3 wrote it."""

    series: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.series}-{self.number}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(rf"({ID})-(\d+)\.parquet", name)
        return cls(match[1], int(match[2])) if match else None


class FigureFile(NamedTuple):
    """`<kind>.png` or `<kind>-<group>.png`: a figure of a report; or `.svg`, or `.pdf`."""

    kind: str
    group: str = ""
    format: str = FORMATS[0]

    @property
    def name(self) -> str:
        stem = f"{self.kind}-{self.group}" if self.group else self.kind
        return f"{stem}.{self.format}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(_FIGURE, name)
        return cls(match[1], match[2] or "", match[3]) if match else None


_PART = r"(train|validation|test)-(\d{9,})\.parquet"
_ENDS = "|".join(dict.fromkeys((*OUTCOMES, *STUDY_OUTCOMES)))
_TABLE = "studies|measurements|extractions"
_ROW = rf"(?:({_TABLE})-)?({ID}(?:-\d+)?)-({_ENDS})-({ATTEMPT})-({ID})\.json"
_COMPACT = rf"part-({ID})-({ID})\.parquet"
_ROW_NAME, _COMPACT_NAME = re.compile(_ROW), re.compile(_COMPACT)
_SNAPSHOT_NAME = re.compile(rf"(\d{{10,}})-({ATTEMPT})-({ID})\.safetensors")
_REMOVAL = rf"({ID})-({ID})\.json"
_FIGURE = rf"({'|'.join(FIGURES)})(?:-([\w.=-]+))?\.({'|'.join(FORMATS)})"
_TABLES = (
    rf"rows/{_ROW}",
    rf"(trials|curves|classes|{_TABLE})/{_COMPACT}",
    rf"removed/{_REMOVAL}",
    rf"trials/({'|'.join(OUTCOMES)})/{ID}\.parquet",
    rf"(curves|classes)/{ID}-{ATTEMPT}\.parquet",
    rf"sweeps/{SWEEP}\.parquet",
    rf"studies/{ID}-\d+\.parquet",
    rf"(measurements|extractions)/{ID}-{ID}\.parquet",
)
_GRAMMAR = re.compile(
    "|".join(
        (
            *(rf"(damaged/)?{pattern}" for pattern in _TABLES),
            rf"checkpoints/{ID}/{ID}\.safetensors",
            rf"features/{ID}-{ID}/{_PART}",
            rf"progress/{ID}/\d{{10,}}-{ATTEMPT}-{ID}\.safetensors",
            rf"leases/{SWEEP}-{ID}\.json",
            rf"running/{ID}\.json",
            rf"reports/{SWEEP}(/[a-z0-9_]+)?/({re.escape(PAGE)}|{_FIGURE})",
            re.escape(MARKER),
        )
    )
)
_HALF = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")  # as `trainers.whole_file` names them


def is_half(path: str) -> bool:
    """Return whether a path names a file that is not finished."""
    return bool(_HALF.fullmatch(path.rpartition("/")[2]))


def ids(path: str) -> set[str]:
    """Return the ids of trials and searches, and the hashes, in a path."""
    return set(re.findall(rf"(?<![0-9a-f]){ID}(?![0-9a-f])", path))


def stored(path: str) -> bool:
    """Return whether layerwise makes files at a path, which is relative to the store's root.

    The file beside a file, in which it is written, counts as well.
    """
    folder, slash, name = path.rpartition("/")
    if half := _HALF.fullmatch(name):
        name = half[1]
    return bool(_GRAMMAR.fullmatch(f"{folder}{slash}{name}"))

"""Names of the files in a store. `name` writes one; `parse` reads one, or gives None.

A name says what is in its file. Ids, attempts and hashes are hexadecimal: they contain no dash.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

HASH = 16  # hexadecimal digits of a SHA-256 in a file's name


class RowFile(NamedTuple):
    """`<id>.parquet`: the row of one trial."""

    trial: str

    @property
    def name(self) -> str:
        return f"{self.trial}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"(.+)\.parquet", name)
        return cls(match[1]) if match else None


class AttemptFile(NamedTuple):
    """`<id>-<attempt>.parquet`: the curve or the class counts of one attempt."""

    trial: str
    attempt: str

    @property
    def name(self) -> str:
        return f"{self.trial}-{self.attempt}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"([^-]+)-([^-]+)\.parquet", name)
        return cls(match[1], match[2]) if match else None


class WeightsFile(NamedTuple):
    """`<sha256>.safetensors`: final weights, named by the first digits of their hash."""

    sha256: str

    @property
    def name(self) -> str:
        return f"{self.sha256[:HASH]}.safetensors"


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
        match = re.fullmatch(r"(\d+)-([^-]+)-([^-]+)\.safetensors", name)
        return cls(int(match[1]), match[2], match[3]) if match else None


class SweepFile(NamedTuple):
    """`<name>.parquet`: the members of one sweep."""

    sweep: str

    @property
    def name(self) -> str:
        return f"{self.sweep}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"(.+)\.parquet", name)
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
        match = re.fullmatch(r"(.+)-([0-9a-f]+)\.json", name)
        return cls(*match.groups()) if match else None


class StudyFile(NamedTuple):
    """`<series>-<number>.parquet`: one trial of a search."""

    series: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.series}-{self.number}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"(.+)-(\d+)\.parquet", name)
        return cls(match[1], int(match[2])) if match else None

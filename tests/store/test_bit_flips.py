"""One flipped bit in any file of a store never gives another number: it is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store import kinds, parts, removals, row_files, table_files
from orchestrator.store.compaction import compact
from orchestrator.store.damage import DamagedError
from orchestrator.store.names import CompactFile, RemovalFile, RowFile
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from tests.stores import to_version_2
from trainers.checkpoint import CheckpointError

ID, ATTEMPT = "0123456789abcdef", "aaaaaaaa"
MOST = 2500  # bits to flip in a file; of a smaller file all bits

Read = Callable[[], Any]


def blank(table: str) -> dict[str, Any]:
    return dict.fromkeys(SCHEMAS[table].names)


def fill(store: Store) -> None:
    row = blank("trials") | {"id": ID, "attempt": ATTEMPT, "outcome": "complete", "top1": 0.5}
    key = {"id": ID, "attempt": ATTEMPT}
    curve = [blank("curves") | key | {"step": step, "val_top1": step / 7} for step in range(9)]
    counts = [blank("classes") | key | {"class_index": 1, "correct": 3}]
    store.write_row(row, curve, counts)
    store.write_sweep("mine", [blank("sweeps") | {"id": ID}], "name: mine\n")
    store.write_study_trial(blank("studies") | {"series": ID, "number": 1, "state": "complete"})
    for table in ("measurements", "extractions"):
        row = blank(table) | {"trial": ID, "id": ID, "outcome": "complete"}
        store.write_derived(table, [row, row] if table == "measurements" else [row])
    store.put_progress(ID, ATTEMPT, 5, b"snapshot")
    store.sha256 = store.put_checkpoint(ID, b"weights")  # type: ignore[attr-defined]


def of_kind(kind: str, store: Store) -> tuple[Path, Read]:
    """Return a file of a kind, and a function that reads it or raises."""
    if kind in PARTS:
        compact(store)
        [name] = store.names(kind)
        file = CompactFile.parse(name)
        assert file
        return Path(store.path(kind, name)), lambda: parts.read(store.files, kind, file)
    if kind == "removed":
        removals.write(store.files, [(ID, ATTEMPT)])
    if kind.startswith("old "):
        to_version_2(store)
        kind = kind.removeprefix("old ")
    folder = {"checkpoints": (kind, ID), "progress": (kind, ID)}.get(kind, (kind,))
    table, _, start = kind.partition(" of ")
    folder = (table,) if start else folder
    [name] = [name for name in store.names(*folder) if name.startswith(start)]
    path = store.path(*folder, name)

    def read() -> Any:
        match table:
            case "rows":
                row = RowFile.parse(name)
                assert row
                tables = kinds.MAIN[row.table].tables
                return row_files.decode(row, store.get(path), store.root, tables)
            case "removed":
                removal = RemovalFile.parse(name)
                assert removal
                return removals.read(store.files, removal)
            case "checkpoints":
                return store.get_checkpoint(ID, store.sha256)  # type: ignore[attr-defined]
            case "progress":
                return next(store.progress(ID))
        return table_files.decode(kind, store.get(path), store.root)

    return Path(path), read


def flipped(data: bytes) -> Iterator[bytes]:
    """Yield the data with one bit flipped: each in turn, or `MOST` of them at equal distances."""
    bits = len(data) * 8
    for number in range(min(bits, MOST)):
        bit = number * bits // min(bits, MOST)
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        yield bytes(spoilt)


ROWS = [f"rows of {start}" for start in (ID, "studies", "measurements", "extractions")]
PARTS = [table for kind in kinds.KINDS for table in kind.tables]
OLD = [f"old {kind.main}" for kind in kinds.KINDS[1:]]


@pytest.mark.parametrize(
    "kind", [*ROWS, *PARTS, *OLD, "removed", "sweeps", "checkpoints", "progress"]
)
def test_a_flipped_bit_is_noticed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    fill(store)
    path, read = of_kind(kind, store)
    sound, data = read(), path.read_bytes()
    assert sound
    silent = 0
    content = [data]
    monkeypatch.setattr(type(store.files), "get", lambda *_: content[0])
    for spoilt in flipped(data):
        content[0] = spoilt
        try:
            silent += read() != sound
        except (DamagedError, CheckpointError, StoreError, StopIteration):
            continue
        raise AssertionError("a flipped bit went unnoticed")
    assert silent == 0
    for spoilt in (b"", data[:-1], data + b"\n", data[:90] + b"xx" + data[90:]):
        content[0] = spoilt
        with pytest.raises((DamagedError, CheckpointError, StopIteration)):
            read()
    content[0] = data
    assert read() == sound


@pytest.mark.parametrize("text", ["0" * 64, "layerwise_sha256" + "0" * 64])
def test_a_text_like_a_seal_does_not_break_it(text: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.write_sweep("mine", [blank("sweeps") | {"id": ID, "name": text}], text)
    assert store.members("mine")["name"].to_pylist() == [text]
    assert store.sweep_record("mine").text == text

"""Tables and views, with their columns."""

from __future__ import annotations

from typing import Any


def tables() -> str:
    """Return the columns of every table that the store holds as files."""
    from orchestrator.store.schemas import SCHEMAS

    return "\n\n".join(f"### `{name}`\n\n{columns(schema)}" for name, schema in SCHEMAS.items())


def views() -> str:
    """Return the columns of every view that only `layerwise query` knows."""
    from orchestrator.report.query import VIEWS
    from orchestrator.store.schemas import SCHEMAS

    parts = []
    for name, (schema, _) in VIEWS.items():
        if name in SCHEMAS:
            continue
        twin = next((t for t, s in SCHEMAS.items() if s.names == schema.names), None)
        known = f"The columns of [`{twin}`](#{twin})." if twin else columns(schema)
        parts.append(f"### `{name}`\n\n{known}")
    return "\n\n".join(parts)


def all_tables() -> dict[str, Any]:
    """Return the schemas of all tables and views."""
    from orchestrator.report.query import VIEWS

    return {name: schema for name, (schema, _) in VIEWS.items()}


def columns(schema: Any) -> str:
    """Return a table of columns: name, type, meaning. Result columns are marked where known."""
    marked = any(b"result" in (field.metadata or {}) for field in schema)
    rows = ["| column | type | meaning |", "|---|---|---|"]
    for field in schema:
        metadata = field.metadata or {}
        result = " **R**" if marked and metadata.get(b"result") == b"true" else ""
        text = metadata[b"description"].decode().replace("|", r"\|")
        rows.append(f"| `{field.name}` | {field.type}{result} | {text} |")
    return "\n".join(rows)

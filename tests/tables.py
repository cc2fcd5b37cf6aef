"""Tables that a terminal shows, read back as the texts of their cells."""

from __future__ import annotations

import re


def cells(text: str) -> list[list[str]]:
    """Return the texts of a table's cells, row by row, the header first; without borders."""
    rows = (re.split("[\u2502\u2503]", line) for line in text.splitlines())
    return [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) > 2]


def outside(text: str) -> list[str]:
    """Return the lines that belong to no table."""
    return [line for line in text.splitlines() if not re.match("[\u2500-\u257f]", line)]

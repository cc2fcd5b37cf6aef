"""Report: results for a reader, as an HTML page, in a terminal and through SQL.

May import `execution`, `reference` and the rooms below them. Owner of Altair (`charts`,
`rendering`), jinja2 (`templates`), DuckDB (`query`, `export`), rich, and the trackers of other
programs (`trackers`).
"""

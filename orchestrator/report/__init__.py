"""Report: results for a reader, as an HTML page, in a terminal and through SQL.

May import every room but `cli` and `cluster`. Altair is imported by `charts` only, jinja2 by
`templates` only, DuckDB by `query` only, rich by this room only.
"""

"""Reports: where their pages lie, and a page as a notebook shows it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import StoreError
from orchestrator.margin import MARGIN_POINTS

if TYPE_CHECKING:
    from orchestrator.stats.statistics import Statistics
    from orchestrator.store.store import Store


class Page:
    """A page that is written: its path, and a view of it in a notebook."""

    def __init__(self, path: Path):
        self.path = path

    def __repr__(self) -> str:
        return f"<Page {self.path}>"

    def _repr_html_(self) -> str:
        text = escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = "width:100%;height:80vh;border:1px solid #ccc"
        return f'<iframe srcdoc="{text}" style="{style}" title="report"></iframe>'


def write_report_of(
    store: Store, sweep: str, statistics: Statistics, margin: float = MARGIN_POINTS
) -> Path:
    """Write the report of a sweep, and return the path of its page. `margin` is in points.

    The report by a metric that was chosen lies in a folder of its own beside the primary one.
    """
    from orchestrator.report.page import write_report

    folder = report_folder(store, sweep, statistics.metric or "")
    return write_report(store, sweep, folder, statistics, margin / 100)


def report_folder(store: Store, sweep: str, part: str = "") -> Path:
    """Return the folder of a sweep's report, or of a part of it. Raises `StoreError` for a link.

    A browser reads no bucket: the report of a remote store is written to the working folder.
    """
    reports = (Path() if store.is_remote else Path(store.root)) / "reports"
    folder = reports / sweep / part
    for place in (reports, reports / sweep, folder):
        if place.is_symlink():
            raise StoreError(f"{place} is a link: no report is written through it; remove the link")
    return folder

"""Parts of the pages that are generated from the code, so that they cannot disagree with it.

A page asks for a part by a comment of its own line, `<!-- generated: fields Recipe -->`. The
functions of `PARTS` return Markdown; those of `generated_parts` are found because mkdocs adds the
folder of a hook to `sys.path`. Documents of the repository's root become pages here, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generated_parts import commands, components, fields, project, tables

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"^<!-- generated: (\S+)(?: (.+?))? -->$", re.MULTILINE)

# Pages that are documents of the repository: page → path from the root.
DOCUMENTS = {
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}

PARTS: dict[str, Callable[..., str]] = {
    "fields": fields.fields,
    "datasets": components.datasets,
    "networks": components.networks,
    "commands": commands.commands,
    "tables": tables.tables,
    "views": tables.views,
    "directions": project.directions,
    "files": project.files,
    "identity": project.identity,
    "names": project.names,
    "source": project.source,
}


def expand(markdown: str) -> str:
    """Return a page with its generated parts in place of their markers."""

    def part(match: re.Match[str]) -> str:
        return PARTS[match[1]](*(match[2] or "").split())

    return MARKER.sub(part, markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the documents of the repository's root to the pages."""
    from mkdocs.structure.files import File

    for page, path in DOCUMENTS.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Expand a page; its links to documents of the root become links to their pages."""
    if page.file.src_uri in DOCUMENTS:
        return site_links(markdown, (ROOT / DOCUMENTS[page.file.src_uri]).parent)
    return site_links(expand(markdown), ROOT / "docs")


def site_links(markdown: str, folder: Path) -> str:
    """Return Markdown whose links to files of the repository point to pages, or are plain code."""
    pages = {ROOT / path: page for page, path in DOCUMENTS.items()}
    pages[ROOT / "README.md"] = "index.md"

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = (folder / target).resolve()
        if path in pages:
            return f"[{text}]({pages[path]}{anchor or ''})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{text}]({path.relative_to(ROOT / 'docs')}{anchor or ''})"
        return text if "`" in text else f"`{path.relative_to(ROOT)}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)", link, markdown)

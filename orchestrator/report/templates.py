"""Templates of pages, and the style sheet that all of them have."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

STYLE = "style.css"


def template(name: str, package: str = __package__) -> jinja2.Template:
    """Return a template of a package. What it is given is escaped; an unknown name is an error."""
    import jinja2

    def source(file: str) -> str:
        return files(package).joinpath(file).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(source),
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": True}
    return environment.get_template(name)


def style() -> str:
    """Return the style sheet of the report."""
    return files(__package__).joinpath(STYLE).read_text(encoding="utf-8")

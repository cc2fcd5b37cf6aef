"""The command line. Every command is thin: it reads its arguments, asks, prints the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from orchestrator.cli import asking, making, running
from orchestrator.errors import LayerwiseError, SweepError

MISTAKE = 2

app = typer.Typer(
    help="How transferable are the features of each layer of a network?",
    epilog="Start with: layerwise run digits",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: list[tuple[Callable[..., None], str]] = [  # in the order of the help, with examples
    (making.init, "Example: layerwise init mine.yaml"),
    (making.check, "Example: layerwise check mine.yaml"),
    (
        asking.plan,
        "Examples: layerwise plan digits --json; layerwise plan mine.yaml --device k20",
    ),
    (asking.splits, "Example: layerwise splits digits --json"),
    (
        running.run,
        "Examples: layerwise run digits; layerwise run mine.yaml --set recipe.steps=100 "
        "--only 'treatment=transfer and n=3'; layerwise run mine.yaml --address auto",
    ),
    (
        running.search,
        "Examples: layerwise search digits_search; "
        "layerwise search digits_search --export study.db; optuna-dashboard sqlite:///study.db",
    ),
    (asking.status, "Examples: layerwise status digits; layerwise status digits --follow"),
    (
        asking.query,
        'Example: layerwise query "SELECT treatment, n, avg(top1) FROM trials GROUP BY ALL '
        'ORDER BY ALL"; tables: trials, curves, classes, sweeps, effects, levels, speed, speeds, '
        "table1, studies, held_out, paper, paper_curves",
    ),
    (
        asking.reference,
        "Examples: layerwise reference --csv; layerwise reference table1; "
        "layerwise reference figure3 --json",
    ),
    (asking.report, "Example: layerwise report digits"),
    (running.debug, "Example: layerwise debug digits 'A3B+ s2'"),
    (
        making.pack,
        "Examples: layerwise pack imagenet --root /data/ilsvrc; layerwise pack mine.yaml; "
        "layerwise pack imagenet --root /data/ilsvrc --verify",
    ),
    (making.clean, "Example: layerwise clean --failed"),
]
for command, examples in COMMANDS:
    app.command(epilog=examples)(command)


def main(arguments: list[str] | None = None) -> Any:
    """The entry point: a user's mistake is one line a mistake on standard error and exit code 2."""
    try:
        return app(arguments)
    except LayerwiseError as error:
        prefix = "" if isinstance(error, SweepError) else "layerwise: "  # it names its file itself
        typer.echo(f"{prefix}{error}", err=True)
        sys.exit(MISTAKE)

"""The commands. Each is thin: it reads its arguments, calls another room, prints the answer.

Imports every room, and typer. Heavy libraries are imported inside functions, so that
`layerwise --help` answers in under half a second.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from orchestrator.cli import comparison, data, results, run, store, sweeps, watch
from orchestrator.cli.surroundings import echo, settle
from orchestrator.errors import LayerwiseError, SweepError
from orchestrator.signals import DRAINED, INTERRUPTED, Drained

MISTAKE = 2  # exit code after a mistake of the user

app = typer.Typer(
    help="How transferable are the features of each layer of a network?",
    epilog="Start with: layerwise run digits",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The commands in the order of the help, with their examples.
COMMANDS: list[tuple[Callable[..., None], str]] = [
    (sweeps.init, "Example: layerwise init mine.yaml"),
    (sweeps.check, "Example: layerwise check mine.yaml"),
    (
        sweeps.plan,
        "Examples: layerwise plan digits --json; layerwise plan mine.yaml --device k20",
    ),
    (sweeps.splits, "Example: layerwise splits digits --json"),
    (
        run.run,
        "Examples: layerwise run digits; layerwise run mine.yaml --set recipe.steps=100 "
        "--only \"treatment = 'transfer' AND n = 3\"; layerwise run mine.yaml --address auto",
    ),
    (
        run.search,
        "Examples: layerwise search digits_search; "
        "layerwise search digits_search --export study.db; optuna-dashboard sqlite:///study.db",
    ),
    (results.status, "Examples: layerwise status digits; layerwise status digits --follow"),
    (
        watch.watch,
        "Examples: layerwise watch digits --open; "
        "layerwise watch --store s3://bucket/prefix --port 8901",
    ),
    (results.ls, "Examples: layerwise ls --json; layerwise ls"),
    (
        results.query,
        'Example: layerwise query "SELECT treatment, n, avg(top1) FROM results '
        "WHERE sweep = 'digits' GROUP BY ALL ORDER BY ALL\"; tables: results, trials, curves, "
        "classes, sweeps, effects, levels, decomposition, class_effects, failures, cost, table1, "
        "speed, speeds, overtaking, studies, measurements, extractions, comparisons, "
        "predictions, held_out, paper, paper_curves",
    ),
    (
        results.reference,
        "Examples: layerwise reference --csv; layerwise reference table1; "
        "layerwise reference figure3 --json",
    ),
    (results.report, "Example: layerwise report digits"),
    (
        results.advise,
        "Examples: layerwise advise digits; layerwise advise digits --margin 3 --json",
    ),
    (
        comparison.compare,
        "Examples: layerwise compare digits digits+recipe.steps=100; "
        "layerwise compare digits paper --relative",
    ),
    (comparison.explain, "Example: layerwise explain 'A3B+ s2' --sweep digits"),
    (
        results.export,
        "Examples: layerwise export weights 'A s2' digits.safetensors --sweep digits; "
        "layerwise export duckdb digits.duckdb --sweep digits; layerwise export csv tables",
    ),
    (
        run.debug,
        "Examples: layerwise debug digits 'A3B+ s2'; layerwise debug digits 'A3B+ s2' --pdb",
    ),
    (
        data.pack,
        "Examples: layerwise pack imagenet --root /data/ilsvrc; layerwise pack mine.yaml; "
        "layerwise pack imagenet --root /data/ilsvrc --verify",
    ),
    (
        data.features,
        "Example: layerwise features digits 'A s2' --layer 3 --layer 5 --to features",
    ),
    (
        data.pictures,
        "Example: layerwise pictures digits 'A s2' 'R3A s2' --layer 3 --to pictures",
    ),
    (
        store.clean,
        "Examples: layerwise clean --failed; layerwise clean --sweep digits --yes",
    ),
    (store.compact, "Example: layerwise compact --store results"),
    (store.verify, "Example: layerwise verify --store results"),
]


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Let a signal end a command with its exit code, and not with that of typer."""

    @functools.wraps(command)
    def ended(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Drained:
            raise typer.Exit(DRAINED) from None

    return ended


for command, examples in COMMANDS:
    app.command(epilog=examples)(with_exit_codes(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        from orchestrator.execution.provenance import layerwise_commit

        commit = layerwise_commit()
        echo(f"layerwise {metadata.version('layerwise')}{f' ({commit})' if commit else ''}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show version and commit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """How transferable are the features of each layer of a network?"""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line. A user's mistakes are lines on standard error and exit code 2."""
    settle()
    gc.set_threshold(200_000, 50, 100)  # plans are millions of objects that stay
    try:
        return app(arguments)
    except LayerwiseError as error:
        prefix = "" if isinstance(error, SweepError) else "layerwise: "  # its lines name the file
        echo(f"{prefix}{error}", err=True)
        sys.exit(MISTAKE)

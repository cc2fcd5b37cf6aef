"""Commands, with their arguments and options."""

from __future__ import annotations

import inspect
from typing import Any


def commands() -> str:
    """Return every command with its help, arguments and options."""
    import typer.main

    from orchestrator.cli import app

    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts += [f"## {name}", inspect.cleandoc(command.help or "")]
        parts.append(f"```text\nlayerwise {name} {' '.join(usage(command))}\n```")
        rows = [
            f"| {' '.join(f'`{text}`' for text in named(parameter))} | {meaning(parameter)} |"
            for parameter in command.params
            if parameter.name != "help" and getattr(parameter, "help", None)
        ]
        if rows:
            parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def usage(command: Any) -> list[str]:
    return [
        p.metavar or p.name.upper() if p.required else f"[{p.metavar or p.name.upper()}]"
        for p in command.params
        if p.param_type_name == "argument"
    ] + ["[OPTIONS]"]


def named(parameter: Any) -> list[str]:
    is_argument = parameter.param_type_name == "argument"
    return [parameter.metavar or parameter.name.upper()] if is_argument else parameter.opts


def meaning(parameter: Any) -> str:
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return parameter.help.replace("|", r"\|") + variable

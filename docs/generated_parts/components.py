"""Datasets and networks, with their options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from generated_parts.fields import descriptions
from generated_parts.words import type_words, yaml_value


def component(
    name: str,
    function: Callable[..., Any],
    given: tuple[str, ...] = (),
    options: type | None = None,
) -> str:
    """Return the description of a dataset or a network and a table of its options.

    Its function takes the options as keywords unless there is a class of them.
    """
    text, texts = described(inspect.getdoc(function) or "")
    if options:
        below, _ = descriptions(options)
        texts = {option: in_a_cell(words) for option, words in below.items()}
    rows = [["option", "type", "default", "meaning"], ["---"] * 4]
    declared = inspect.signature(options or function, eval_str=True).parameters
    for option, parameter in declared.items():
        if option not in given and parameter.kind is parameter.KEYWORD_ONLY:
            default = "none" if parameter.default is None else f"`{yaml_value(parameter.default)}`"
            words = type_words(parameter.annotation)
            rows.append([f"`{option}`", words, default, texts.get(option, "")])
    if not texts:
        rows = [row[:-1] for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### `{name}`\n\n{text}\n\n{table if len(rows) > 2 else 'It takes no options.'}"


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring for users of a sweep file, and its section `Options:` by option.

    Users see no function that returns or raises something, so those words are left out.
    """
    text, _, section = docstring.partition("\nOptions:\n")
    section, _, rest = section.partition("\n\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    texts = {option: in_a_cell(words) for option, words in entries}
    text = re.sub(r"\s*\bRaises (?:[^.]|\.(?!\s|$))*\.", "", f"{text}\n\n{rest}").strip()
    text = re.sub(r"^Return (?:the )?", "", text.replace("the folder of `place`", "its folder"))
    return text[:1].upper() + text[1:], texts


def in_a_cell(text: str) -> str:
    """Return a text as one line in a cell of a table."""
    return " ".join(text.split()).replace("|", r"\|")


def datasets() -> str:
    """Return every dataset with its description and its options."""
    from trainers.datasets import DATASETS

    return "\n\n".join(
        component(name, kind.load, options=kind.options) for name, kind in DATASETS.items()
    )


def networks() -> str:
    """Return every network of the project's own with its description and its options."""
    from trainers.networks import NETWORKS
    from trainers.own_code import GIVEN

    return "\n\n".join(component(name, build, GIVEN) for name, build in NETWORKS.items())

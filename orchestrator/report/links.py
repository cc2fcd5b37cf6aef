"""Sentences whose numbers are links to the query that gives them."""

from __future__ import annotations

import re
from html import escape

from orchestrator.report.sentences import Sentence

# A number with a fraction is measured. So is a whole number that counts networks, splits or steps;
# others are numbers of layers, or part of a name.
COUNT = r"(?<![-\w.,])(?<!n = )\d[\d,]*"
NUMBER = re.compile(
    r"[+−]?\d[\d,]*\.\d+"
    rf"|{COUNT}(?= (?:networks?|splits?|draws?)\b)"
    rf"|{COUNT}(?= (?:to \d[\d,]* )?\()"
    rf"|{COUNT}(?= of \d)"
    r"|(?<=\d of )\d[\d,]*"
)


def linked(sentence: str, suffix: str) -> str:
    """Return a sentence as HTML; `suffix` tells the queries of a group from those of others.

    Only a `Sentence` with a query has links. Numbers of layers stay on one line with their n.
    """
    query = getattr(sentence, "query", "")
    parts, at = [], 0
    for match in NUMBER.finditer(sentence) if query and isinstance(sentence, Sentence) else ():
        parts += [escape(sentence[at : match.start()])]
        parts += [f'<a href="#query-{escape(query + suffix, quote=True)}">{match[0]}</a>']
        at = match.end()
    return "".join([*parts, escape(sentence[at:])]).replace("n = ", "n\u00a0=\u00a0")

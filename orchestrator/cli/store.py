"""Commands on a store as a whole: compaction and verification."""

from __future__ import annotations

import typer

from orchestrator.cli.arguments import RESULTS, StoreOption, open_store
from orchestrator.cli.surroundings import echo


def compact(store: StoreOption = RESULTS) -> None:
    """Move the rows of trials to a few Parquet files. Runs do so by themselves."""
    from orchestrator.report.wording import count
    from orchestrator.store.compaction import compact as compacted
    from orchestrator.store.ownership import require_own

    opened = open_store(store, must_exist=True)
    require_own(opened.files)
    opened.make()
    done = compacted(opened.trials)
    if done.written:
        echo(
            f"{count(done.trials, 'trial')} in {count(done.written, 'part')}; "
            f"{count(done.deleted, 'file')} removed"
        )
    else:
        echo("nothing to compact")


def verify(store: StoreOption = RESULTS) -> None:
    """Compare every file of the store with its checksum.

    For each problem, the command says how to mend it.
    """
    from orchestrator.report.wording import count
    from orchestrator.store.verification import Verification

    verification = Verification(open_store(store, must_exist=True))
    number = 0
    for problem in verification.problems():
        number += not problem.is_needless
        echo(f"{problem.path}: {problem.flaw}; {problem.remedy}")
    done = verification.done
    wrong = count(number, "problem") if number else "no problem"
    echo(f"{count(done.trials, 'trial')}, {count(done.files, 'file')}: {wrong}")
    if number:
        raise typer.Exit(1)

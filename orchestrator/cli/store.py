"""Commands on a store as a whole: cleaning, compaction and verification."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from orchestrator.cli.arguments import RESULTS, StoreOption, open_store
from orchestrator.cli.surroundings import echo


def clean(
    store: StoreOption = RESULTS,
    failed: Annotated[
        bool, typer.Option("--failed", help="Remove failed, lost and skipped trials too.")
    ] = False,
    sweep: Annotated[
        str | None, typer.Option(help="Remove this sweep too, and the trials that only it has.")
    ] = None,
    unowned: Annotated[
        bool, typer.Option("--unowned", help="Remove complete trials of no sweep too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List files that nothing needs, ask, and remove them.

    These are files that no row names, and reports of sweeps that are gone.
    """
    from orchestrator.report.overview import unowned_line, unowned_summary
    from orchestrator.report.wording import count
    from orchestrator.store.cleanup import Choice, Cleaner, Waste

    opened = open_store(store, must_exist=True)
    cleaner = Cleaner(opened, Choice(failed=failed, sweep=sweep, unowned=unowned))
    if not (sweep or unowned) and (line := unowned_line(unowned_summary(cleaner.survey))):
        echo(line)
    for link in cleaner.survey.links:
        echo(f"{link} is a link: it stays, and what lies behind it")
    if unclear := cleaner.survey.unclear:
        echo(
            f"{count(len(unclear), 'row')} cannot be read: the files of these trials stay, and "
            "`layerwise run` trains them again"
        )
    for lease in cleaner.survey.used:
        echo(
            f"a run of {lease.sweep} uses the store ({lease.host}, process {lease.pid}): "
            "its trials and what is newer than its start stay"
        )
    waste = cleaner.waste

    def say_size(items: Iterable[Waste], of: str = "") -> None:
        paths = [item.path for item in items]
        echo(f"{count(len(paths), 'file')}, {opened.size(paths) / 1e6:.1f} MB{of}")

    for reason in dict.fromkeys(item.reason for item in waste):
        say_size([item for item in waste if item.reason == reason], f": {reason}")
    for item in waste:
        echo(f"{opened.files.shown(item.path)}  ({item.reason})")
    say_size(waste)
    if waste and (yes or typer.confirm("remove them?")):
        removed = cleaner.remove(waste)
        needed = len(waste) - removed
        stay = f"; {count(needed, 'file')} came into use meanwhile and stay" if needed else ""
        echo(f"removed {count(removed, 'file')}{stay}")


def compact(store: StoreOption = RESULTS) -> None:
    """Move rows of trials, searches and measurements to few files. Runs do so by themselves."""
    from orchestrator.report.wording import count
    from orchestrator.store.compaction import compact as compacted
    from orchestrator.store.ownership import require_own

    opened = open_store(store, must_exist=True)
    require_own(opened.files)
    opened.make()
    done = compacted(opened)
    if done.written:
        copied = ", ".join(count(number, noun) for noun, number in done.copied.items())
        echo(f"{copied} in {count(done.written, 'part')}; {count(done.deleted, 'file')} removed")
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

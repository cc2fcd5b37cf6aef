"""Find a trial of a plan by its name or the beginning of its id. Pure."""

from __future__ import annotations

from orchestrator.errors import LayerwiseError
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial

MOST = 5  # names in a message


def find(plan: Plan, text: str) -> Trial:
    """Return the trial with this name or beginning of an id. Raises `LayerwiseError`."""
    named = list({trial.id: trial for trial in plan.members if trial.name == text}.values())
    begun = [trial for id, trial in plan.trials.items() if id.startswith(text)]
    if trials := named or begun:
        if len(trials) == 1:
            return trials[0]
        raise LayerwiseError(f"{text!r} matches {len(trials)} ids; give more digits")
    names = [trial.name for trial in plan.members]
    longer = [name for name in names if name.startswith(text)]
    some = ", ".join(map(repr, longer[:MOST] or names[:: max(1, len(names) // MOST)]))
    raise LayerwiseError(
        f"no trial {text!r} in sweep {plan.sweep.name}; expected an id or a name: {some}"
    )

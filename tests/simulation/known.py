"""Dangers that are known by name: each is a scenario, with what must hold beside equal tables.

Some of them were faults of this project once; `mutants` brings these back.
"""

from __future__ import annotations

from tests.simulation.dangers import damage, others, packs, stores, workers
from tests.simulation.scene import outcome_of
from tests.simulation.staging import Scenario
from tests.simulation.training import LANES

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        workers.nothing,
        workers.drained,
        workers.node_leaves,
        workers.three_deaths,
        workers.late_death,
        workers.dies_before_the_row,
        workers.four_deaths,
        workers.lost_nodes,
        workers.no_memory,
        workers.woken,
        workers.woken_and_trained_on,
        damage.damaged_snapshot,
        damage.damaged_weights,
        damage.gone_weights,
        damage.damaged_later,
        damage.gone_later,
        stores.short_of_disk,
        stores.full_disk,
        stores.cut_off,
        stores.driver_cut_off,
        stores.refused,
        others.cleaned,
        others.cleaned_at_each_row,
        others.cleaned_by_a_slow_one,
        others.cleaned_while_frozen,
        others.read_meanwhile,
        damage.damaged_rows,
        damage.damaged_while_it_opens,
        damage.damaged_group,
        damage.damaged_between_runs,
        damage.record_goes,
        workers.two_drivers,
        workers.failing,
        stores.cut_uploads,
        damage.damaged_cache,
        workers.killed_driver,
        stores.power_losses,
        stores.maker_dies,
        stores.writer_dies,
        stores.writer_and_driver_die,
        workers.several_drivers,
        stores.folder_goes,
        stores.store_goes,
        stores.broken_disk,
        packs.pack_dies,
        packs.pack_without_memory,
        packs.pack_fails,
    )
}
VARIANTS = {
    "folder": ("folder", 1),
    "s3": ("s3", 1),
    "packs": ("folder", LANES),
    "packs_s3": ("s3", LANES),
}
"""Kind of store, and lanes of the sweep."""

ALONE = {"no_memory", "damaged_between_runs"}  # of trials that are trained alone


def variants(name: str) -> list[str]:
    """Return the variants in which a scenario is tried."""
    of_packs = {pack for pack, (_, lanes) in VARIANTS.items() if lanes > 1}
    if name in ALONE:
        return [variant for variant in VARIANTS if variant not in of_packs]
    if name.startswith("pack_"):
        return [variant for variant in VARIANTS if variant in of_packs]
    return list(VARIANTS)


def problems_of(name: str, variant: str) -> list[str]:
    """Carry out a scenario, and return its problems."""
    kind, lanes = VARIANTS[variant]
    return outcome_of(f"known {name}", kind, SCENARIOS[name], lanes)[0]

"""Dangers that are known by name: each is a scenario, with what must hold beside equal tables.

Some of them were faults of this project once; `mutants.py` brings these back.
"""

from __future__ import annotations

from tests.simulation.dangers import damage, others, stores, workers
from tests.simulation.staging import Scenario

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
        workers.several_drivers,
        stores.folder_goes,
        stores.store_goes,
        stores.broken_disk,
    )
}

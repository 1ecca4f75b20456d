"""The run's seed reaches whatever draws."""

from __future__ import annotations

from dataclasses import replace

from amc.pipeline.families import FilterFamily
from amc.structure import Allocation


def test_the_seed_reaches_the_sampling_of_the_last_refit(workshop, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        "amc.pruning.recovery.registry.reconstruct", lambda *arguments, **options: seeds.append(arguments[5].seed)
    )
    family = FilterFamily(replace(workshop.task, seed=7))
    decision = workshop.task.problem.decisions[0]
    family.prune(Allocation("filter", {decision.name: decision.size - 1}))
    assert seeds == [7]

"""The run's seed reaches whatever draws."""

from __future__ import annotations

from dataclasses import replace

from amc.pipeline.families import FilterFamily
from amc.pruning.recovery.reconstruction import Reconstruction
from amc.structure import Allocation


def test_the_seed_reaches_the_sampling_of_the_last_refit(workshop, monkeypatch):
    seeds = []
    plan = Reconstruction.plan

    def noted(*given, **named):
        seeds.append(given[5].seed)
        return plan(*given, **named)

    monkeypatch.setattr(Reconstruction, "plan", noted)
    family = FilterFamily(replace(workshop.task, seed=7))
    decision = workshop.task.problem.decisions[0]
    family.prune(Allocation("filter", {decision.name: decision.size - 1}))
    assert seeds == [7]

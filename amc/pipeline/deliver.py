"""From an allocation to a finished network: prune, refit, fine-tune, measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from amc.cluster import OpenExecutor
from amc.costs.metrics import METRICS
from amc.pipeline.acceptance import Acceptance, AcceptanceRecord, accept, notes_of
from amc.pipeline.by_class import Tested
from amc.pipeline.families import Family, create_family
from amc.pipeline.measuring import measure_on_test
from amc.pipeline.recalled import recalled
from amc.pipeline.recorder import Recorder
from amc.pipeline.rounds import Carried, carry_out
from amc.pipeline.spread_evaluator import CandidateReplica, SpreadEvaluator
from amc.pipeline.task import Task
from amc.problem.effective import effective_costs
from amc.problem.evaluator import Evaluator
from amc.pruning.dead_channels import without_dead_channels
from amc.runtime import device_of
from amc.runtime.call import move, on_device
from amc.runtime.many_inputs import as_inputs
from amc.structure import Allocation


@dataclass(frozen=True)
class Delivered:
    """A finished network and its figures.

    Attributes:
        name: Who chose the allocation.
        allocation: What is kept.
        model: The network, in evaluation mode on the CPU.
        costs: What the network costs, by metric, as counted on it (weight pruning: without its zeros, and without the
            channels that they leave dead).
        pruned: Test top-1 in percent before fine-tuning, or the user's own measure.
        finetuned: The same after fine-tuning.
        kept: Kept channels of every group that was cut, by its index in the structure.
        notes: Remarks for the user: which epoch was kept, and warnings from its training.
        rounds: Figures of each round where the schedule has several.
        accepted: Whether it meets the time budget; None without one.
        curve: Loss and accuracy on the search split by epoch.
        by_class: The final test, by class.
        pruned_by_class: The test before fine-tuning, by class.
    """

    name: str
    allocation: Allocation
    model: nn.Module
    costs: Mapping[str, int | float]
    pruned: float
    finetuned: float
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rounds: tuple[dict[str, Any], ...] = ()
    accepted: Acceptance | None = None
    curve: tuple[dict[str, Any], ...] = ()
    by_class: Tested | None = None
    pruned_by_class: Tested | None = None

    def figures(self) -> dict[str, Any]:
        """Returns the figures, for JSON."""
        return {
            "costs": dict(self.costs),
            "pruned": self.pruned,
            "finetuned": self.finetuned,
            "allocation": self.allocation.as_dict(),
            "notes": list(self.notes),
            "curve": list(self.curve),
            **({"rounds": list(self.rounds)} if self.rounds else {}),
            **({"time": {"predicted": a.predicted, "measured": a.measured}} if (a := self.accepted) else {}),
        }


class Workshop:
    """Finishes the networks of a task, all by the same rules.

    Attributes:
        task: What is pruned.
        family: Prunes, and scores candidates.
    """

    def __init__(self, task: Task, recorder: Recorder | None = None, open_executor: OpenExecutor | None = None) -> None:
        """Gathers statistics of the trained dense network; do not change its weights afterwards.

        Args:
            task: What is to be pruned.
            recorder: Reports the progress.
            open_executor: Where candidates are scored that are played side by side; None for this process alone.
        """
        self.task, recorder = task, recorder or Recorder()
        with recorder.stage("statistics and tables") as advance:
            self.family: Family = create_family(task, advance)
        self._executor = None if open_executor is None else open_executor(self._replica(), recorder)
        self._spread: SpreadEvaluator | None = None

    @property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of a search."""
        if self._executor is None:
            return self.family.evaluator
        if self._spread is None:
            self._spread = SpreadEvaluator(self.family.evaluator, self._executor)
        return self._spread

    def _replica(self) -> CandidateReplica:
        return CandidateReplica(self.family, self.task.data)

    def accept(self, name: str, allocation: Allocation, recorder: Recorder) -> Acceptance | None:
        """Times an allocation where the budget bounds time, once a run; see `amc.pipeline.acceptance.accept`."""
        key = f"time of {name}"
        known = recalled(recorder, key, AcceptanceRecord)
        if known is not None:
            return Acceptance.from_dict(known)
        found = accept(self.task, allocation)
        if found is not None:
            recorder.remember(key, found.as_dict())
        return found

    def deliver(self, name: str, allocation: Allocation, recorder: Recorder) -> Delivered:
        """Makes the network of an allocation as the schedule says, and measures it on the test split.

        Args:
            name: Who chose the allocation.
            allocation: What to keep.
            recorder: Reports the fine-tuning and keeps its state.

        Raises:
            StructureError: If the pruned network does not cost what was predicted.
        """
        accepted = self.accept(name, allocation, recorder)
        allocation = allocation if accepted is None else accepted.allocation
        carried = carry_out(self.task, self.family, name, allocation, recorder)
        problem = self.task.problem
        finished, kept, notes = self._without_dead_channels(carried)
        before, after = measure_on_test(self.task, recorder, f"the networks of {name}", carried.pruned, finished)
        move(finished.eval(), device="cpu")
        costs = problem.costs_of(problem.widths(allocation))
        if kept is not carried.kept:
            costs = {**costs, **effective_costs(finished, on_device(self.task.example_input, torch.device("cpu")))}
        return Delivered(
            name=name,
            allocation=allocation,
            costs=costs,
            pruned=before.figure,
            finetuned=after.figure,
            model=finished,
            kept=kept,
            notes=(*notes, *(() if accepted is None else notes_of(accepted))),
            accepted=accepted,
            rounds=carried.records,
            curve=carried.curve,
            by_class=after,
            pruned_by_class=before,
        )

    def _without_dead_channels(self, carried: Carried) -> tuple[nn.Module, Mapping[int, Tensor], tuple[str, ...]]:
        """Removes channels that the pruning of weights has left dead; returns network, kept channels and notes."""
        task, network = self.task, carried.finished.eval()
        if task.problem.kind != "weight":
            return network, carried.kept, carried.notes
        images = task.calibration_inputs()
        example = on_device(task.example_input, device_of(network))
        inputs = as_inputs(example) if images is None else images
        smaller, kept = without_dead_channels(network, task.structure, inputs)
        if not kept:
            return network, carried.kept, carried.notes
        gone = sum(task.structure.groups[index].channels - len(channels) for index, channels in kept.items())
        flops = [METRICS.get("flops").count(model, example) for model in (network, smaller)]
        note = (
            f"{gone} dead channels were removed: {flops[1]:,} of {flops[0]:,} FLOPs are left "
            "to kernels that multiply zeros too"
        )
        return smaller, kept, (*carried.notes, note)

"""From an allocation to a finished network: prune, refit, fine-tune, measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from amc.pipeline.acceptance import Acceptance, accept, notes_of
from amc.pipeline.by_class import Tested
from amc.pipeline.families import Family, create_family
from amc.pipeline.measuring import measure_on_test
from amc.pipeline.recorder import Recorder
from amc.pipeline.rounds import carry_out
from amc.pipeline.task import Task
from amc.problem.evaluator import Evaluator
from amc.runtime.call import move
from amc.structure import Allocation


@dataclass(frozen=True)
class Delivered:
    """A finished network and its figures.

    Attributes:
        name: Who chose the allocation.
        allocation: What is kept.
        model: The network, in evaluation mode on the CPU.
        costs: What the network costs, by metric, as counted on it (weight pruning: without its zeros).
        pruned: Test top-1 in percent before fine-tuning, or the user's own measure.
        finetuned: The same after fine-tuning.
        kept: Kept channels of every group that was cut, by its index in the structure.
        notes: What is to be said of it: which epoch was kept, and warnings of its training.
        rounds: Figures of each round where the schedule has several.
        accepted: What became of a budget in time; None without one.
        curve: Loss and accuracy on the search split by epoch.
        by_class: The last test, by class.
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
    """Finishes the networks of one task, all by the same rules.

    Attributes:
        task: What is pruned.
        family: Prunes, and scores candidates.
    """

    def __init__(self, task: Task, recorder: Recorder | None = None) -> None:
        """Gathers statistics of the trained dense network; do not change its weights afterwards.

        Args:
            task: What is to be pruned.
            recorder: Reports the progress.
        """
        self.task = task
        with (recorder or Recorder()).stage("statistics and tables") as advance:
            self.family: Family = create_family(task, advance)

    @property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of a search."""
        return self.family.evaluator

    def accept(self, name: str, allocation: Allocation, recorder: Recorder) -> Acceptance | None:
        """Measures an allocation where a budget bounds its time, once a run; see `amc.pipeline.acceptance.accept`."""
        key = f"time of {name}"
        known = recorder.recall(key)
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
        finished, problem = carried.finished, self.task.problem
        before, after = measure_on_test(self.task, recorder, f"the networks of {name}", carried.pruned, finished)
        move(finished.eval(), device="cpu")
        return Delivered(
            name=name,
            allocation=allocation,
            costs=problem.costs_of(problem.widths(allocation)),
            pruned=before.figure,
            finetuned=after.figure,
            model=finished,
            kept=carried.kept,
            notes=(*carried.notes, *(() if accepted is None else notes_of(accepted))),
            accepted=accepted,
            rounds=carried.records,
            curve=carried.curve,
            by_class=after,
        )

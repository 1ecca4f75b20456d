"""From an allocation to a network that can be handed over: prune, refit, fine-tune, measure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pipeline.families import Family, create_family
from amc.pipeline.recorder import Recorder, share_of, training_hooks
from amc.pipeline.task import Task
from amc.problem.evaluator import Evaluator
from amc.runtime.call import move
from amc.structure import Allocation
from amc.training import fine_tune
from amc.training.objective import AfterStep
from amc.utils.noted import noting_warnings
from amc.utils.options import file_stem


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
    """

    name: str
    allocation: Allocation
    model: nn.Module
    costs: Mapping[str, int | float]
    pruned: float
    finetuned: float
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, Any]:
        """Returns the figures, for JSON."""
        return {
            "costs": dict(self.costs),
            "pruned": self.pruned,
            "finetuned": self.finetuned,
            "allocation": self.allocation.as_dict(),
            "notes": list(self.notes),
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
            recorder: Is told how far that is.
        """
        self.task = task
        with share_of(recorder or Recorder(), "statistics and tables") as advance:
            self.family: Family = create_family(task, advance)

    @property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of a search."""
        return self.family.evaluator

    def deliver(self, name: str, allocation: Allocation, recorder: Recorder) -> Delivered:
        """Makes the network of an allocation, fine-tunes it and measures it on the test split.

        Args:
            name: Who chose the allocation.
            allocation: What to keep.
            recorder: Is told of the fine-tuning, and keeps its state.

        Raises:
            StructureError: If the pruned network does not cost what was predicted.
        """
        with share_of(recorder, f"prune and refit ({name})") as advance:
            pruned = self.family.prune(allocation, advance)
        finished = copy.deepcopy(pruned)
        with noting_warnings() as notes:
            note = self._finetune(name, finished, allocation, recorder)
        problem = self.task.problem
        before, after = self.task.test(pruned), self.task.test(finished)
        move(finished.eval(), device="cpu")
        return Delivered(
            name=name,
            allocation=allocation,
            costs=problem.costs_of(problem.widths(allocation)),
            pruned=before,
            finetuned=after,
            model=finished,
            kept=self.family.kept(allocation),
            notes=tuple(filter(None, (note, *notes))),
        )

    def _finetune(self, name: str, model: nn.Module, allocation: Allocation, recorder: Recorder) -> str:
        """Fine-tunes a pruned network in place, as the task says; returns what there is to note of it."""
        task, keep = self.task, self.family.keeper(model)
        if task.tune is not None:
            returned = task.tune(model)
            if isinstance(returned, nn.Module) and returned is not model:
                raise ConfigurationError("finetune(model) must train the network in place; it returned another one")
            keep(model)
        if task.tune is None and task.data is not None and task.finetune.epochs > 0:
            with training_hooks(recorder, name, len(task.data.train), task.finetune) as hooks:
                result = fine_tune(
                    model,
                    task.data,
                    task.finetune,
                    teacher=task.model,
                    seed=task.seed,
                    device=task.device,
                    hooks=hooks,
                    terms=[AfterStep(keep)],
                    checkpoint=recorder.checkpoint(f"{file_stem(name)}-{allocation.digest()}"),
                )
            return result.note
        return ""

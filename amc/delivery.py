"""From an allocation to a network that can be handed over: prune, refit, fine-tune, measure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from amc.candidate import Candidate
from amc.costs.fvcore_flops import count_flops, count_params
from amc.errors import StructureError
from amc.pruning.filter_pruner import FilterPruner
from amc.pruning.reconstruction import reconstruct
from amc.pruning.tables import TableOptions, build_tables
from amc.recorder import Recorder
from amc.recorder_hooks import training_hooks
from amc.structure import Allocation
from amc.task import Task
from amc.training import evaluate, resolve_device
from amc.training.score import Score
from amc.training.trainer import fine_tune


_CALIBRATION_BATCH = 250


@dataclass(frozen=True)
class Delivered:
    """A finished network and its figures.

    Attributes:
        name: Who chose the allocation.
        allocation: What is kept.
        model: The network, in evaluation mode on the CPU.
        flops: FLOPs as fvcore counts them on the network (weight pruning: effective FLOPs).
        params: Parameters (weight pruning: those that are not zero).
        pruned: Test top-1 in percent before fine-tuning, or the user's own measure.
        finetuned: The same after fine-tuning.
        kept: Kept channels of every group that was cut, by its index in the structure.
    """

    name: str
    allocation: Allocation
    model: nn.Module
    flops: int
    params: int
    pruned: float
    finetuned: float
    kept: Mapping[int, Tensor] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """Returns the figures, for JSON."""
        return {
            "flops": self.flops,
            "params": self.params,
            "pruned": self.pruned,
            "finetuned": self.finetuned,
            "allocation": self.allocation.as_dict(),
        }


class Workshop:
    """Prunes, scores and finishes candidates of one task, all by the same rules."""

    def __init__(self, task: Task) -> None:
        """Gathers statistics of the trained dense network; do not change its weights afterwards."""
        self.task = task
        self._device = resolve_device(task.device)
        task.model.to(self._device).eval()
        self._images = None if task.data is None else task.data.calibration.inputs().to(self._device)
        self._pruner = self._build_pruner()
        self._candidate = Candidate(self._pruner)

    def score(self, allocation: Allocation) -> Score:
        """Scores the network that an allocation describes, on the search split: the evaluator of the search."""
        model = self._candidate.become(allocation)
        if self.task.measure is not None:
            return Score(accuracy=float(self.task.measure(model)), cross_entropy=float("nan"))
        assert self.task.data is not None
        return evaluate(model, self.task.data.search, device=self._device)

    def deliver(self, name: str, allocation: Allocation, recorder: Recorder) -> Delivered:
        """Makes the network of an allocation, fine-tunes it and measures it on the test split.

        Args:
            name: Who chose the allocation.
            allocation: What to keep.
            recorder: Is told of the fine-tuning, and keeps its state.

        Raises:
            StructureError: If the pruned network does not cost what was predicted.
        """
        model = self.prune(allocation)
        finished = copy.deepcopy(model)
        self._finetune(name, finished, recorder)
        problem = self.task.problem
        widths = problem.widths(allocation)
        return Delivered(
            name=name,
            allocation=allocation,
            model=finished.cpu().eval(),
            flops=problem.cost(widths, "flops"),
            params=problem.cost(widths, "params"),
            pruned=self.task.test(model),
            finetuned=self.task.test(finished),
            kept=self._pruner.kept(allocation),
        )

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns the pruned network with its layers refit, before fine-tuning.

        Raises:
            StructureError: If it does not cost what was predicted.
        """
        model = self._pruner.prune(allocation)
        self._check_costs(model, allocation)
        if self.task.pruning.reconstruction == "sequential" and self._images is not None:
            kept = self._pruner.kept(allocation)
            reconstruct(model, self.task.model, self.task.structure, kept, self._images)
        return model

    def _build_pruner(self) -> FilterPruner:
        task = self.task
        options = TableOptions(criterion=task.pruning.criterion, refit=task.pruning.reconstruction != "none")
        batches = [] if self._images is None else list(self._images.split(_CALIBRATION_BATCH))
        return FilterPruner(task.model, task.structure, build_tables(task.model, task.structure, batches, options))

    def _check_costs(self, model: nn.Module, allocation: Allocation) -> None:
        """Compares the predicted costs with those of the network itself."""
        problem = self.task.problem
        if problem.kind != "filter":
            return
        widths = problem.widths(allocation)
        example = on_device(self.task.example_input, self._device)
        for metric, counted in (("flops", count_flops(model, example)), ("params", count_params(model))):
            predicted = problem.cost(widths, metric)
            if counted != predicted:
                raise StructureError(
                    f"the pruned network must cost what was predicted: {metric} are {counted:,}, "
                    f"not {predicted:,}; please report the model, and exclude its unusual layers meanwhile"
                )

    def _finetune(self, name: str, model: nn.Module, recorder: Recorder) -> None:
        """Fine-tunes a pruned network in place, as the task says."""
        task = self.task
        if task.tune is not None:
            task.tune(model)
            return
        if task.data is None or task.finetune.epochs == 0:
            return
        with training_hooks(recorder, name, len(task.data.train), task.finetune) as hooks:
            fine_tune(
                model,
                task.data,
                task.finetune,
                teacher=task.model,
                seed=task.seed,
                device=self._device,
                hooks=hooks,
                checkpoint=recorder.checkpoint(name),
            )


def on_device(value: Any, device: torch.device) -> Any:
    """Returns an example input with all its tensors on a device."""
    return tree_map(lambda item: item.to(device) if isinstance(item, Tensor) else item, value)

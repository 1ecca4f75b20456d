"""The two families of pruning behind one interface, which scores candidates and makes the delivered networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Protocol

from torch import Tensor, nn

from amc.costs.metrics import MEMORY, counted
from amc.costs.peak_memory import peak_memory
from amc.data.tasks import CLASSIFICATION
from amc.errors import StructureError
from amc.pipeline.evaluators import FilterEvaluator, WeightEvaluator, calibration_batches, evidence_of
from amc.pipeline.pruned_networks import PrunedNetworks
from amc.pipeline.task import Task
from amc.problem.evaluator import Evaluator
from amc.pruning import (
    WEIGHT_CRITERIA,
    FilterPruner,
    SamplingOptions,
    SparseSolver,
    TableOptions,
    WeightCriterion,
    WeightPruner,
    WeightTableOptions,
    apply_masks,
    build_tables,
    build_weight_tables,
    masks_of_zeros,
)
from amc.pruning.recovery.registry import RECOVERIES, PrunedNetwork
from amc.pruning.weight_patterns import WEIGHT_PATTERNS
from amc.runtime import resolve_device
from amc.runtime.call import move, on_device
from amc.structure import Allocation
from amc.utils.options import create
from amc.utils.progress import Progress, silent


class Family(Protocol):
    """Scores the allocations of one task, and carries them out.

    Attributes:
        networks: Those that were pruned lately.
    """

    networks: PrunedNetworks

    @property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of the search."""

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Returns the pruned network, refit, before fine-tuning; the caller may change it.

        Args:
            allocation: What to keep.
            advance: Takes the share that is done, 0 to 1, as it grows.

        Raises:
            StructureError: If it does not cost what was predicted.
        """

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels of every group that is cut, by its index; empty if nothing is cut."""

    def keeper(self, model: nn.Module) -> Callable[[nn.Module], None]:
        """Returns what restores, in a pruned network or a copy of it, what a training step must not change."""


def create_family(task: Task, advance: Progress = silent) -> Family:
    """Gathers what pruning needs from the trained dense network; do not change its weights afterwards.

    Args:
        task: What is to be pruned.
        advance: Takes the share that is done, 0 to 1, as it grows.
    """
    move(task.model.eval(), device=resolve_device(task.device))
    return WeightFamily(task, advance) if task.problem.kind == "weight" else FilterFamily(task, advance)


class FilterFamily:
    """Removes whole channels, and refits the layers that read them."""

    def __init__(self, task: Task, advance: Progress = silent) -> None:
        """Builds the tables of kept channels and refitted weights."""
        self._task, self._device = task, resolve_device(task.device)
        self.networks = PrunedNetworks()
        self._images = task.calibration_inputs()
        has_images = self._images is not None
        self._recovery = create(RECOVERIES, task.pruning.recovery)
        refit = has_images and self._recovery.refits_candidates
        criterion = str(task.pruning.criterion)
        if criterion == "auto":
            criterion = "elimination" if has_images else "l2"
        options = TableOptions(criterion=criterion, refit=refit, sampling=SamplingOptions(seed=task.seed))
        batches, labels = calibration_batches(task, self._images)
        tables = build_tables(
            task.model,
            task.structure,
            batches,
            options,
            advance,
            labels=labels,
            task=CLASSIFICATION if task.data is None else task.data.task,
            only={decision.group for decision in task.problem.decisions},
        )
        self._pruner = FilterPruner(task.model, task.structure, tables)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of the search; made when a search asks for it."""
        return FilterEvaluator(self._task, self._pruner, self._images)

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Prunes and refits, unless it has just been done; see `Family`."""
        return self.networks.get(allocation, lambda: self._pruned(allocation, advance), advance)

    def _pruned(self, allocation: Allocation, advance: Progress) -> nn.Module:
        model = self._pruner.prune(allocation)
        self._check_costs(model, allocation)
        if self._images is not None:
            task = self._task
            pruned = PrunedNetwork(
                model, task.model, task.structure, self._images, self.kept(allocation), seed=task.seed
            )
            self._recovery(pruned, advance)
        return model

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels; see `Family`."""
        return self._pruner.kept(allocation)

    def keeper(self, model: nn.Module) -> Callable[[nn.Module], None]:
        """Returns what does nothing: a smaller network stays smaller."""
        return _leave

    def _check_costs(self, model: nn.Module, allocation: Allocation) -> None:
        """Compares the predicted costs with those of the network itself, to the integer."""
        problem = self._task.problem
        widths = problem.widths(allocation)
        example = on_device(self._task.example_input, self._device)
        counts = counted(model, example)
        if MEMORY in problem.costs:
            counts[MEMORY] = peak_memory(model, example)
        for metric, count in counts.items():
            predicted = problem.cost(widths, metric)
            if count != predicted:
                raise StructureError(
                    f"the network must cost what was predicted: {metric} are {count:,}, "
                    f"not {predicted:,}; please report the model, and exclude its unusual layers meanwhile"
                )


class WeightFamily:
    """Sets single weights to zero, and refits those that stay; shapes do not change."""

    def __init__(self, task: Task, advance: Progress = silent) -> None:
        """Builds the tables of kept weights and refitted values."""
        self._task = task
        self.networks = PrunedNetworks()
        self._images = task.calibration_inputs()
        name = task.pruning.criterion
        if name == "auto":
            name = "magnitude" if self._images is None else "obs"
        self._criterion: WeightCriterion = create(WEIGHT_CRITERIA, name)
        self._evidence = evidence_of(task, self._images)
        self._pattern = WEIGHT_PATTERNS.get(task.pruning.pattern)
        self._recovery = create(RECOVERIES, task.pruning.recovery)
        refit = self._images is not None and self._recovery.refits_candidates
        options = WeightTableOptions(refit=refit, pattern=self._pattern)
        tables = build_weight_tables(
            task.model,
            task.structure,
            self._criterion,
            self._evidence,
            options,
            advance,
            only={decision.name for decision in task.problem.decisions},
        )
        self._pruner = WeightPruner(task.model, task.structure, tables)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of the search; made when a search asks for it."""
        return WeightEvaluator(self._task, self._pruner, self._images, self._evidence, self.prune)

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Masks a copy of the network and refits what stays, unless it has just been done; see `Family`."""
        return self.networks.get(allocation, lambda: self._pruned(allocation, advance), advance)

    def _pruned(self, allocation: Allocation, advance: Progress) -> nn.Module:
        model = self._pruner.prune(allocation)
        if self._images is not None:
            task, masks = self._task, self._pruner.masks(allocation)
            layers = [layer for layer in task.structure.layers if layer.name in masks]
            importance = {layer.name: self._evidence.importance(layer) for layer in layers}
            solver = SparseSolver(masks, self._criterion, self._pattern, importance)
            pruned = PrunedNetwork(
                model, task.model, task.structure, self._images, masks=masks, solver=solver, seed=task.seed
            )
            self._recovery(pruned, advance)
        limit = self._task.problem.cost(self._task.problem.widths(allocation), "params")
        found = sum(int(parameter.count_nonzero()) for parameter in model.parameters())
        if found > limit:
            raise StructureError(
                f"the pruned network must have at most {limit:,} weights that are not zero, not {found:,}"
            )
        return model

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns nothing: no channel goes."""
        return {}

    def keeper(self, model: nn.Module) -> Callable[[nn.Module], None]:
        """Returns what sets the pruned weights to zero again."""
        masks = masks_of_zeros(model)
        return partial(apply_masks, masks=masks)  # not a lambda, which other processes could not be sent


def _leave(model: nn.Module) -> None:
    """Leaves a network as it is."""

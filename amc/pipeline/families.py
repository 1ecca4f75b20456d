"""The two families of pruning behind one face: what the search scores, and what is delivered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from amc.costs.counting import count_flops, count_params
from amc.errors import ConfigurationError, StructureError
from amc.pipeline.task import Task
from amc.problem.score import Score
from amc.pruning import (
    CandidateNetwork,
    CandidateScorer,
    FilterPruner,
    SamplingOptions,
    TableOptions,
    WeightPruner,
    apply_masks,
    build_tables,
    reconstruct,
)
from amc.runtime import resolve_device, resolve_dtype
from amc.runtime.call import first_line, move, on_device
from amc.structure import Allocation
from amc.training import evaluate, predict, score_logits
from amc.training.staged_score import Stage, stage_of, stage_sizes
from amc.utils.progress import Progress, silent

_BATCH = 250


class Family(Protocol):
    """Prunes and scores the allocations of one task."""

    def score(self, allocation: Allocation) -> Score:
        """Scores the network that an allocation describes, on the whole search split."""

    def stages(self, allocation: Allocation, first: int) -> Iterator[Stage]:
        """Scores on the first images of the search split, then on ever more, as far as the iterator is advanced.

        Score no other allocation before the iterator is done with.
        """

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Returns the pruned network, refit, before fine-tuning.

        Args:
            allocation: What to keep.
            advance: Takes the share that is done, 0 to 1, as it grows.

        Raises:
            StructureError: If it does not cost what was predicted.
        """

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels of every group that is cut, by its index; empty if nothing is cut."""

    def keeper(self, allocation: Allocation) -> Callable[[nn.Module], None]:
        """Returns what restores, in the network of an allocation, what a training step must not change."""


def create_family(task: Task, advance: Progress = silent) -> Family:
    """Gathers what pruning needs of the trained dense network; do not change its weights afterwards.

    Args:
        task: What is to be pruned.
        advance: Takes the share that is done, 0 to 1, as it grows.
    """
    move(task.model.eval(), device=resolve_device(task.device))
    return WeightFamily(task) if task.problem.kind == "weight" else FilterFamily(task, advance)


class FilterFamily:
    """Whole channels go, and what reads them is refit."""

    def __init__(self, task: Task, advance: Progress = silent) -> None:
        """Builds the tables of kept channels and refitted weights."""
        self._task, self._device = task, resolve_device(task.device)
        has_images = task.data is not None
        self._images = task.data.calibration.inputs().to(self._device) if task.data is not None else None
        refit = has_images and task.pruning.reconstruction != "none"
        criterion = task.pruning.criterion
        if not has_images and criterion == "elimination":
            criterion = "l2"  # elimination needs activations
        options = TableOptions(criterion=criterion, refit=refit, sampling=SamplingOptions(seed=task.seed))
        batches = [] if self._images is None else list(torch.split(self._images, _BATCH))
        tables = build_tables(task.model, task.structure, batches, options, advance)
        self._pruner = FilterPruner(task.model, task.structure, tables)
        self._scorer = None if task.measure is not None else self._build_scorer()
        # Of the dense network first: a wrong prediction should not come to light after the search.
        self._check_costs(task.model, Allocation("filter", {}))

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation; see `Family`."""
        if self._scorer is not None:
            return self._scorer(allocation)
        return measured(self._task, self._pruner.prune(allocation))

    def stages(self, allocation: Allocation, first: int) -> Iterator[Stage]:
        """Scores in stages; see `Family`. A measure of the user's own has one stage."""
        if self._scorer is None or self._task.data is None:
            score = self.score(allocation)
            yield Stage(score, score)
            return
        images = len(self._task.data.search)
        for seen in self._scorer.stages(allocation, stage_sizes(first, images)):
            yield stage_of(*seen, images)

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Prunes and refits; see `Family`."""
        model = self._pruner.prune(allocation)
        self._check_costs(model, allocation)
        if self._task.pruning.reconstruction == "sequential" and self._images is not None:
            kept = self.kept(allocation)
            reconstruct(model, self._task.model, self._task.structure, kept, self._images, advance=advance)
        return model

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels; see `Family`."""
        return self._pruner.kept(allocation)

    def keeper(self, allocation: Allocation) -> Callable[[nn.Module], None]:
        """Returns what does nothing: a smaller network stays smaller."""
        return lambda model: None

    def _build_scorer(self) -> CandidateScorer[Score]:
        assert self._task.data is not None
        search = self._task.data.search
        network = self._candidate_network(search.take(range(min(2, len(search)))).inputs())
        count = self._task.pruning.recalibration_images
        few = self._images[:count] if self._images is not None and count else None
        if few is not None and len(few) < 2:
            few = None  # of one image a channel may be a single value, which has no variance
        return CandidateScorer(network, search.inputs(), search.targets, score_logits, calibration=few)

    def _candidate_network(self, images: Tensor) -> CandidateNetwork:
        """Returns the working copy in the fastest form in which the network's own code runs on the images.

        Raises:
            ConfigurationError: If it does not run in the number format that was asked for.
        """
        dense, failure = Allocation("filter", {}), ""
        wanted = resolve_dtype(self._task.dtype, self._device)
        for dtype in dict.fromkeys([wanted, torch.float32] if self._task.dtype == "auto" else [wanted]):
            for channels_last in (True, False):
                network = CandidateNetwork(self._pruner, device=self._device, dtype=dtype, channels_last=channels_last)
                try:
                    network.logits(dense, [network.prepare(images)])
                except RuntimeError as error:
                    failure = first_line(error)
                else:
                    return network
        raise ConfigurationError(
            f"the network must run in {wanted} to be scored so, but fails: {failure}; choose the dtype 'float32'"
        )

    def _check_costs(self, model: nn.Module, allocation: Allocation) -> None:
        """Compares the predicted costs with those of the network itself, to the integer."""
        problem = self._task.problem
        widths = problem.widths(allocation)
        example = on_device(self._task.example_input, self._device)
        for metric, counted in (("flops", count_flops(model, example)), ("params", count_params(model))):
            predicted = problem.cost(widths, metric)
            if counted != predicted:
                raise StructureError(
                    f"the network must cost what was predicted: {metric} are {counted:,}, "
                    f"not {predicted:,}; please report the model, and exclude its unusual layers meanwhile"
                )


class WeightFamily:
    """The smallest weights become zero; shapes stay."""

    def __init__(self, task: Task) -> None:
        """Finds the layers' weights, and the classes that the dense network assigns."""
        self._task, self._device = task, resolve_device(task.device)
        self._pruner = WeightPruner(task.model, task.structure)
        self._reference: Tensor | None = None
        if task.measure is None and task.data is not None:
            self._reference = predict(task.model, task.data.search, device=self._device)[0].argmax(1)

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation; see `Family`."""
        model = self._pruner.prune(allocation)
        if self._task.measure is not None:
            return measured(self._task, model)
        assert self._task.data is not None
        return evaluate(
            model, self._task.data.search, device=self._device, dtype=self._task.dtype, reference=self._reference
        )

    def stages(self, allocation: Allocation, first: int) -> Iterator[Stage]:
        """Scores in stages; see `Family`. A measure of the user's own has one stage."""
        if self._reference is None or self._task.data is None:
            score = self.score(allocation)
            yield Stage(score, score)
            return
        model, search, seen, outputs = self._pruner.prune(allocation), self._task.data.search, 0, []
        for size in stage_sizes(first, len(search)):
            part = search.take(range(seen, size))
            outputs.append(predict(model, part, device=self._device, dtype=self._task.dtype)[0])
            logits, seen = torch.cat(outputs), size
            targets = search.targets[:seen].to(logits.device)
            yield stage_of(logits, targets, self._reference[:seen], len(search))

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Masks a copy of the network; see `Family`."""
        model = self._pruner.prune(allocation)
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

    def keeper(self, allocation: Allocation) -> Callable[[nn.Module], None]:
        """Returns what sets the pruned weights to zero again."""
        masks = self._pruner.masks(allocation)
        return lambda model: apply_masks(model, masks)


def measured(task: Task, model: nn.Module) -> Score:
    """Scores a network by the user's own measure, which stands where the accuracy would."""
    return Score(accuracy=task.measured(model), cross_entropy=math.nan)

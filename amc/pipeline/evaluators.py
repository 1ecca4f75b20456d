"""The evaluators of a search, one per pruning family: scores of candidates, and saliencies of units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amc.data.tasks import CLASSIFICATION
from amc.errors import ConfigurationError
from amc.pipeline.task import Task
from amc.pipeline.task_scorer import TaskScorer
from amc.problem.evaluator import Errors, Evaluator, Saliencies
from amc.problem.score import ImageScores, Score, Stage
from amc.pruning import (
    CRITERIA,
    CandidateNetwork,
    CandidateScorer,
    Evidence,
    EvidenceOptions,
    FilterPruner,
    SamplingOptions,
    WeightPruner,
)
from amc.pruning.block_errors import block_gate
from amc.pruning.criteria.base import channel_scores, weight_scores
from amc.pruning.plan import Pruner
from amc.pruning.recovery.recalibration import reestimate_batch_norms
from amc.pruning.sequential_candidates import SequentialCandidates
from amc.runtime import resolve_device, resolve_dtype
from amc.runtime.batch_size import batch_size_for
from amc.runtime.call import first_line
from amc.runtime.many_inputs import parts_of
from amc.structure import Allocation
from amc.training import evaluate, score_logits
from amc.training.stages import paired_stage, stage_of, stage_sizes
from amc.training.strata import strata_of
from amc.utils.options import create


class CandidateEvaluator(Evaluator):
    """Scores candidates on one working copy of the network, which takes on each candidate's tensors."""

    def __init__(self, task: Task, pruner: Pruner, images: Any | None) -> None:
        """Gets the working copy and the images of the search split ready.

        Args:
            task: What is to be pruned.
            pruner: Looks up the candidates' weights.
            images: Calibration images, `(N, C, H, W)`, to re-estimate batch norms on; None without data.
        """
        self._task, self._pruner, self._images = task, pruner, images
        self._scorer: CandidateScorer[Score] | TaskScorer | None = None
        if task.measure is None:
            self._scorer = self._build_scorer()

    @property
    def tells_images(self) -> bool:
        """Whether its stages tell how a candidate does on each image; see `Evaluator`."""
        return isinstance(self._scorer, CandidateScorer) and self._task.data is not None

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation; see `Evaluator`."""
        if self._scorer is not None:
            return self._scorer(allocation)
        model = self._pruner.prune(allocation)
        if (few := self._few()) is not None:
            reestimate_batch_norms(model, few)
        return Score(self._task.measured(model), cross_entropy=math.nan)

    def stages(self, allocation: Allocation, first: int, rival: ImageScores | None = None) -> Iterator[Stage]:
        """Scores in stages; see `Evaluator`. Metrics other than the accuracy have one stage.

        Beside a rival the images of which the rival is in doubt are seen first; see `amc.training.strata`.
        """
        if not isinstance(self._scorer, CandidateScorer) or self._task.data is None:
            yield from super().stages(allocation, first)
            return
        images, at_least = len(self._task.data.search), self._scorer.at_least
        strata = None if rival is None else strata_of(rival.losses, at_least)
        order = None if strata is None else torch.from_numpy(strata.order)
        for seen in self._scorer.stages(allocation, stage_sizes(max(first, at_least), images), order):
            stage = stage_of(*seen, images)
            yield stage if rival is None or strata is None else paired_stage(stage, rival, strata)

    def _few(self) -> Any | None:
        """Returns the inputs on which batch norms are re-estimated; None for none."""
        count = self._task.pruning.recalibration_images
        few = self._images[:count] if self._images is not None and count else None
        # With one image a channel may be a single value, which has no variance.
        return None if few is None or len(few) < 2 else few

    def _build_scorer(self) -> CandidateScorer[Score] | TaskScorer:
        assert self._task.data is not None
        search, kind = self._task.data.search, self._task.data.task
        network = self._candidate_network(search.take(range(min(2, len(search)))).inputs())
        few = self._few()
        if not kind.assigns_classes:
            return TaskScorer(network, search, kind, few)
        # Search images do for batch norms where there are as many: the pass that re-estimates them scores them, too.
        count = self._task.pruning.recalibration_images
        shared = count if few is not None and count <= len(search) else 0
        return CandidateScorer(
            network,
            search.images,
            search.targets,
            score_logits,
            calibration=None if shared else few,
            recalibrated=shared,
            change=search.normalised,
        )

    def _candidate_network(self, images: Tensor) -> CandidateNetwork:
        """Returns the working copy in the fastest form that the network's own code can run in.

        Raises:
            ConfigurationError: If it does not run in the number format that was asked for.
        """
        dense, failure, device = Allocation(self._pruner.kind, {}), "", resolve_device(self._task.device)
        wanted = resolve_dtype(self._task.dtype, device)
        for dtype in dict.fromkeys([wanted, torch.float32] if self._task.dtype == "auto" else [wanted]):
            for channels_last in (True, False):
                network = CandidateNetwork(self._pruner, device=device, dtype=dtype, channels_last=channels_last)
                try:
                    network.logits(dense, [network.prepare(images)])
                except RuntimeError as error:
                    failure = first_line(error)
                else:
                    return network
        raise _must_run(wanted, failure)


class FilterEvaluator(CandidateEvaluator):
    """Scores networks that have lost channels."""

    def __init__(self, task: Task, pruner: FilterPruner, images: Any | None) -> None:
        """Gets the working copy ready; see `CandidateEvaluator`."""
        super().__init__(task, pruner, images)
        self._table = pruner.table

    def saliency(self, criterion: str) -> Saliencies:
        """Scores the channels of every decision; see `Evaluator`. A block is zero where a penalty has closed it."""
        score, groups = create(CRITERIA["filter"], criterion), self._task.structure.groups
        evidence = evidence_of(self._task, self._images)
        return {
            decision.name: _numbers(
                channel_scores(score, groups[decision.group], evidence)
                if groups[decision.group].block is None
                else block_gate(groups[decision.group], self._task.structure, evidence.tensors)
            )
            for decision in self._task.problem.decisions
        }

    def errors(self) -> Errors:
        """Returns the errors of the refit; see `Evaluator`. Where nothing was refit, the share of the norms lost."""
        norms = self.saliency("l2")
        found = {}
        for decision in self._task.problem.decisions:
            known = self._table.groups[decision.group].errors
            found[decision.name] = lost_shares(norms[decision.name]) if known is None else _numbers(known)
        return found


class WeightEvaluator(CandidateEvaluator):
    """Scores networks that have lost single weights."""

    def __init__(
        self,
        task: Task,
        pruner: WeightPruner,
        images: Any | None,
        evidence: Evidence,
        deliver: Callable[[Allocation], nn.Module],
    ) -> None:
        """Gets the working copy ready; see `CandidateEvaluator`.

        Args:
            task: What is to be pruned.
            pruner: Looks up the candidates' weights.
            images: Calibration images, `(N, C, H, W)`; None for no data.
            evidence: What saliencies are computed from.
            deliver: Prunes and refits as the delivery does.
        """
        self._table, self._evidence, self._deliver = pruner.table, evidence, deliver
        count = task.pruning.recalibration_images
        refits = images is not None and count > 0 and any(table.grid for table in pruner.table.layers.values())
        self._refits = refits
        if refits:  # in place of batch norms that are re-estimated
            assert images is not None
            super().__init__(task, SequentialCandidates(pruner, images[:count]), None)
        else:
            super().__init__(task, pruner, images)

    @property
    def delivers(self) -> bool:
        """Whether delivery refits more thoroughly: on all calibration images, and with weights chosen again."""
        return self._refits

    def delivered(self, allocation: Allocation) -> Score:
        """Scores the network as it is delivered; see `Evaluator`."""
        task, model = self._task, self._deliver(allocation)
        if task.measure is not None:
            return Score(task.measured(model), cross_entropy=math.nan)
        assert task.data is not None
        reference = self._scorer.reference if isinstance(self._scorer, CandidateScorer) else None
        return evaluate(model, task.data.search, device=task.device, reference=reference, task=task.data.task)

    def saliency(self, criterion: str) -> Saliencies:
        """Scores the weights of every decision; see `Evaluator`."""
        score, layers = create(CRITERIA["weight"], criterion), self._task.structure.layers
        return {
            decision.name: _numbers(weight_scores(score, layers[decision.group], self._evidence).flatten())
            for decision in self._task.problem.decisions
        }

    def errors(self) -> Errors:
        """Returns the errors of the refit, between two counts of the grid by interpolation; see `Evaluator`.

        All are in one unit: the effect on the network's output. Where nothing was refit, it is the effect of losing the
        whole layer, times the share of its squared weights that is lost.
        """
        magnitudes, found = self.saliency("magnitude"), {}
        for decision in self._task.problem.decisions:
            known = self._table.layers[decision.name].errors
            if known:
                found[decision.name] = np.interp(np.arange(decision.size + 1), list(known), list(known.values()))
            else:
                energy = self._evidence.energy(decision.name)
                found[decision.name] = lost_shares(magnitudes[decision.name]) * (1.0 if energy is None else energy)
        return found


def evidence_of(task: Task, images: Any | None) -> Evidence:
    """Returns what criteria may look at: the dense network, and the calibration split if there is one.

    Args:
        task: What is pruned.
        images: The calibration images, `(N, C, H, W)`, where the network is; None for no data.
    """
    options = EvidenceOptions(sampling=SamplingOptions(seed=task.seed))
    kind = CLASSIFICATION if task.data is None else task.data.task
    return Evidence(task.model, task.structure, *calibration_batches(task, images), options, task=kind)


def calibration_batches(task: Task, images: Any | None) -> tuple[list[Any], list[Tensor]]:
    """Returns the calibration images in batches, and their targets; nothing without data."""
    if images is None:
        return [], []
    size = batch_size_for(images)
    batches = parts_of(images, size)
    if task.data is None or task.calibration is not None:
        return batches, []
    return batches, list(torch.split(task.data.calibration.targets, size))


def lost_shares(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the share of the squared magnitudes that is lost with the smallest, by how many stay, `(units + 1,)`."""
    lost = np.cumsum(np.square(np.sort(magnitudes)))
    total = lost[-1] if lost[-1] > 0 else 1.0
    shares: NDArray[np.float64] = np.concatenate([[0.0], lost / total])[::-1]
    return shares


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def _must_run(dtype: torch.dtype, failure: str) -> ConfigurationError:
    """Returns the error for a network that fails in the number format that was asked for."""
    return ConfigurationError(
        f"the network must run in {dtype} to be scored so, but fails: {failure}; choose the dtype 'float32'"
    )

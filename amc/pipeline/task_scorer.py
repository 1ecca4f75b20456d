"""Scores of candidates in tasks other than classification: by the task's own metric and loss."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from amc.data import ImageSet
from amc.data.image_set import Batch
from amc.data.tasks import TaskType
from amc.problem.score import Score
from amc.pruning import CandidateNetwork
from amc.pruning.prepared_images import PreparedImages, images_at_once
from amc.runtime.memory import BatchesThatFit
from amc.structure import Allocation
from amc.training.evaluate import score_batches


class TaskScorer:
    """Scores allocations on the search split, on one working copy that takes on each candidate's shape."""

    def __init__(
        self, network: CandidateNetwork, search: ImageSet, task: TaskType, calibration: Tensor | None = None
    ) -> None:
        """Brings the images into the form in which the forward pass is fastest.

        Args:
            network: The working copy.
            search: The search split.
            task: Has the metric and the loss.
            calibration: Inputs on which a candidate's batch norms are re-estimated; None to leave them.
        """
        self._network, self._task, self._fitting = network, task, BatchesThatFit()
        count = images_at_once(network.device, search.images[0].numel())
        self._images = PreparedImages(network, search.images, count, search.normalised)
        self._targets = search.targets.to(network.device)
        self._calibration = None if calibration is None else network.prepare(calibration)

    def __call__(self, allocation: Allocation) -> Score:
        """Scores an allocation; its `accuracy` is the task's metric, its `cross_entropy` the task's loss."""
        self._network.load(allocation)
        if self._calibration is not None:
            self._network.recalibrate(self._calibration)
        return score_batches(self._outputs(), self._task)

    def _outputs(self) -> Iterator[Batch]:
        seen = 0
        for batch in self._images.batches():
            yield self._fitting(self._network.run, batch), self._targets[seen : seen + len(batch)]
            seen += len(batch)

"""Scoring candidates during the search, on images that are kept in the form in which the working copy is fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.candidate import CandidateNetwork
from amc.pruning.prepared_images import PreparedImages, images_at_once
from amc.runtime.memory import BatchesThatFit
from amc.structure import Allocation

ScoreT = TypeVar("ScoreT")


class CandidateScorer(Generic[ScoreT]):
    """Scores allocations on cached images: the evaluator of the search."""

    def __init__(
        self,
        network: CandidateNetwork,
        images: Tensor,
        targets: Tensor,
        measure: Callable[[Tensor, Tensor, Tensor], ScoreT],
        *,
        batch_size: int | None = None,
        calibration: Tensor | None = None,
        recalibrated: int = 0,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Gets the images ready, and the dense network's classes.

        Args:
            network: The working copy.
            images: Images of the search split, `(N, C, H, W)`, normalised unless `change` does it.
            targets: True classes, `(N,)`.
            measure: Turns logits `(n, classes)`, true classes `(n,)` and the dense network's classes `(n,)` into a
                score, for example `amc.training.evaluate.score_logits`.
            batch_size: Images at once; what suits the device if None (see `images_at_once`).
            calibration: Normalised images `(N, C, H, W)` on which a candidate's batch norms are re-estimated before it
                is scored; None scores it as it was cut.
            recalibrated: How many of `images`, from the first on, take the place of `calibration`. The pass that
                re-estimates the batch norms scores these images as well, so it costs little.
            change: Normalises images; None where they are.

        Raises:
            ConfigurationError: If there are no images, or not one class per image.
        """
        if not len(images) or len(images) != len(targets):
            raise ConfigurationError(
                f"a score needs images and one class for each; got {len(images)} images, {len(targets)} classes"
            )
        self._network, self._measure, self._fitting = network, measure, BatchesThatFit()
        count = batch_size or images_at_once(network.device, images[0].numel())
        self._calibration = None if calibration is None else network.prepare(calibration)
        first, rest = images[:recalibrated], images[recalibrated:]
        self._first = network.prepare(first if change is None else change(first)) if len(first) else None
        self._rest = PreparedImages(network, rest, count, change)
        self._network.load(network.dense)
        shared = () if self._first is None else torch.split(self._first, count)
        dense = torch.cat([self._run(batch) for batch in (*shared, *self._rest.batches())])
        self._targets, self._reference = targets.to(dense.device), dense.argmax(1)

    @property
    def at_least(self) -> int:
        """How many images every candidate is scored on: those of the pass that re-estimates its batch norms."""
        return 0 if self._first is None else len(self._first)

    @property
    def reference(self) -> Tensor:
        """The dense network's classes, `(N,)`."""
        return self._reference

    def __call__(self, allocation: Allocation) -> ScoreT:
        """Scores an allocation on all images."""
        return self.score(allocation)

    def score(self, allocation: Allocation, images: int | None = None) -> ScoreT:
        """Scores an allocation.

        Args:
            allocation: The widths.
            images: Score only this many images, the first; all by default.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        return self._measure(*next(self.stages(allocation, [images or len(self._targets)])))

    def stages(
        self, allocation: Allocation, sizes: Sequence[int], order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Runs an allocation on more and more images, only as far as the iterator is advanced.

        Score no other allocation before the iterator is done with.

        Args:
            allocation: The widths.
            sizes: After how many images to stop, rising.
            order: Numbers of all images `(N,)` as they are to be seen; the first `at_least` must be those numbers
                themselves. As they are by default.

        Yields:
            Logits `(n, classes)`, true classes and the dense network's classes `(n,)` of the images so far, in the
            order asked for; of all images as they are.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        outputs, seen = torch.empty(0), 0
        for part in self._parts(allocation, sizes, order):
            outputs = torch.cat([outputs, part]) if seen else part
            seen += len(part)
            if order is None:
                yield outputs, self._targets[:seen], self._reference[:seen]
            elif seen < len(order):
                numbers = order[:seen].to(self._targets.device)
                yield outputs, self._targets[numbers], self._reference[numbers]
            else:
                yield outputs[order.argsort().to(outputs.device)], self._targets, self._reference

    def _parts(self, allocation: Allocation, ends: Sequence[int], order: Tensor | None) -> Iterator[Tensor]:
        """Yields the logits of consecutive images, from one of the ends to the next."""
        self._network.load(allocation)
        seen, first = 0, self.at_least
        if self._calibration is not None:
            self._network.recalibrate(self._calibration)
        early = self._network.recalibrate(self._first) if self._first is not None else torch.empty(0)
        rest = None if order is None else order[first:] - first
        for end in ends:
            parts = [] if seen >= first else [early[seen:end]]
            if end > first:
                parts += map(self._run, self._rest.batches(max(seen, first) - first, end - first, rest))
            yield torch.cat(parts)
            seen = end

    def _run(self, batch: Tensor) -> Tensor:
        """Runs the loaded network, in parts if memory runs out."""
        return self._fitting(self._network.run, batch)

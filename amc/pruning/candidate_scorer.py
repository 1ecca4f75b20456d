"""Scoring candidates during the search, on images that are kept in the form in which the working copy is fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.candidate import CandidateNetwork
from amc.runtime.batch_size import inputs_at_once
from amc.runtime.memory import BatchesThatFit
from amc.structure import Allocation

ScoreT = TypeVar("ScoreT")

_KEPT_BYTES = 2**28
"""Images that are kept ready for the network take no more than this."""


def images_at_once(device: torch.device, values: int) -> int:
    """Returns how many images to run at once.

    On a CPU so few that activations stay in its cache (eight of 224 x 224 pixels: MobileNet V1 then takes half of the
    time that it takes in batches of 100); on an accelerator, up to four million values: an operator on few
    small images takes it less time than being started.

    Args:
        device: Where the network runs.
        values: Values of one image, C * H * W.
    """
    few, many = 250, 2000
    return inputs_at_once(values) if device.type == "cpu" else min(many, max(few, 2**22 // values))


def prepared(
    network: CandidateNetwork, images: Tensor, count: int, change: Callable[[Tensor], Tensor] | None
) -> Sequence[Tensor]:
    """Splits images into batches in the form in which the forward pass is fastest.

    They are kept in that form where they take little memory; of many large images each batch is made when it is asked
    for, so that bytes stay bytes.

    Args:
        network: The working copy.
        images: `(N, C, H, W)`.
        count: Images in a batch.
        change: Normalises images; None where they are.
    """
    batches = _LazyBatches(network, torch.split(images, count), change)
    return batches if images.numel() * 4 > _KEPT_BYTES else list(batches)


class _LazyBatches(Sequence[Tensor]):
    """Batches that are prepared whenever they are asked for."""

    def __init__(
        self, network: CandidateNetwork, parts: Sequence[Tensor], change: Callable[[Tensor], Tensor] | None
    ) -> None:
        self._network, self._parts, self._change = network, parts, change

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        part = self._parts[index]
        return self._network.prepare(part if self._change is None else self._change(part))


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
        self._batches = prepared(network, rest, count, change) if len(rest) else ()
        self._network.load(network.dense)
        shared = () if self._first is None else torch.split(self._first, count)
        dense = torch.cat([self._run(batch) for batch in (*shared, *self._batches)])
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

    def stages(self, allocation: Allocation, sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Runs an allocation on more and more images, only as far as the iterator is advanced.

        Score no other allocation before the iterator is done with.

        Args:
            allocation: The widths.
            sizes: After how many images to stop, rising.

        Yields:
            Logits `(n, classes)`, true classes and the dense network's classes `(n,)` of the images so far.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        outputs, seen = [], 0
        for part in self._parts(allocation, sizes):
            outputs.append(part)
            seen += len(part)
            if seen in sizes:
                yield torch.cat(outputs), self._targets[:seen], self._reference[:seen]

    def _parts(self, allocation: Allocation, ends: Sequence[int]) -> Iterator[Tensor]:
        """Yields the logits of consecutive images; a part ends wherever `ends` says, counted from the first image."""
        self._network.load(allocation)
        seen = 0
        if self._calibration is not None:
            self._network.recalibrate(self._calibration)
        if self._first is not None:
            logits, seen = self._network.recalibrate(self._first), len(self._first)
            yield from torch.tensor_split(logits, [end for end in ends if end < seen])
        for batch in self._batches:
            inside = [end - seen for end in ends if seen < end < seen + len(batch)]
            yield from map(self._run, torch.tensor_split(batch, inside))
            seen += len(batch)

    def _run(self, batch: Tensor) -> Tensor:
        """Runs the loaded network, in parts if memory runs out."""
        return self._fitting(self._network.run, batch)

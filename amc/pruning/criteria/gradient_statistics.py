"""Gradients of the loss on the calibration split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from amc.data.tasks import TaskType
from amc.pruning.criteria.slices import channel_slices
from amc.runtime.call import call, evaluation_mode
from amc.runtime.outputs import main_output
from amc.structure import ChannelGroup


@dataclass(frozen=True)
class GradientStatistics:
    """Gradients of the task's mean loss on the calibration split, in evaluation mode, without weight decay.

    Minibatches are of one size but for an image, whatever runs at once: the square of the gradient of a smaller one
    would count more, as it is noisier.

    Attributes:
        mean: By parameter, the gradient of the mean loss over all images.
        squares: By parameter, the squared gradient of a minibatch's mean loss, averaged over the minibatches.
        gates: By group, for each minibatch the gradient for a factor on each channel where it is read,
            `(minibatches, C)`, float64, on the CPU: the sum of weight times gradient over all weights that read it. It
            equals the sum over scale and shift of the batch norm where one stands between, with nothing but a ReLU.
    """

    mean: Mapping[str, Tensor]
    squares: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]


def gather_gradients(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Sequence[Tensor],
    labels: Sequence[Tensor],
    task: TaskType,
    minibatch: int,
    after_batch: Callable[[], object] = lambda: None,
    others: Mapping[str, Tensor] | None = None,
) -> GradientStatistics:
    """Runs the network forward and backward over the calibration images; its modes, gradients and flags are kept.

    Args:
        model: The dense network, on the device of the batches.
        groups: The groups whose gates are wanted.
        batches: Normalised images, each `(N, C, H, W)`.
        labels: Their targets, each `(N, ...)`, in the form of the task.
        task: What the network is trained for, with its loss.
        minibatch: Images in a minibatch, at most.
        after_batch: Called after each batch.
        others: Tensors of the network by name that are no parameters, and whose gradients are wanted too.
    """
    parameters: dict[str, Tensor] = {**dict(model.named_parameters()), **(others or {})}
    sums = _Sums(groups, parameters, bounds := _bounds(sum(len(batch) for batch in batches), minibatch))
    seen = 0
    with evaluation_mode(model), _differentiable(parameters.values()):
        for batch, classes in zip(batches, labels, strict=True):
            for part, targets in _parts(batch, classes, seen, bounds):
                sums.add(_gradients(model, parameters, part, targets, task), len(part))
            seen += len(batch)
            after_batch()
    return sums.result()


class _Sums:
    """Sums what is known of the gradients, minibatch by minibatch."""

    def __init__(self, groups: Sequence[ChannelGroup], parameters: Mapping[str, Tensor], bounds: Sequence[int]) -> None:
        """Starts empty; see `_bounds`."""
        self._groups, self._parameters, self._bounds = groups, parameters, bounds
        self._held, self._mean, self._squares = (
            {name: torch.zeros_like(parameter) for name, parameter in parameters.items()} for _ in range(3)
        )
        self._gates: dict[str, list[Tensor]] = {group.name: [] for group in groups}
        self._seen = self._done = 0

    @torch.no_grad()
    def add(self, gradients: Mapping[str, Tensor], images: int) -> None:
        """Adds the gradients of the mean loss of some images, all of which are of the minibatch under way."""
        first, last = self._bounds[self._done : self._done + 2]
        for name, gradient in gradients.items():
            self._held[name] += gradient * (images / (last - first))
        self._seen += images
        if self._seen == last:
            self._finish((last - first) / self._bounds[-1])

    def _finish(self, share: float) -> None:
        """Takes the minibatch under way, which holds a share of all images."""
        for name, gradient in self._held.items():
            self._mean[name] += gradient * share
            self._squares[name] += gradient.square()
        for group in self._groups:
            self._gates[group.name].append(_gate(group, self._parameters, self._held))
        for gradient in self._held.values():
            gradient.zero_()
        self._done += 1

    def result(self) -> GradientStatistics:
        """Returns what was found."""
        squares = {name: total / self._done for name, total in self._squares.items()}
        return GradientStatistics(
            self._mean, squares, {name: torch.stack(found) for name, found in self._gates.items()}
        )


def _bounds(images: int, minibatch: int) -> list[int]:
    """Returns where minibatches begin, and where the last one ends: no more than `minibatch` images in each."""
    count = -(-images // minibatch)
    return [images * number // count for number in range(count + 1)]


def _parts(batch: Any, targets: Tensor, start: int, bounds: Sequence[int]) -> Iterator[tuple[Any, Tensor]]:
    """Yields the parts of a batch and its targets that lie within one minibatch each; `start` images came before it."""
    inside = [bound - start for bound in bounds if start < bound < start + len(batch)]
    for first, last in pairwise([0, *inside, len(batch)]):
        yield batch[first:last], targets[first:last]


@contextmanager
def _differentiable(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Makes all parameters require gradients temporarily: frozen ones can be pruned too."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _gradients(
    model: nn.Module, parameters: Mapping[str, Tensor], images: Tensor, targets: Tensor, task: TaskType
) -> dict[str, Tensor]:
    """Returns the gradients of the mean loss of some images, by parameter; those without influence have zeros."""
    loss = task.loss_of(main_output(call(model, images)), targets.to(images.device))
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def _gate(group: ChannelGroup, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """Returns the gradient for a factor on each channel of a group where it is read, `(C,)`."""
    gate = torch.zeros(group.channels, dtype=torch.float64)
    for cut in group.cuts:
        if cut.role == "read" and cut.tensor in parameters:
            gate += channel_slices(parameters[cut.tensor] * gradients[cut.tensor], cut).sum(1)
    return gate

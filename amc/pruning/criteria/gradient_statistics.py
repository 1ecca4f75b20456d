"""Gradients of the loss on the calibration split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc.data.tasks import TaskType
from amc.pruning.criteria.slices import channel_slices
from amc.runtime.call import call, evaluation_mode
from amc.runtime.many_inputs import parts_of
from amc.runtime.outputs import main_output
from amc.structure import ChannelGroup


@dataclass(frozen=True)
class GradientStatistics:
    """Gradients of the task's mean loss on the calibration split, in evaluation mode, without weight decay.

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
        minibatch: Images in a minibatch.
        after_batch: Called after each batch.
        others: Tensors of the network by name that are no parameters, and whose gradients are wanted too.
    """
    parameters: dict[str, Tensor] = {**dict(model.named_parameters()), **(others or {})}
    mean = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    gates: dict[str, list[Tensor]] = {group.name: [] for group in groups}
    images, count = sum(len(batch) for batch in batches), 0
    with evaluation_mode(model), _differentiable(parameters.values()):
        for batch, classes in zip(batches, labels, strict=True):
            for part, targets in zip(parts_of(batch, minibatch), torch.split(classes, minibatch), strict=True):
                gradients = _gradients(model, parameters, part, targets, task)
                count += 1
                for name, gradient in gradients.items():
                    mean[name] += gradient * (len(part) / images)
                    squares[name] += gradient.square()
                for group in groups:
                    gates[group.name].append(_gate(group, parameters, gradients))
            after_batch()
    squares = {name: total / count for name, total in squares.items()}
    return GradientStatistics(mean, squares, {name: torch.stack(found) for name, found in gates.items()})


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

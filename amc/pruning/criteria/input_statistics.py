"""How large the inputs of layers are, and how often they are zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc.pruning.regression.patches import READER_TYPES, conv_groups, reader_of
from amc.runtime.call import input_of
from amc.runtime.hooks import run_hooked


@dataclass(frozen=True)
class InputStatistics:
    """What one layer reads, by position on axis 1 of its weight.

    A grouped convolution reads as many channels at each position as it has groups.

    Attributes:
        squares: Mean square over the images and all positions of their maps, `(groups, in / groups)`, float64, on the
            CPU.
        zeros: Share of exact zeros, 0 to 1, `(groups, in / groups)`, float64, on the CPU.
    """

    squares: Tensor
    zeros: Tensor


def gather_inputs(
    model: nn.Module,
    layers: Iterable[str],
    batches: Sequence[Tensor],
    after_batch: Callable[[], object] = lambda: None,
) -> dict[str, InputStatistics]:
    """Runs the network once over the calibration images and describes what its layers read.

    Args:
        model: The dense network, on the device of the batches; put into evaluation mode for the pass.
        layers: Names of the layers; those that are neither convolution nor linear layer are passed over.
        batches: Normalised images, each `(N, C, H, W)`.
        after_batch: Called after each batch.

    Returns:
        The statistics by layer; layers that the forward pass does not call as modules have none.
    """
    sums: dict[str, Tensor] = {}

    def noter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Mapping[str, Tensor]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            found = _sums(module, input_of(inputs, named))
            sums[name] = sums[name] + found if name in sums else found

        return hook

    hooks = [
        module.register_forward_pre_hook(noter(name), with_kwargs=True)
        for name in layers
        if (module := reader_of(model, name)) is not None
    ]
    run_hooked(model, batches, hooks, after_batch)
    return {name: InputStatistics(*(total[:2] / total[2]).cpu()) for name, total in sums.items()}


def _sums(module: nn.Module, read: Tensor) -> Tensor:
    """Returns squares, zeros and how many values there are, `(3, groups, in / groups)`."""
    assert isinstance(module, READER_TYPES)
    by_channel = read.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)
    by_position = by_channel.reshape(conv_groups(module), -1, by_channel.shape[1])
    count = torch.full_like(by_position[:, :, 0], by_position.shape[2], dtype=torch.float64)
    zeros = (by_position == 0).sum(2)
    return torch.stack([by_position.double().square().sum(2), zeros.double(), count])

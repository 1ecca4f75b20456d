"""What it costs to drop residual blocks, and whether a penalty has closed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import call, inference
from amc.structure import ChannelGroup, ModelStructure
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_sums import OperatorCall


def block_errors(model: nn.Module, structure: ModelStructure, batches: Sequence[Any]) -> dict[int, float]:
    """Returns the share of the squared sum that each block's branch makes up, on the dense network.

    That is the relative squared error of the stream behind the block if the block is dropped: mean of branch^2 over
    mean of (stream + branch)^2, at most 1.

    Args:
        model: The dense network.
        structure: Its structure, with blocks.
        batches: Calibration inputs, on the network's device.
    """
    blocks = {index: structure.groups[index].block for index in structure.blocks}
    places = {block.addition: (index, block.branch) for index, block in blocks.items() if block is not None}
    lost, total = dict.fromkeys(structure.blocks, 0.0), dict.fromkeys(structure.blocks, 0.0)

    def report(step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        if step in places:
            index, place = places[step]
            branch = output - args[1 - place] if output is args[place] else args[place]
            lost[index] += float(branch.double().square().sum())
            total[index] += float(output.double().square().sum())

    with inference(model):
        for batch in batches:
            with OperatorWatch(report).watching():
                call(model, batch)
    return {index: min(1.0, lost[index] / total[index]) if total[index] else 1.0 for index in structure.blocks}


def block_gate(group: ChannelGroup, structure: ModelStructure, tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns the largest scale or shift of the last layer of a block, or of its batch norm, as `(1,)`.

    It is zero where a penalty has closed the branch: Sparse Structure Selection with a factor a layer
    (arXiv:1707.01213).

    Args:
        group: The block.
        structure: The structure of the network.
        tensors: The network's parameters by name.
    """
    last = structure.layers_of(structure.groups.index(group))[-1]
    module = last.batch_norm or last.owner
    found = [tensors[name] for name in (f"{module}.weight", f"{module}.bias") if name in tensors] or [
        tensors[last.weight]
    ]
    return torch.stack([tensor.detach().abs().max() for tensor in found]).max().reshape(1)

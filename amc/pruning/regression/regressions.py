"""The regressions by which layers read a channel group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from amc.pruning.batch_norm import output_scale
from amc.pruning.regression.elimination import Regression
from amc.pruning.regression.patches import READER_TYPES, Reader, conv_groups, is_reader
from amc.pruning.regression.row_equations import intercept_sink
from amc.pruning.regression.statistics import Gram
from amc.structure import ChannelGroup, ModelStructure


@dataclass(frozen=True)
class ReadCut:
    """How a layer that can be refit reads a channel group.

    Attributes:
        layer: Name of the layer.
        tensor: Name of its weight.
        positions: Positions on the weight's axis 1 by channel, `(C, q)`.
        shape: Shape of the dense weight.
        conv_groups: Into how many regressions the layer falls.
        sink: What takes an intercept, and with which sign; see `intercept_sink`. None if nothing can.
        norm: Name of the batch norm behind the layer, or None.
    """

    layer: str
    tensor: str
    positions: Tensor
    shape: tuple[int, ...]
    conv_groups: int
    sink: tuple[int, str] | None
    norm: str | None

    @property
    def values_a_channel(self) -> int:
        """How many weights one channel takes."""
        out, _, *kernel = self.shape
        return out * self.positions.shape[1] * prod(kernel)

    def layout(self, parts: Sequence[Tensor | None]) -> Tensor:
        """Joins the weights of the regressions, each `(w, q * kernel, O / groups)`, to `(O, w, q, *kernel)`."""
        joined = torch.cat([part for part in parts if part is not None], 2).permute(2, 0, 1)
        return joined.reshape(*joined.shape[:2], self.positions.shape[1], *self.shape[2:]).contiguous().cpu()


def read_cuts(model: nn.Module, structure: ModelStructure, group: ChannelGroup) -> list[ReadCut]:
    """Returns how the convolutions and linear layers read a group; other readers are left without refit."""
    norms = {layer.weight: layer.batch_norm for layer in structure.layers}
    found = []
    for cut in group.cuts:
        layer, _, attribute = cut.tensor.rpartition(".")
        module = model.get_submodule(layer)
        if cut.role != "read" or cut.axis != 1 or attribute != "weight" or not is_reader(module):
            continue
        norm = norms.get(cut.tensor)
        sink = intercept_sink(model, layer, norm)
        positions, shape = torch.tensor(cut.positions), tuple(module.weight.shape)
        found.append(ReadCut(layer, cut.tensor, positions, shape, conv_groups(module), sink, norm))
    return found


def group_regressions(model: nn.Module, cut: ReadCut, gram: Gram, scale_outputs: bool) -> list[Regression]:
    """Sets up the regressions of one reader: one, or one for each group of a grouped convolution.

    Args:
        model: The dense network.
        cut: How the reader reads the channel group.
        gram: Second moments of the reader's input.
        scale_outputs: Whether errors count by the scale of the batch norm behind the reader.
    """
    module = model.get_submodule(cut.layer)
    assert isinstance(module, READER_TYPES)
    kernel = prod(cut.shape[2:])
    positions = cut.positions.to(gram.mean.device)
    features = (positions[:, :, None] * kernel + torch.arange(kernel, device=positions.device)).flatten()
    weights = module.weight.detach().flatten(1).chunk(cut.conv_groups)
    scales = _output_scale(model, cut, module).chunk(cut.conv_groups) if scale_outputs else None
    return [
        Regression(
            gram=gram.matrix[part][features][:, features] if gram.full else _join(gram.matrix[part], positions),
            mean=gram.mean[part][features],
            weight=weights[part].T[features],
            positions=positions.shape[1] * kernel,
            intercept=cut.sink is not None,
            scale=None if scales is None else scales[part],
            scarcity=len(features) / gram.rows,
        )
        for part in range(cut.conv_groups)
    ]


def _join(blocks: Tensor, positions: Tensor) -> Tensor:
    """Joins diagonal blocks `(positions, k, k)` to one block a channel, `(C, q * k, q * k)`, zero between positions."""
    count, kernel = positions.shape[1], blocks.shape[-1]
    joined = blocks.new_zeros(len(positions), count, kernel, count, kernel)
    place = torch.arange(count, device=blocks.device)
    joined[:, place, :, place] = blocks[positions].transpose(0, 1)
    return joined.flatten(3).flatten(1, 2)


def _output_scale(model: nn.Module, cut: ReadCut, module: Reader) -> Tensor:
    """Returns the scale that the batch norm behind a reader gives its outputs, relative to their mean; else ones."""
    norm = model.get_submodule(cut.norm) if cut.norm else None
    scale = output_scale(norm, module.weight.shape[0]).to(module.weight.device).float()
    return scale / scale.mean().clamp_min(1e-12)

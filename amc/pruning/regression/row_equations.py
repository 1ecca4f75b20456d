"""The normal equations of a dense layer, whose target is its own output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amc.pruning.batch_norm import is_batch_norm, output_scale
from amc.pruning.regression.damping import damping_of
from amc.pruning.regression.least_squares import NormalEquations
from amc.pruning.regression.patches import READER_TYPES, reader_of
from amc.pruning.regression.statistics import Gram
from amc.runtime.call import tensor_of
from amc.structure import LayerSpec


def row_equations(model: nn.Module, layer: LayerSpec, gram: Gram | None, ridge: float) -> NormalEquations | None:
    """Sets up the normal equations of a layer from the second moments of its input.

    Args:
        model: The dense network.
        layer: The layer.
        gram: Second moments of what it reads; None if it is no product of a whole weight with its input.
        ridge: See `damping_of`; features per row are added.

    Returns:
        The equations, whose solution is the dense weight; None where the whole Gram matrix is not known, or the layer's
        weight is not its own.
    """
    module = reader_of(model, layer.name)
    is_own = module is None or layer.weight == f"{layer.name}.weight"
    if gram is None or not gram.full or not is_own:
        return None
    intercept = intercept_sink(model, layer.name, layer.batch_norm) is not None
    matrix, mean = gram.matrix.double(), gram.mean.double()
    if intercept:
        matrix = matrix - mean[:, :, None] * mean[:, None]
    weight = tensor_of(model, layer.weight).double().reshape(len(matrix), -1, matrix.shape[1])
    scarcity = matrix.shape[1] / gram.rows
    damping = damping_of(ridge + scarcity, gram.matrix.double(), mean if intercept else None)
    regular = matrix + damping[:, None, None] * torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    means = (weight @ mean[:, :, None])[:, :, 0]
    return NormalEquations(regular, weight @ regular, mean, means, intercept, lambda _: weight)


def intercept_sink(model: nn.Module, layer: str, norm: str | None) -> tuple[int, str] | None:
    """Returns what takes a constant that is added to a layer's outputs: a sign and the tensor's name.

    The bias takes it as it is, that of attention for its input projections, and the running mean of the batch norm
    behind the layer with the opposite sign; None if there is neither.

    Args:
        model: The network.
        layer: Name of the layer.
        norm: Name of the batch norm behind it, or None.
    """
    module = dict(model.named_modules()).get(layer)
    if isinstance(module, READER_TYPES) and module.bias is not None:
        return 1, f"{layer}.bias"
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_bias is not None:
        return 1, f"{layer}.in_proj_bias"
    if norm is not None and is_batch_norm(model.get_submodule(norm)):
        return -1, f"{norm}.running_mean"
    return None


def output_importance(model: nn.Module, layer: LayerSpec) -> Tensor:
    """Returns what a squared error of each output counts behind the layer's batch norm, `(O,)`; ones without."""
    weight = tensor_of(model, layer.weight)
    norm = model.get_submodule(layer.batch_norm) if layer.batch_norm else None
    return output_scale(norm, len(weight)).to(weight.device, torch.float64).square()

"""Rows of the linear regression that a convolution or a linear layer computes.

Both kinds of layer compute `y = x @ W + b` for every output position, where x is the unfolded patch under the
kernel. These helpers pick output positions and lay out x and y for them.
"""

from __future__ import annotations

from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

Reader: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d
READER_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d)


def is_reader(module: nn.Module | None) -> TypeGuard[Reader]:
    """Returns whether a module is a convolution or a linear layer and nothing more.

    Subclasses that pad their input, or compute their weight, are no regression of the output on the input.
    """
    return isinstance(module, READER_TYPES) and type(module).forward in {kind.forward for kind in READER_TYPES}


def reader_of(model: nn.Module, layer: str) -> Reader | None:
    """Returns the convolution or linear layer of a name.

    None where the name is of another module, such as attention or an embedding, or of a parameter that a network uses
    without a module.
    """
    module = dict(model.named_modules()).get(layer)
    return module if is_reader(module) else None


def conv_groups(module: Reader) -> int:
    """Returns into how many independent regressions a layer falls: the groups of a convolution, else 1."""
    return 1 if isinstance(module, nn.Linear) else module.groups


def sample_rows(total: int, limit: int, generator: torch.Generator) -> Tensor | None:
    """Draws output positions without replacement.

    Args:
        total: How many positions there are.
        limit: How many to take at most.
        generator: Source of randomness, on the CPU.

    Returns:
        Sorted positions, shape `(limit,)`, or None where all are taken.
    """
    if total <= limit:
        return None
    if total > 8 * limit:  # a permutation of millions costs more than the few doubles among as many draws
        drawn: Tensor = torch.unique(torch.randint(total, (limit + limit // 4,), generator=generator))
        return drawn[torch.randperm(len(drawn), generator=generator)[:limit]].sort().values
    return torch.randperm(total, generator=generator)[:limit].sort().values


def output_rows(output: Tensor, module: Reader, rows: Tensor | None) -> Tensor:
    """Lays out a layer's output one position per row.

    Args:
        output: Output of the layer, or anything of its shape: `(N, O, H, W)`, `(N, O, L)`, or `(..., O)` for a
            linear layer.
        module: The layer.
        rows: Positions to take, as from `sample_rows`; None for all.

    Returns:
        Shape `(rows, O)`.
    """
    if not isinstance(module, nn.Linear):
        output = output.movedim(1, -1)
    if rows is None or output.is_contiguous():
        flat = output.reshape(-1, output.shape[-1])
        return flat if rows is None else flat[rows.to(flat.device)]
    return output[torch.unravel_index(rows.to(output.device), output.shape[:-1])]


def input_rows(inputs: Tensor, output_size: tuple[int, ...], module: Reader, rows: Tensor | None) -> Tensor:
    """Lays out the patches that a layer reads, one output position a row.

    Args:
        inputs: Input of the layer: `(N, C, H, W)`, `(N, C, L)`, or `(..., C)` for a linear layer.
        output_size: Height and width (or length) of the output that it yields; not looked at for a linear layer.
        module: The layer.
        rows: Output positions to take, as from `sample_rows`; None for all.

    Returns:
        Shape `(groups, rows, C / groups * kernel positions)`, features in the order of `weight.flatten(1)`.
    """
    if isinstance(module, nn.Linear):
        flat = inputs.reshape(-1, inputs.shape[-1])
        return (flat if rows is None else flat[rows.to(flat.device)]).unsqueeze(0)
    padded, kernel, stride, dilation = _as_2d(_pad(inputs, module), module)
    height, width = _as_hw(output_size)
    if rows is None:
        rows = torch.arange(padded.shape[0] * height * width)
    rows = rows.to(padded.device)
    image, y, x = rows // (height * width), rows // width % height, rows % width
    ky = torch.arange(kernel[0], device=rows.device) * dilation[0]
    kx = torch.arange(kernel[1], device=rows.device) * dilation[1]
    across = padded.shape[3]
    corners = (image * padded.shape[2] + y * stride[0]) * across + x * stride[1]
    places = corners[:, None] + (ky[:, None] * across + kx).flatten()
    pixels = padded.permute(0, 2, 3, 1).reshape(-1, padded.shape[1])
    patches = pixels.index_select(0, places.flatten())  # several times as fast as indices along every axis
    by_group = patches.reshape(len(rows), places.shape[1], module.groups, -1)  # (rows, kh * kw, groups, C / groups)
    return by_group.permute(2, 0, 3, 1).flatten(2)


def _pad(inputs: Tensor, module: nn.Conv1d | nn.Conv2d) -> Tensor:
    """Pads as the convolution does."""
    sizes: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):  # functional.pad takes the last axis first
        if isinstance(module.padding, str):
            total = module.dilation[axis] * (module.kernel_size[axis] - 1) if module.padding == "same" else 0
            sizes += [total // 2, total - total // 2]
        else:
            sizes += [module.padding[axis]] * 2
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, sizes, mode=mode) if any(sizes) else inputs


def _as_2d(
    inputs: Tensor, module: nn.Conv1d | nn.Conv2d
) -> tuple[Tensor, tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Views a one-dimensional convolution as a two-dimensional one of height one."""
    if inputs.dim() == 3:
        inputs = inputs.unsqueeze(2)
    return inputs, _as_hw(module.kernel_size), _as_hw(module.stride), _as_hw(module.dilation)


def _as_hw(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Completes `(L,)` to `(1, L)`."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])

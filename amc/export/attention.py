"""Attention over other than four axes, which PyTorch's ONNX exporter refuses, as attention over four."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def with_attention_over_four_axes(program: ExportedProgram) -> ExportedProgram:
    """Returns a graph in which every fused attention reads `(N, heads, L, E)`; the graph itself where all do already.

    Windows of tokens as an axis of their own (NesT) and heads that are part of the batch (SAM) are moved into it.
    """
    attentions = [node for node in program.graph.nodes if node.target is _ATTENTION]
    if all(node.args[0].meta["val"].dim() == 4 for node in attentions):
        return program
    changed: ExportedProgram = program.run_decompositions({_ATTENTION: _over_four_axes})
    return changed


def _over_four_axes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Any:
    """Computes attention by one over four axes, with the arguments of `scaled_dot_product_attention`.

    Returns:
        The output; `NotImplemented`, which keeps the operator, where there are four axes already.
    """
    if query.dim() == 4:
        return NotImplemented
    leading = query.shape[:-2]
    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = _on_four_axes(attn_mask.expand(*leading, -1, -1))
    outer = torch.broadcast_shapes(*(tensor.shape[:-3] for tensor in (query, key, value)))  # type: ignore[no-untyped-call]
    inputs = [_on_four_axes(tensor.expand(*outer, *tensor.shape[-3:])) for tensor in (query, key, value)]
    output = _ATTENTION(*inputs, attn_mask, dropout_p, is_causal, **options)
    return output.reshape(*leading, *output.shape[-2:])


def _on_four_axes(tensor: Tensor) -> Tensor:
    return tensor[:, None] if tensor.dim() == 3 else tensor.flatten(0, -4)

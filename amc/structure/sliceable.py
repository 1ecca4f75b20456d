"""Attention modules that can lose heads.

PyTorch's and torchvision's attention modules count on their width being that of the residual stream. The twins here
hold the same parameters under the same names and compute the same, but take every size from `num_heads` and the
width of one head, so that a cut is a matter of smaller tensors and a smaller `num_heads`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SliceableMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose heads can be cut (self-attention form: one packed input projection)."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Computes attention; arguments and results are those of `nn.MultiheadAttention.forward`."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        heads = [self._split_heads(tensor) for tensor in self._project(query, key, value)]
        mask = self._mask(key_padding_mask, attn_mask, query, key)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = heads[0] @ heads[1].transpose(-2, -1) * self.head_dim**-0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = functional.dropout(weights, dropout) @ heads[2]
        else:
            causal = is_causal and attn_mask is None
            mixed = functional.scaled_dot_product_attention(*heads, mask, dropout, causal)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        weights = weights.mean(1) if average_attn_weights else weights
        return output, weights if batched else weights.squeeze(0)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Projects to packed heads, in one product for self-attention as the original does."""
        if query is key and key is value:
            packed = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
            return list(packed.chunk(3, dim=-1))
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [functional.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _split_heads(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(tensor.shape[0], tensor.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, padding: Tensor | None, mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
        """Joins both masks into one that is added to the scores, `(batch, heads or 1, target, source)`."""
        merged = None if mask is None else _additive(mask, query.dtype)
        if merged is not None and merged.dim() == 3:
            merged = merged.reshape(query.shape[0], -1, query.shape[1], key.shape[1])
        if padding is not None:
            added = _additive(padding, query.dtype).reshape(query.shape[0], 1, 1, key.shape[1])
            merged = added if merged is None else merged + added
        return merged


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turns a boolean mask (True: ignore) into one that is added."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


def _sliceable_multihead(module: nn.MultiheadAttention) -> None:
    if module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn:
        module.__class__ = SliceableMultiheadAttention
        # PyTorch would otherwise run whole encoder layers as one operator that knows nothing of the twin.
        module._qkv_same_embed_dim = False


def make_sliceable(model: nn.Module) -> None:
    """Replaces, in place, attention modules by twins that compute the same and can lose heads.

    Args:
        model: The network; parameters, their names and what the network computes stay the same.
    """
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            _sliceable_multihead(module)
        elif type(module).__module__.startswith("torchvision."):
            from amc.structure.sliceable_vision import make_sliceable_vision

            make_sliceable_vision(module)

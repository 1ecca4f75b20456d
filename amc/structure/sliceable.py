"""Attention modules that can lose heads.

PyTorch's and torchvision's attention modules assume that their width is that of the residual stream. The twins here
hold the same parameters under the same names and compute the same result, but derive every size from `num_heads` and
the width of one head, so that a cut is a matter of smaller tensors and a smaller `num_heads`. Encoders of PyTorch keep
padding instead of making nested tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class SliceableMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose heads can be cut (self-attention form: one packed input projection)."""

    def forward(
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
            query, key, value = _each(lambda tensor: tensor.unsqueeze(0), query, key, value)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = _each(lambda tensor: tensor.transpose(0, 1), query, key, value)
        heads = [self._split_heads(tensor) for tensor in self._project(query, key, value)]
        mask = self._mask(key_padding_mask, attn_mask, query, key)
        weights = None
        if need_weights:
            mixed, weights = self._weighted(heads[0], heads[1], heads[2], mask)
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            causal = is_causal and attn_mask is None
            dropout = self.dropout if self.training else 0.0
            mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask, dropout, causal)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        return output, weights

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

    def _weighted(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attends by plain products, so that the weights can be returned; the same operators as the original's."""
        query, key, value = _each(lambda tensor: tensor.flatten(0, 1), query * self.head_dim**-0.5, key, value)
        if mask is None:
            scores = torch.bmm(query, key.transpose(1, 2))
        else:
            batch = query.shape[0] // self.num_heads
            mask = mask.expand(batch, self.num_heads, query.shape[1], key.shape[1]).flatten(0, 1)
            scores = torch.baddbmm(mask, query, key.transpose(1, 2))
        weights = functional.dropout(torch.softmax(scores, dim=-1), self.dropout, self.training)
        mixed = torch.bmm(weights, value)
        mixed, weights = (t.reshape(-1, self.num_heads, *t.shape[1:]) for t in (mixed, weights))
        return mixed, weights

    def _mask(self, padding: Tensor | None, mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
        """Joins both masks into one that is added to the scores, `(batch or 1, heads or 1, target, source)`."""
        merged = None if mask is None else _additive(mask, query.dtype)
        if merged is not None:
            leading = (query.shape[0], -1) if merged.dim() == 3 else (1, 1)
            merged = merged.reshape(*leading, query.shape[1], key.shape[1])
        if padding is not None:
            added = _additive(padding, query.dtype).reshape(query.shape[0], 1, 1, key.shape[1])
            merged = added if merged is None else merged + added
        return merged


def _each(change: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """Applies a change to all three, to a tensor that is given several times only once."""
    changed = {id(tensor): tensor for tensor in (query, key, value)}
    changed = {name: change(tensor) for name, tensor in changed.items()}
    return changed[id(query)], changed[id(key)], changed[id(value)]


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


class PaddedTransformerEncoder(nn.TransformerEncoder):
    """`nn.TransformerEncoder` that computes on padded sequences where the original makes nested tensors of them.

    Nested tensors have no shapes to look at, and the twins of attention cannot take them.
    """

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Encodes; arguments and results are those of `nn.TransformerEncoder.forward`."""
        output = src
        for layer in self.layers:
            output = layer(output, mask, src_key_padding_mask, bool(is_causal))
        if src_key_padding_mask is not None and mask is None and self._would_be_nested(src):
            output = _zero_where_padded(output, src_key_padding_mask)
        return output if self.norm is None else self.norm(output)

    def _would_be_nested(self, src: Tensor) -> bool:
        first = self.layers[0]
        if first.training or src.dim() != 3 or torch.is_autocast_enabled(src.device.type):
            return False
        return not (torch.is_grad_enabled() and any(weight.requires_grad for weight in first.parameters()))


def _zero_where_padded(output: Tensor, padding: Tensor) -> Tensor:
    """Sets padded places to zero, as a nested tensor leaves them, if all padding is at the end; else nothing."""
    valid = padding.logical_not()
    at_end = (valid[:, :-1] | ~valid[:, 1:]).all()
    return output.masked_fill((~valid & at_end)[..., None], 0.0)


def _padded_encoder(module: nn.TransformerEncoder) -> None:
    if module.use_nested_tensor and type(module) is nn.TransformerEncoder:
        module.__class__ = PaddedTransformerEncoder
    module.use_nested_tensor = False


def make_sliceable(model: nn.Module) -> None:
    """Replaces, in place, attention modules by twins that compute the same and can lose heads.

    Args:
        model: The network; parameters, their names and what the network computes stay the same.
    """
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            _sliceable_multihead(module)
        elif isinstance(module, nn.TransformerEncoder):
            _padded_encoder(module)
        elif type(module).__module__.startswith("torchvision."):
            from amc.structure.sliceable_vision import make_sliceable_vision

            make_sliceable_vision(module)

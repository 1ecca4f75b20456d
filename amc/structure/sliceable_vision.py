"""Twins of torchvision's window and grid attention that can lose heads; see `sliceable`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2


class _SliceableWindows:
    """What both versions of Swin's attention share: windows, shifts and the mask between regions."""

    window_size: list[int]
    shift_size: list[int]
    num_heads: int
    head_width: int
    training: bool
    attention_dropout: float
    dropout: float
    qkv: nn.Linear
    proj: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Computes window attention on `(N, H, W, C)`, as torchvision's `shifted_window_attention` does."""
        height, width = x.shape[1:3]
        tall, wide = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % wide, 0, -height % tall))
        rows, columns = x.shape[1] // tall, x.shape[2] // wide
        shifts = [0 if w >= size else s for w, size, s in zip((tall, wide), x.shape[1:3], self.shift_size, strict=True)]
        if any(shifts):
            x = torch.roll(x, (-shifts[0], -shifts[1]), (1, 2))
        windows = x.view(x.shape[0], rows, tall, columns, wide, x.shape[3]).permute(0, 1, 3, 2, 4, 5)
        windows = self._attend(windows.reshape(-1, tall * wide, x.shape[3]), self._region_mask(x, shifts))
        x = windows.view(x.shape[0], rows, columns, tall, wide, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(x.shape[0], rows * tall, columns * wide, windows.shape[-1])
        if any(shifts):
            x = torch.roll(x, (shifts[0], shifts[1]), (1, 2))
        return x[:, :height, :width, :].contiguous()

    def _attend(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attends within windows `(N * windows, positions, C)`."""
        batch, positions, _ = windows.shape
        packed = functional.linear(windows, self.qkv.weight, self._qkv_bias())
        query, key, value = (
            part.reshape(batch, positions, self.num_heads, self.head_width).transpose(1, 2)
            for part in packed.chunk(3, dim=-1)
        )
        scores = self._scores(query, key) + self.get_relative_position_bias()  # type: ignore[attr-defined]
        if mask is not None:
            count = mask.shape[0]
            scores = scores.view(batch // count, count, self.num_heads, positions, positions)
            scores = (scores + mask.unsqueeze(1).unsqueeze(0)).view(-1, self.num_heads, positions, positions)
        weights = functional.dropout(torch.softmax(scores, dim=-1), self.attention_dropout, self.training)
        mixed = weights.matmul(value).transpose(1, 2).reshape(batch, positions, -1)
        projected: Tensor = self.proj(mixed)
        return functional.dropout(projected, self.dropout, self.training)

    def _qkv_bias(self) -> Tensor | None:
        return self.qkv.bias

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores: Tensor = (query * self.head_width**-0.5).matmul(key.transpose(-2, -1))
        return scores

    def _region_mask(self, x: Tensor, shifts: list[int]) -> Tensor | None:
        """Returns -100 between positions that the shift brought together, `(windows, positions, positions)`."""
        if not any(shifts):
            return None
        (tall, wide), (height, width) = self.window_size, x.shape[1:3]
        row_regions, column_regions = (
            torch.bucketize(torch.arange(size, device=x.device), torch.tensor(edges, device=x.device), right=True)
            for size, edges in (
                (height, (height - tall, height - shifts[0])),
                (width, (width - wide, width - shifts[1])),
            )
        )
        regions = row_regions[:, None] * 3 + column_regions[None, :]
        regions = regions.view(height // tall, tall, width // wide, wide).permute(0, 2, 1, 3).reshape(-1, tall * wide)
        return (regions.unsqueeze(1) != regions.unsqueeze(2)).to(x.dtype) * -100.0


class SliceableWindowAttention(_SliceableWindows, ShiftedWindowAttention):  # type: ignore[misc]
    """Swin's attention whose heads can be cut."""


class SliceableWindowAttentionV2(_SliceableWindows, ShiftedWindowAttentionV2):  # type: ignore[misc]
    """Swin V2's cosine attention whose heads can be cut."""

    def _qkv_bias(self) -> Tensor | None:
        bias: Tensor | None = getattr(self.qkv, "bias", None)
        if bias is None:
            return None
        query, key, value = bias.chunk(3)
        return torch.cat([query, key * 0.0, value])

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        cosine = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-2, -1)
        return cosine * torch.clamp(self.logit_scale, max=math.log(100.0)).exp()


class SliceableRelativeAttention(RelativePositionalMultiHeadAttention):  # type: ignore[misc]
    """MaxViT's attention whose heads can be cut; plain products in place of `einsum`, which fvcore counts roughly."""

    def forward(self, x: Tensor) -> Tensor:
        """Attends within partitions `(B, G, P, D)`: batch, partitions, positions, channels."""
        batch, groups, positions, _ = x.shape
        query, key, value = (
            part.reshape(batch, groups, positions, self.n_heads, self.head_dim).permute(0, 1, 3, 2, 4)
            for part in torch.chunk(self.to_qkv(x), 3, dim=-1)
        )
        scores = query @ (key * self.scale_factor).transpose(-2, -1)
        weights = torch.softmax(scores + self.get_relative_positional_bias(), dim=-1)
        merged: Tensor = self.merge((weights @ value).permute(0, 1, 3, 2, 4).reshape(batch, groups, positions, -1))
        return merged


def make_sliceable_vision(module: nn.Module) -> None:
    """Turns one of torchvision's attention modules into its twin, in place; leaves other modules alone."""
    twins: dict[type, type] = {
        ShiftedWindowAttention: SliceableWindowAttention,
        ShiftedWindowAttentionV2: SliceableWindowAttentionV2,
        RelativePositionalMultiHeadAttention: SliceableRelativeAttention,
    }
    twin = twins.get(type(module))
    if twin is None:
        return
    if isinstance(module, ShiftedWindowAttention):
        module.head_width = module.qkv.in_features // module.num_heads
    module.__class__ = twin

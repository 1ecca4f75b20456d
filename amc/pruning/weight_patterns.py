"""Patterns of weight pruning: which sets of weights may be zero together.

A pattern turns the scores of single weights into an order in which whole units of the pattern go, so that the weights
that stay at any allowed count keep to it. Weights are seen as matrices of outputs by inputs, one for each place of the
kernel, which is how kernels for sparse weights read them; `amc.structure.weight_axes` rearranges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from amc.pruning.masks import ranks
from amc.utils.registry import Registry


class WeightPattern(Protocol):
    """Which sets of a layer's weights stay or go together."""

    def step(self, shape: tuple[int, ...]) -> int | None:
        """Returns of what the kept weights of a layer must be a multiple; None if the pattern does not fit it.

        Args:
            shape: Shape of the weight as a matrix, `(O, C, *kernel)` or `(O, C)`.
        """

    def ranks(self, scores: Tensor) -> Tensor:
        """Ranks the weights of a layer that the pattern fits.

        Args:
            scores: In that shape; higher stays.

        Returns:
            The place of every weight, from 0, int32 of the same shape: at any multiple of `step`, the weights of a rank
            below it keep to the pattern.
        """


WEIGHT_PATTERNS: Registry[WeightPattern] = Registry("pattern", "amc.weight_patterns")
"""The patterns by name."""


@dataclass(frozen=True)
class Unstructured:
    """Every weight for itself."""

    def step(self, shape: tuple[int, ...]) -> int:
        """Returns 1; see `WeightPattern`."""
        return 1

    def ranks(self, scores: Tensor) -> Tensor:
        """Ranks by the scores; see `WeightPattern`."""
        return ranks(scores)


@dataclass(frozen=True)
class NOfM:
    """Of every M consecutive inputs of an output, at one place of the kernel, N stay or all (Mishra, arXiv:2104.08378).

    A layer whose inputs are not a multiple of M stays dense. As pruned layers all keep the same share, what is left to
    decide is which layers are pruned.

    Attributes:
        kept: N, a divisor of M.
        window: M.
    """

    kept: int
    window: int

    def step(self, shape: tuple[int, ...]) -> int | None:
        """Returns the weights of a pruned layer; see `WeightPattern`."""
        return prod(shape) // self.window * self.kept if shape[1] % self.window == 0 else None

    def ranks(self, scores: Tensor) -> Tensor:
        """Ranks by the place within the window, and by the scores among those of one place; see `WeightPattern`."""
        rows = scores.movedim(1, -1)
        windows = rows.reshape(-1, self.window)
        order = windows.argsort(dim=1, descending=True, stable=True)
        places = torch.empty_like(order).scatter_(1, order, torch.arange(self.window).expand_as(order).to(order))
        by_score = ranks(windows).long()
        return ranks(-(places * windows.numel() + by_score)).reshape(rows.shape).movedim(-1, 1).contiguous()


@dataclass(frozen=True)
class Blocks:
    """Blocks of neighbouring weights stay or go whole, by the sum of their scores.

    A layer whose outputs or inputs are not a multiple of the block's stays dense.

    Attributes:
        outputs: Outputs of a block.
        inputs: Inputs of a block.
        kernel: Whether a block takes all places of the kernel, or one.
    """

    outputs: int = 1
    inputs: int = 1
    kernel: bool = False

    def step(self, shape: tuple[int, ...]) -> int | None:
        """Returns the weights of a block; see `WeightPattern`."""
        if shape[0] % self.outputs or shape[1] % self.inputs:
            return None
        return self.outputs * self.inputs * (prod(shape[2:]) if self.kernel else 1)

    def ranks(self, scores: Tensor) -> Tensor:
        """Ranks the blocks, and the weights of each one after the other; see `WeightPattern`."""
        shape, places = tuple(scores.shape), prod(scores.shape[2:])
        # The axes of one block last: outputs, inputs and, where a block takes all of them, the places of the kernel.
        split = (shape[0] // self.outputs, self.outputs, shape[1] // self.inputs, self.inputs, places)
        axes = (0, 2, 1, 3, 4) if self.kernel else (0, 2, 4, 1, 3)
        blocks = scores.reshape(split).permute(axes)
        outer = blocks.shape[: 2 if self.kernel else 3]
        size = self.outputs * self.inputs * (places if self.kernel else 1)
        flat = blocks.reshape(-1, size)
        first = ranks(flat.double().sum(1)).to(torch.int32) * size
        placed = first[:, None] + torch.arange(size, dtype=torch.int32, device=scores.device)
        back = [axes.index(axis) for axis in range(5)]
        return placed.reshape(*outer, *blocks.shape[len(outer) :]).permute(back).reshape(shape)


_HERE = "amc.pruning.weight_patterns"
UNSTRUCTURED = Unstructured()
TWO_OF_FOUR, FOUR_OF_EIGHT = NOfM(2, 4), NOfM(4, 8)
ONE_BY_FOUR, FOUR_BY_FOUR, WHOLE_KERNELS = Blocks(1, 4), Blocks(4, 4), Blocks(kernel=True)
WEIGHT_PATTERNS.register("unstructured", f"{_HERE}:UNSTRUCTURED", "every weight for itself")
WEIGHT_PATTERNS.register("2of4", f"{_HERE}:TWO_OF_FOUR", "of four neighbouring inputs two stay, or the layer is dense")
WEIGHT_PATTERNS.register("4of8", f"{_HERE}:FOUR_OF_EIGHT", "of eight neighbouring inputs four, or the layer is dense")
WEIGHT_PATTERNS.register("1x4", f"{_HERE}:ONE_BY_FOUR", "blocks of one output and four inputs")
WEIGHT_PATTERNS.register("4x4", f"{_HERE}:FOUR_BY_FOUR", "blocks of four outputs and four inputs")
WEIGHT_PATTERNS.register("kernel", f"{_HERE}:WHOLE_KERNELS", "whole kernels: one output, one input, all places")

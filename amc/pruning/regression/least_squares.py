"""The least-squares problem of one layer, from rows of its input and a target for its output."""

from __future__ import annotations

import torch
from torch import Tensor

from amc.pruning.regression.patches import Reader, conv_groups


class Moments:
    """Sums the first and second moments of a layer's input rows and their products with a target.

    Sums run in float32 on rows shifted by the mean of the first ones, the solution in float64.
    """

    def __init__(self, module: Reader) -> None:
        """Starts empty."""
        self._module = module
        self._groups = conv_groups(module)
        self._rows = 0
        self._shift: Tensor | None = None
        self._target_shift: Tensor | None = None

    def add(self, features: Tensor, target: Tensor) -> None:
        """Adds rows.

        Args:
            features: As `amc.pruning.regression.patches.input_rows` lays them out, `(groups, rows, d)`.
            target: `(rows, O)`.
        """
        features = features.float()
        target = target.float().reshape(len(target), self._groups, -1).transpose(0, 1)
        if self._shift is None or self._target_shift is None:
            self._shift, self._target_shift = features.mean(1, keepdim=True), target.mean(1, keepdim=True)
            groups, _, size = features.shape
            self._gram = features.new_zeros(groups, size, size, dtype=torch.float64)
            self._cross = features.new_zeros(groups, size, target.shape[2], dtype=torch.float64)
            self._sum = features.new_zeros(groups, size, dtype=torch.float64)
            self._target_sum = features.new_zeros(groups, target.shape[2], dtype=torch.float64)
        features, target = features - self._shift, target - self._target_shift
        self._gram += features.transpose(1, 2) @ features
        self._cross += features.transpose(1, 2) @ target
        self._sum += features.sum(1)
        self._target_sum += target.sum(1)
        self._rows += len(target[0])

    @property
    def scarcity(self) -> float:
        """Features per row: a ridge of this order keeps few rows from being overfitted."""
        return self._sum.shape[1] / max(self._rows, 1)

    def solve(self, ridge: float, intercept: bool) -> tuple[Tensor, Tensor]:
        """Minimises `|X W + b - T|^2 / rows + ridge * |W - W_now|^2`.

        Args:
            ridge: Relative to the mean of the features' second moments.
            intercept: Whether b may differ from zero.

        Returns:
            The weight in the layer's own shape, and b, `(O,)`.
        """
        assert self._shift is not None
        assert self._target_shift is not None
        mean, target_mean = self._sum / self._rows, self._target_sum / self._rows
        gram = self._gram / self._rows - mean[:, :, None] * mean[:, None]
        cross = self._cross / self._rows - mean[:, :, None] * target_mean[:, None]
        mean, target_mean = mean + self._shift[:, 0], target_mean + self._target_shift[:, 0]
        if not intercept:
            gram = gram + mean[:, :, None] * mean[:, None]
            cross = cross + mean[:, :, None] * target_mean[:, None]
        shape = self._module.weight.shape
        now = self._module.weight.detach().double().reshape(self._groups, shape[0] // self._groups, -1).transpose(1, 2)
        damping = ridge * gram.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(torch.float32).tiny
        regular = gram + damping[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        factor = torch.linalg.cholesky(regular)
        weight = now + torch.cholesky_solve(cross - gram @ now, factor)
        constant = target_mean - (mean[:, None] @ weight)[:, 0] if intercept else torch.zeros_like(target_mean)
        return weight.transpose(1, 2).reshape(shape).float(), constant.flatten().float()

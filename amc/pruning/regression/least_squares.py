"""The least-squares problem of one layer, from rows of its input and a target for its output."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from amc.pruning.regression.damping import rounding_of
from amc.pruning.regression.patches import Reader, conv_groups
from amc.pruning.regression.row_moments import CrossMoments, RowMoments


@dataclass(frozen=True)
class NormalEquations:
    """The least-squares problem of one layer; a grouped convolution has one for each group.

    Weights are laid out as rows, one an output, with the features in the order of `weight.flatten(1)`. Other weights W
    cost `(W - solution) gram (W - solution)^T` more than the solution, for each output.

    Attributes:
        gram: Second moments of the features with the ridge, `(groups, d, d)`; centred where there is an intercept.
        right: The right side, which the solution times `gram` yields, `(groups, O / groups, d)`.
        mean: Mean features, `(groups, d)`.
        target_mean: Mean targets, `(groups, O / groups)`.
        intercept: Whether a constant may be added to every output.
        solve: Finds the solution for the right side.
    """

    gram: Tensor
    right: Tensor
    mean: Tensor
    target_mean: Tensor
    intercept: bool
    solve: Callable[[Tensor], Tensor]

    @cached_property
    def solution(self) -> Tensor:
        """The weights of least error, `(groups, O / groups, d)`; found when they are first asked for."""
        return self.solve(self.right)

    def error(self, weight: Tensor, importance: Tensor) -> float:
        """Returns how much more weights `(groups, O / groups, d)` cost than the solution.

        Args:
            weight: The weights.
            importance: What a squared error of each output counts, `(O,)`.
        """
        off = weight - self.solution
        return float(((off @ self.gram) * off).sum(2).flatten() @ importance.to(off))

    def constant(self, weight: Tensor) -> Tensor:
        """Returns the best constant, `(O,)`, for weights `(groups, O / groups, d)`; zeros without intercept."""
        if not self.intercept:
            return torch.zeros_like(self.target_mean).flatten()
        return (self.target_mean - (weight @ self.mean[:, :, None])[:, :, 0]).flatten()


class Moments:
    """Sums the first and second moments of a layer's input rows and their products with a target.

    Sums run in float32 on rows shifted by the mean of the first ones, the solution in float64.
    """

    def __init__(self, module: Reader) -> None:
        """Starts empty."""
        self._module = module
        self._groups = conv_groups(module)
        self._own = RowMoments(dtype=torch.float64)
        self._cross = CrossMoments(dtype=torch.float64)
        self._shift: Tensor | None = None
        self._target_shift: Tensor | None = None
        self._system: _System | None = None

    def add(self, features: Tensor, target: Tensor) -> Tensor:
        """Adds rows.

        Args:
            features: As `amc.pruning.regression.patches.input_rows` lays them out, `(groups, rows, d)`.
            target: `(rows, O)`.

        Returns:
            The features as `shifted` returns them.
        """
        target = self._by_group(target)
        if self._shift is None or self._target_shift is None:
            self._shift, self._target_shift = features.float().mean(1, keepdim=True), target.mean(1, keepdim=True)
        shifted = self.shifted(features)
        self._own.add(shifted, shifted)
        self._cross.add(shifted, target - self._target_shift)
        self._system = None
        return shifted

    def shifted(self, features: Tensor) -> Tensor:
        """Returns features less the mean of those that were added first."""
        return features.float() - self.shift

    @property
    def shift(self) -> Tensor:
        """What is taken off the features, `(groups, 1, d)`."""
        assert self._shift is not None
        return self._shift

    def without_targets(self) -> Moments:
        """Returns a copy that knows the rows, and takes other targets for them by `add_target`.

        Equations that were set up before are not factored again for it.
        """
        other = copy.copy(self)
        other._cross = CrossMoments(dtype=torch.float64)
        return other

    def add_target(self, shifted: Tensor, target: Tensor) -> None:
        """Adds targets `(rows, O)` for rows that were added before, as `shifted` returns them."""
        assert self._target_shift is not None
        self._cross.add(shifted, self._by_group(target) - self._target_shift)

    def _by_group(self, target: Tensor) -> Tensor:
        """Returns a target as `(groups, rows, O / groups)`."""
        return target.float().reshape(len(target), self._groups, -1).transpose(0, 1)

    @property
    def scarcity(self) -> float:
        """Features per row: a ridge of this order keeps few rows from being overfitted."""
        return self._own.mean.shape[1] / self._own.rows

    def equations(self, ridge: float, intercept: bool) -> NormalEquations:
        """Sets up the minimisation of `|X W + b - T|^2 / rows + ridge * |W - W_now|^2`.

        Args:
            ridge: Relative to the mean of the features' second moments.
            intercept: Whether b may differ from zero.
        """
        assert self._target_shift is not None
        system = self._system
        if system is None or (system.ridge, system.intercept) != (ridge, intercept):
            rows = self._module.weight.detach().double()
            now = rows.reshape(self._groups, len(rows) // self._groups, -1)
            system = self._system = _System.of(self._own, self.shift, now, ridge, intercept)
        shifted, target_mean = self._own.mean, self._cross.other_mean
        cross = self._cross.products - shifted[:, :, None] * target_mean[:, None]
        target_mean = target_mean + self._target_shift[:, 0]
        if not intercept:
            cross = cross + system.mean[:, :, None] * target_mean[:, None]
        right = cross.transpose(1, 2) + system.damping[:, None, None] * system.now
        return NormalEquations(system.gram, right, system.mean, target_mean, intercept, system.solve)


@dataclass(frozen=True)
class _System:
    """The left side of the normal equations.

    Attributes:
        ridge: Relative to the mean of the features' second moments.
        intercept: Whether a constant may be added to every output.
        mean: Mean features, `(groups, d)`.
        gram: Second moments of the features with the ridge, `(groups, d, d)`; centred where there is an intercept.
        damping: The ridge, `(groups,)`.
        now: The weights that the ridge draws toward, `(groups, O / groups, d)`.
    """

    ridge: float
    intercept: bool
    mean: Tensor
    gram: Tensor
    damping: Tensor
    now: Tensor

    @cached_property
    def _factor(self) -> Tensor:
        """Its Cholesky factor, for any number of right sides."""
        factor: Tensor = torch.linalg.cholesky(self.gram)
        return factor

    def solve(self, right: Tensor) -> Tensor:
        """Returns the weights whose product with the matrix is the right side, both `(groups, O / groups, d)`."""
        return torch.cholesky_solve(right.transpose(1, 2), self._factor).transpose(1, 2)

    @classmethod
    def of(cls, rows: RowMoments, shift: Tensor, now: Tensor, ridge: float, intercept: bool) -> _System:
        """Sets it up from the moments of rows that were shifted, `(groups, 1, d)`."""
        shifted = rows.mean
        gram = rows.products - shifted[:, :, None] * shifted[:, None]
        mean = shifted + shift[:, 0]
        power = (gram.diagonal(dim1=1, dim2=2) + mean.square()).mean(1)
        if not intercept:
            gram = gram + mean[:, :, None] * mean[:, None]
        relative = ridge * gram.diagonal(dim1=1, dim2=2).mean(1)
        damping = torch.maximum(relative, rounding_of(power)) + torch.finfo(torch.float32).tiny
        regular = gram + damping[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        return cls(ridge, intercept, mean, regular, damping, now)

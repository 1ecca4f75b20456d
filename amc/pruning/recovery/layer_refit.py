"""The refit of one layer: the regression of its output on what it reads, blind to what a rectifier hides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from amc.pruning.recovery.dense_targets import Job
from amc.pruning.regression.least_squares import Moments, NormalEquations
from amc.pruning.regression.patches import Reader, conv_groups, input_rows
from amc.pruning.regression.restricted import Restriction
from amc.runtime.batch_size import MOST

LayerSolver = Callable[[str, NormalEquations, Tensor], Tensor]
"""Chooses the weights of a layer, given its name, its normal equations, and what a squared error of each of its outputs
counts, `(O,)`; returns them as rows, `(groups, O / groups, d)`."""

_Part = tuple[slice, Tensor]
_Parts = Callable[[], Iterable[_Part]]

_HELD_BYTES = 1 << 28
"""Rows of a layer that take no more than this are held between passes."""
_TOWARD_DENSE = 0.05
"""Share of the way that hidden outputs are still drawn toward the dense network's."""


@dataclass(frozen=True)
class Floor:
    """What a rectifier behind a layer hides: outputs on the far side of a level all become zero.

    Attributes:
        level: The level, `(rows, O)` or `(O,)`.
        sign: 1 where the outputs below it are hidden, -1 where those above are, as behind a batch norm with a negative
            gain; 0 where none is. `(O,)`.
    """

    level: Tensor
    sign: Tensor

    def targets(self, place: slice, dense: Tensor, now: Tensor) -> Tensor:
        """Returns targets that leave hidden outputs where they are.

        Where the dense network's output is hidden, any hidden output is as good. One that is not hidden yet is to reach
        the level. (The auxiliary variables of Zhang et al. 2015, arXiv:1505.06798, section 3.2, for a relaxation that
        goes to infinity.)

        Args:
            place: Which of the rows these are.
            dense: What the dense network computes there, `(rows, O)`.
            now: What the layer computes there as refit so far, `(rows, O)`.
        """
        level = self.level if self.level.dim() == 1 else self.level[place]
        hidden = (dense - level) * self.sign < 0
        nearest = torch.where(self.sign > 0, torch.minimum(now, level), torch.maximum(now, level))
        return torch.where(hidden, torch.lerp(nearest.to(dense), dense, _TOWARD_DENSE), dense)


@dataclass(frozen=True)
class LayerProblem:
    """The regression of one layer.

    Attributes:
        job: The layer, and its rows.
        module: The layer in the pruned network; the ridge draws toward its weights.
        inputs: What it reads there, of all images.
        target: What it is to compute at the rows, `(rows, O)`.
        intercept: Whether a constant may be added to every output.
        floor: What a rectifier hides; None if no rectifier follows.
    """

    job: Job
    module: Reader
    inputs: Tensor
    target: Tensor
    intercept: bool
    floor: Floor | None = None

    def solve(self, ridge: float, importance: Tensor, solver: LayerSolver | None, passes: int) -> tuple[Tensor, Tensor]:
        """Returns the weights, `(groups, O / groups, d)`, and the constants, `(O,)`.

        Args:
            ridge: Relative to the mean of the Gram matrix's diagonal; features per row are added.
            importance: What a squared error of each output counts, `(O,)`.
            solver: Chooses the weights; those of least error if None. Which weights stay is decided once.
            passes: How often hidden outputs are let go, and the weights solved for again.
        """
        moments, parts = self._moments()
        ridge += moments.scarcity
        equations = moments.equations(ridge, self.intercept)
        weight = self._chosen(equations, importance, solver)
        constant = equations.constant(weight)
        if self.floor is None or not passes:
            return weight, constant
        restriction = None if solver is None else Restriction(equations.gram, weight != 0)
        last = (weight, constant)
        for number in range(passes):
            # Each pass is a step of the proximal gradient method on a convex problem, of which many would be needed:
            # Nesterov's momentum (as in FISTA, Beck and Teboulle 2009) does with few.
            ahead = number / (number + 3)
            reached = [now + ahead * (now - before) for now, before in zip((weight, constant), last, strict=True)]
            last = (weight, constant)
            equations = self._relaxed(moments, parts, *reached).equations(ridge, self.intercept)
            weight = equations.solution if restriction is None else restriction.of(equations)
            constant = equations.constant(weight)
        return weight, constant

    def _chosen(self, equations: NormalEquations, importance: Tensor, solver: LayerSolver | None) -> Tensor:
        """Returns the weights that the solver chooses, those of least error if there is none."""
        if solver is None:
            return equations.solution
        return solver(self.job.layer.name, equations, importance.to(equations.right))

    def _moments(self) -> tuple[Moments, _Parts]:
        """Returns the moments of all rows, and what yields the rows again, as `Moments.shifted` returns them.

        They are laid out once where all of them are few, else again in every pass.
        """
        values = len(self.job.rows) * self.module.weight[0].numel() * conv_groups(self.module)
        moments, held, are_few = Moments(self.module), list[_Part](), 4 * values <= _HELD_BYTES
        for place, features in self._laid_out():
            shifted = moments.add(features, self.target[place])
            if are_few:
                held.append((place, shifted))
        if are_few:
            return moments, lambda: held
        return moments, lambda: ((place, moments.shifted(features)) for place, features in self._laid_out())

    def _relaxed(self, moments: Moments, parts: _Parts, weight: Tensor, constant: Tensor) -> Moments:
        """Returns the moments with the targets that the floor allows these weights."""
        assert self.floor is not None
        moments = moments.without_targets()
        columns = weight.float().transpose(1, 2)
        base = (moments.shift @ columns).flatten() + constant.float()
        for place, shifted in parts():
            now = (shifted @ columns).transpose(0, 1).flatten(1) + base
            moments.add_target(shifted, self.floor.targets(place, self.target[place], now))
        return moments

    def _laid_out(self) -> Iterator[_Part]:
        for first in range(0, len(self.inputs), MOST):
            part = self.inputs[first : first + MOST]
            place, rows = self.job.rows_of(first, len(part))
            if len(rows):
                yield place, input_rows(part, self.job.output_size, self.module, rows)

"""The scale on which an agent chooses: the keep ratio of channels, the logarithm of the keep ratio of single weights.

Of a layer's weights a hundredth or a third may stay, and the difference between 2 and 4 percent matters as much as
that between 20 and 40. On the scale of ratios both lie within 0.02 of each other near the end, where noise of any size
that suits the rest sweeps them away, and where no critic can tell them apart.

Where most weights stay, or only two numbers of them are possible (two of four), pruning ratios are the better scale:
on the logarithmic one nearly every draw is close to dense there. So the budget decides.

A *level* is 1 where all of a layer is kept, and 0 where the least is. On the linear scale it is the keep ratio itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from amc.problem import PruningProblem

_LEAST = 0.01
"""Share of a layer's weights at level 0; less comes only from the environment, which scales to the budget."""
_LITTLE = 0.25
"""Budgets that leave more of the dense cost than this are searched on the linear scale."""
Name = Literal["auto", "linear", "log"]
Vector = NDArray[np.float64]
Values = TypeVar("Values", torch.Tensor, Vector)
Cuts = TypeVar("Cuts", float, Vector)


@dataclass(frozen=True)
class KeepScale:
    """Translates between levels and keep ratios.

    Attributes:
        least: The keep ratio at level 0 of the logarithmic scale; None for the linear one.
    """

    least: float | None = None

    @staticmethod
    def for_problem(problem: PruningProblem, name: Name = "auto") -> KeepScale:
        """Returns the scale of a name; for `"auto"` that which suits the kind of pruning and the budget."""
        if name == "auto":
            share = 1.0 if problem.limit is None else problem.limit / problem.cost_model.dense
            name = "log" if problem.kind == "weight" and share <= _LITTLE else "linear"
        return LOG if name == "log" else LINEAR

    @property
    def name(self) -> Name:
        """The name of the scale."""
        return "linear" if self.least is None else "log"

    def keep(self, level: Values) -> Values:
        """Returns the keep ratios of levels in [0, 1], of any shape."""
        if self.least is None:
            return level
        power: Values = self.least ** (1.0 - level)
        return power

    def level(self, keep: Values) -> Values:
        """Returns the levels of keep ratios in [0, 1], of any shape; 0 where less is kept than the scale reaches."""
        if self.least is None:
            return keep
        held = keep.clip(self.least, 1.0)
        level: Values = 1.0 - (torch.log(held) if isinstance(held, torch.Tensor) else np.log(held)) / math.log(
            self.least
        )
        return level

    def ratios(self, cuts: Cuts) -> Cuts:
        """Returns the pruning ratio at the level `1 - cuts`, or those of an array of any shape."""
        return cuts if self.least is None else 1.0 - self.least**cuts

    def cuts(self, ratios: Vector) -> Vector:
        """Returns what `ratios` makes the given pruning ratios of; 1 where more is cut than the scale reaches."""
        return ratios if self.least is None else 1.0 - self.level(1.0 - ratios)


LINEAR = KeepScale()
"""The scale of keep ratios themselves."""
LOG = KeepScale(_LEAST)
"""The scale of their logarithms."""

"""The hand-made profiles of AMC's paper (arXiv:1802.03494): "shallow" and "deep"."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from agents.heuristics.base import Heuristic
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from amc.problem import PruningProblem


class LinearProfile(Heuristic):
    """Keep ratios that are linear in the depth of the decision.

    The paper (arXiv:1802.03494) names the two profiles (section 4.1) and says which layers they prune more, but gives
    no numbers. Here the first decision keeps `first` and the last one keeps `last`, those between are evenly spaced,
    and all are scaled by one common factor so that the budget is met.
    """

    def __init__(self, first: float, last: float) -> None:
        """Takes the profile's ends.

        Args:
            first: Unscaled keep ratio of the first decision, in (0, 1].
            last: Unscaled keep ratio of the last decision, in (0, 1].

        Raises:
            ConfigurationError: If an end is not in (0, 1].
        """
        if not (0 < first <= 1 and 0 < last <= 1):
            raise ConfigurationError(f"{self.name}: the ends of a profile must be in (0, 1], not {first} and {last}")
        self.first, self.last = first, last

    def keep_ratios(self, problem: PruningProblem) -> list[float]:
        """Returns the evenly spaced keep ratios."""
        return [float(ratio) for ratio in np.linspace(self.first, self.last, len(problem.decisions))]


class Shallow(LinearProfile):
    """Prunes shallow layers more: keep ratios rise linearly from the first decision to the last."""

    name: ClassVar[str] = "shallow"

    def __init__(self, least: float = 1 / 3) -> None:
        """Takes the profile's slope.

        Args:
            least: What the first decision keeps, as a share of what the last one keeps, in (0, 1].
        """
        super().__init__(first=least, last=1.0)


class Deep(LinearProfile):
    """Prunes deep layers more: keep ratios fall linearly from the first decision to the last."""

    name: ClassVar[str] = "deep"

    def __init__(self, least: float = 1 / 3) -> None:
        """Takes the profile's slope.

        Args:
            least: What the last decision keeps, as a share of what the first one keeps, in (0, 1].
        """
        super().__init__(first=1.0, last=least)

"""Allocations of the least weighted sum of the layers' errors, for coefficients that are drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.episodes import ratios_of
from agents.protocol import evaluator_of, problem_of
from amc.problem.least_error import least_error_widths

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv

Vector = NDArray[np.float64]

_BUCKETS = 2000
"""Steps into which the budget is divided; a solution takes a fifth of the time that it does with those of `dp`."""
_DRAWS = 20
"""How often coefficients are drawn that lead to an allocation which is known."""


class WeightedErrors:
    """Turns coefficients of the errors into widths (SPDY, arXiv:2201.13096), and knows which it has returned."""

    def __init__(self, env: AllocationEnv) -> None:
        """Looks the errors up.

        Args:
            env: The environment; it shows the problem, and the evaluator, which knows the errors.

        Raises:
            ConfigurationError: If the evaluator knows no errors.
        """
        self.problem = problem_of(env)
        self._errors = {} if self.problem.limit is None else evaluator_of(env).errors()
        self._known: set[tuple[int, ...]] = set()

    def __call__(self, coefficients: Vector) -> tuple[int, ...]:
        """Returns the widths of the least weighted error; all of them where there is no budget."""
        if self.problem.limit is None:
            return self.problem.max_widths
        names = [decision.name for decision in self.problem.decisions]
        weighted = {name: factor * self._errors[name] for name, factor in zip(names, coefficients, strict=True)}
        widths = least_error_widths(self.problem, weighted, buckets=_BUCKETS)
        self._known.add(widths)
        return widths

    def something_new(self, redrawn: Callable[[int], Vector], count: int) -> tuple[Vector, tuple[int, ...]]:
        """Draws coefficients until the widths are new, or often enough.

        Args:
            redrawn: Draws some coefficients anew.
            count: How many at first; one more after each draw in vain.

        Returns:
            The last coefficients, and the widths that they lead to.
        """
        for more in range(_DRAWS):
            before = len(self._known)
            coefficients = redrawn(count + more)
            widths = self(coefficients)
            if len(self._known) > before:
                break
        return coefficients, widths


def redrawn(best: Vector, generator: np.random.Generator, count: int) -> Vector:
    """Returns coefficients with some, or all if there are not as many, drawn anew from [0, 1].

    Args:
        best: The coefficients, shape `(decisions,)`.
        generator: The source of randomness.
        count: How many are drawn anew.
    """
    coefficients, count = best.copy(), min(count, len(best))
    coefficients[generator.choice(len(best), count, replace=False)] = generator.random(count)
    return coefficients


def random_programmes(env: AllocationEnv, count: int, generator: np.random.Generator) -> list[NDArray[np.float64]]:
    """Returns pruning ratios of allocations for coefficients that are all drawn at random, shape `(decisions,)` each.

    Args:
        env: The environment.
        count: How many.
        generator: The source of randomness.

    Raises:
        ConfigurationError: If the evaluator knows no errors.
    """
    allocate = WeightedErrors(env)
    decisions = len(allocate.problem.decisions)
    allocate(ones := np.ones(decisions))  # what `dp` plays is known
    drawn = (allocate.something_new(partial(redrawn, ones, generator), decisions) for _ in range(count))
    return [ratios_of(env, widths) for _, widths in drawn]

"""Chooses the networks to measure for a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amc.errors import ConfigurationError
from amc.problem.space import DecisionSpace

LEAST_FITTED = 40
_SPARE = 12
"""Networks in addition to one per decision, needed to solve for the axes of operators."""
_CHECKS, _PROBES = 24, 4
_SMALLEST, _SPREAD = 0.15, 0.3
"""The mean share that a network keeps is at least the first; single decisions differ from it by up to the second."""


@dataclass(frozen=True)
class Planned:
    """A network to be measured: its role (see `amc.latency.profile_file.Network`) and its widths by decision."""

    role: str
    widths: Mapping[str, int]


def plan_networks(
    space: DecisionSpace, *, fitted: int | None = None, checks: int = _CHECKS, probes: int = _PROBES, seed: int = 0
) -> list[Planned]:
    """Chooses the networks of a profile: the dense one, those to fit a model to, to check it on, and off-grid ones.

    Every network has a mean share from 15 to 100%, and each of its decisions a share near it, so that every operator is
    measured at many pairs of input and output widths, and networks of all sizes occur.

    Args:
        space: The decisions, with their steps.
        fitted: Networks to fit to; by default 40, or as many as the decisions need.
        checks: Networks to check the model on; none of them is fitted.
        probes: Networks off the steps.
        seed: Seed of the widths.

    Raises:
        ConfigurationError: If there are too few widths, or networks.
    """
    least = len(space.decisions) + 2
    count = max(LEAST_FITTED, len(space.decisions) + _SPARE) if fitted is None else fitted
    if count < least or checks < 1 or probes < 0:
        raise ConfigurationError(
            f"a profile of {len(space.decisions)} decisions needs at least {least} networks to fit and one to check, "
            f"not {count} and {checks}"
        )
    numbers = np.random.default_rng(seed)
    seen = {space.dense_widths}
    plan = [Planned("dense", {})]
    for role, wanted in (("fit", count), ("check", checks)):
        for _ in range(wanted):
            widths = _unseen(space, numbers, seen)
            plan.append(Planned(role, space.allocation(widths).widths))
    for _ in range(probes if any(decision.step > 1 for decision in space.decisions) else 0):
        plan.append(Planned("probe", space.allocation(_off_grid(space, numbers)).widths))
    return plan


def _unseen(space: DecisionSpace, numbers: np.random.Generator, seen: set[tuple[int, ...]]) -> tuple[int, ...]:
    """Draws new widths."""
    for _ in range(100):
        widths = _drawn(space, numbers)
        if widths not in seen:
            seen.add(widths)
            return widths
    raise ConfigurationError("the network has too few widths for a profile; round to smaller multiples")


def _drawn(space: DecisionSpace, numbers: np.random.Generator) -> tuple[int, ...]:
    mean = numbers.uniform(_SMALLEST, 1.0)
    shares = np.clip(mean + numbers.uniform(-_SPREAD, _SPREAD, len(space.decisions)), 0.0, 1.0)
    return tuple(
        decision.nearest(decision.size * share) for decision, share in zip(space.decisions, shares, strict=True)
    )


def _off_grid(space: DecisionSpace, numbers: np.random.Generator) -> tuple[int, ...]:
    """Draws widths just below multiples of the steps."""
    return tuple(
        max(1, width - 1) if decision.step > 1 else width
        for decision, width in zip(space.decisions, _drawn(space, numbers), strict=True)
    )

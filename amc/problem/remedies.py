"""Which other rules would reach a budget that cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from amc.errors import AmcError, InfeasibleBudgetError
from amc.problem.problem import PruningProblem


@dataclass(frozen=True)
class Change:
    """A rule that may be set otherwise.

    Attributes:
        rule: Its name.
        value: What it is set to.
        words: How that is written.
    """

    rule: str
    value: object
    words: str


EXCLUDING_NONE = Change("exclude", (), "excluding no layer (pruning.exclude)")
"""Lets every layer be pruned."""
NO_BOUNDS = Change("bounds", {}, "the same ratios for all layers (no pruning.bounds)")
"""Holds no layer to ratios of its own."""
ANY_WIDTH = Change("round_to", 1, "pruning.round_to 1")
"""Rounds no width."""


def keeping(ratio: float) -> Change:
    """Returns the change that lets every layer keep as little as a share."""
    return Change("min_keep_ratio", ratio, f"pruning.min_keep_ratio {ratio:g}")


def with_remedy(
    build: Callable[..., PruningProblem], rules: Mapping[str, object], remedies: Iterable[Sequence[Change]]
) -> PruningProblem:
    """Builds a problem; where its budget cannot be met, names the first remedy with which it can.

    Args:
        build: Builds a problem from rules.
        rules: The rules that were asked for.
        remedies: What to change of them, together, the mildest first; what is so already is not named.

    Raises:
        InfeasibleBudgetError: If no allocation meets the budget; the message ends with what would.
    """
    try:
        return build(**rules)
    except InfeasibleBudgetError as error:
        for remedy in remedies:
            changes = [change for change in remedy if rules[change.rule] != change.value]
            if changes and _meets(build, {**rules, **{change.rule: change.value for change in changes}}):
                words = " and ".join(change.words for change in changes)
                raise InfeasibleBudgetError(f"{error}; {words} would reach it") from None
        raise InfeasibleBudgetError(f"{error}; no other rules of pruning would reach it") from None


def _meets(build: Callable[..., PruningProblem], rules: Mapping[str, object]) -> bool:
    try:
        build(**rules)
    except AmcError:
        return False
    return True

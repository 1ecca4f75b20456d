"""Which other rules would reach a budget that cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amc.errors import AmcError, InfeasibleBudgetError
from amc.problem.problem import PruningProblem

EXCLUDING_NONE = "excluding no layer (pruning.exclude)"
"""How the remedy is written that lets every layer be pruned."""


def with_remedy(
    build: Callable[..., PruningProblem], rules: Mapping[str, object], others: Mapping[str, Mapping[str, object]]
) -> PruningProblem:
    """Builds a problem; where its budget cannot be met, names the first of other rules with which it can.

    Args:
        build: Builds a problem from rules.
        rules: The rules that were asked for.
        others: What to change of them, by how it is written.

    Raises:
        InfeasibleBudgetError: If no allocation meets the budget; the message ends with what would.
    """
    try:
        return build(**rules)
    except InfeasibleBudgetError as error:
        for words, changed in others.items():
            if all(rules.get(name) == value for name, value in changed.items()):
                continue
            try:
                build(**{**rules, **changed})
            except AmcError:
                continue
            raise InfeasibleBudgetError(f"{error}; {words} would reach it") from None
        raise InfeasibleBudgetError(f"{error}; no other rules of pruning would reach it") from None

"""Policies are files that people edit: they are checked against a network before they are used."""

from __future__ import annotations

from amc.errors import ConfigurationError, UnknownNameError
from amc.problem.decision import Decision
from amc.problem.problem import PruningProblem
from amc.problem.space import DecisionSpace
from amc.storage.policy import StoredPolicy
from amc.structure import Allocation

_ROUNDED = 1e-4
"""How far a pruning ratio may be from the one that the widths give: people round them."""


def checked_policy(policy: StoredPolicy, space: DecisionSpace, *, exactly: bool = True) -> Allocation:
    """Returns the allocation of a policy if it fits a network and agrees with itself.

    Args:
        policy: The policy.
        space: The decisions that it must be about.
        exactly: Whether it is applied unchanged: then it must name every decision and respect the bounds and rounding
            of each. Otherwise it is scaled, and what it does not name stays dense.

    Raises:
        UnknownNameError: If it names something that is not a decision.
        ConfigurationError: If it is of the other kind, leaves a decision out, keeps a number of units that is not
            allowed, or its pruning ratios contradict its widths or leave a decision out.
    """
    file, widths, ratios = policy.file, policy.allocation.widths, policy.pruning_ratios
    if policy.allocation.kind != space.kind:
        raise ConfigurationError(
            f"{file} must be a policy of kind {space.kind!r}, not {policy.allocation.kind!r}; "
            f"set --pruning.family {policy.allocation.kind}, or give another policy"
        )
    known = {decision.name: decision for decision in space.decisions}
    for name in [*widths, *ratios]:
        if name not in known:
            raise UnknownNameError(f"decision in {file}:", name, known)
    for name, decision in known.items():
        if name in widths:
            _check_width(policy, decision, exactly=exactly)
        elif exactly or name in ratios:
            raise ConfigurationError(
                f"{file} must say how many units {name} keeps, and leaves it out; write its {decision.size} under "
                "widths to keep it dense, or give the pruning options of its search"
            )
        if ratios and name in widths:
            _check_ratio(policy, decision)
    return policy.allocation


def check_costs(policy: StoredPolicy, problem: PruningProblem) -> None:
    """Checks that the costs that a policy states are those of its widths.

    Args:
        policy: The policy, which fits the network.
        problem: The network's problem; costs in metrics that it does not have are not checked.

    Raises:
        ConfigurationError: If one is not.
    """
    costs = problem.costs_of(problem.widths(policy.allocation))
    for metric, said in policy.costs.items():
        if said != costs.get(metric, said):
            raise ConfigurationError(
                f"{policy.file}: its widths cost {costs[metric]:,} {metric}, and costs says {said:,.12g}; "
                "correct costs, or delete it, as it holds for the network and the images of the policy's search alone"
            )


def _check_width(policy: StoredPolicy, decision: Decision, *, exactly: bool) -> None:
    """Rejects a number of units that may not be kept."""
    width = policy.allocation.widths[decision.name]
    low, high = (decision.smallest, decision.largest) if exactly else (decision.least, decision.size)
    steps = f" in steps of {decision.step}" if exactly and decision.step > 1 else ""
    if low <= width <= high and (not steps or decision.nearest(width) == width):
        return
    is_free = (low, high) == (decision.least, decision.size) and not steps
    bounds = "" if is_free else ", or give the pruning options of its search"
    raise ConfigurationError(
        f"{policy.file}: {decision.name} must keep {low} to {high} of its {decision.size} units{steps}, "
        f"not {width}; write such a number{bounds}"
    )


def _check_ratio(policy: StoredPolicy, decision: Decision) -> None:
    """Rejects a ratio that does not match the width, or that is left out."""
    width, said = policy.allocation.widths[decision.name], policy.pruning_ratios.get(decision.name)
    comes_to = 1 - width / decision.size
    if said is None:
        raise ConfigurationError(
            f"{policy.file}: widths keeps {width} of {decision.size} units of {decision.name}, a pruning ratio of "
            f"{comes_to:.6g}, and pruning_ratios leaves it out; write it there, or delete pruning_ratios"
        )
    if abs(said - comes_to) > _ROUNDED:
        raise ConfigurationError(
            f"{policy.file}: widths keeps {width} of {decision.size} units of {decision.name}, a pruning ratio of "
            f"{comes_to:.6g}, and pruning_ratios says {said:g}; change both, or delete pruning_ratios"
        )

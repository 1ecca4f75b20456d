"""A small text table of an episode."""

from __future__ import annotations

from collections.abc import Sequence

from amc.problem import PruningProblem


def render_widths(problem: PruningProblem, widths: Sequence[int]) -> str:
    """Lists the decisions with what they keep.

    Args:
        problem: The problem.
        widths: Kept units of the decisions made so far; those still open show a dot.

    Returns:
        One line per decision, then the cost with all open decisions dense.
    """
    longest = max(len(decision.name) for decision in problem.decisions)
    lines = [f"{'layer':<{longest}} {'size':>9} {'kept':>9} {'pruned':>7}"]
    for index, decision in enumerate(problem.decisions):
        kept, pruned = ".", "."
        if index < len(widths):
            kept, pruned = str(widths[index]), f"{1 - widths[index] / decision.size:.1%}"
        lines.append(f"{decision.name:<{longest}} {decision.size:>9} {kept:>9} {pruned:>7}")
    cost = problem.cost((*widths, *problem.dense_widths[len(widths) :]))
    dense = problem.cost_model.dense
    limit = "no budget" if problem.limit is None else f"budget {problem.limit:,}"
    lines.append(f"{problem.metric}: {cost:,} of {dense:,} ({cost / dense:.2%}), {limit}")
    return "\n".join(lines)

"""Tables that show a trained agent."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from agents.protocol import EpisodeResult
from amc.problem import PruningProblem
from amc.storage.agent_card import AgentCard, CurvePoint, Task
from amc.utils.counted import counted

_MOST_ROWS = 12


def card_table(card: AgentCard) -> Table:
    """Shows what an agent was trained on, one row per task."""
    counts = f"{counted(card.feature_count, 'feature')}, {counted(card.episodes, 'episode')}"
    title = f"{card.agent}, {card.kind} pruning, {counts}"
    table = Table(title=title, caption=", ".join(f"{name} {version}" for name, version in card.versions.items()))
    table.add_column("network")
    for heading in ("budget", "reward", "decisions", "episodes", "best reward"):
        table.add_column(heading, justify="right")
    for task in card.tasks:
        table.add_row(*_task_row(task), f"{task.episodes:,}", _number(task.best_reward))
    for task in card.held_out:
        table.add_row(*_task_row(task), "held out", _number(task.best_reward))
    return table


def curve_table(curve: Sequence[CurvePoint]) -> Table:
    """Shows an agent's progress: at most a dozen points, evenly spaced."""
    places = sorted({round(part * (len(curve) - 1) / (_MOST_ROWS - 1)) for part in range(_MOST_ROWS)})
    shown = [curve[place] for place in places]
    names = list(dict.fromkeys(name for point in shown for name in point.rewards))
    table = Table(title="rewards as it learnt")
    table.add_column("episodes", justify="right")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")  # tasks are told apart by the whole of their names
    for point in shown:
        table.add_row(f"{point.episode:,}", *(_number(point.rewards.get(name)) for name in names))
    return table


def actions_table(network: str, problems: Sequence[PruningProblem], played: Sequence[EpisodeResult]) -> Table:
    """Shows what a policy keeps of every layer at each budget, in percent, and the reward.

    Args:
        network: Name of the network.
        problems: The same decisions at each budget.
        played: The episode at each budget, without noise.
    """
    table = Table(title=f"what it keeps of {network}, in percent, in one episode without noise")
    table.add_column("layer")
    kept = []
    for problem, result in zip(problems, played, strict=True):
        share = problem.cost(problem.widths(result.allocation)) / problem.cost_model.dense
        table.add_column(f"{share:.1%} {problem.metric}", justify="right")
        kept.append(problem.keep_ratios(problem.widths(result.allocation)))
    for index, decision in enumerate(problems[0].decisions):
        table.add_row(decision.name, *(f"{100 * ratios[index]:.0f}" for ratios in kept))
    table.add_section()
    table.add_row("reward", *(f"{result.reward:.4f}" for result in played))
    table.add_row("on the search split", *(f"{result.score.accuracy:.2f}" for result in played))
    return table


def _task_row(task: Task) -> tuple[str, ...]:
    budget = "none" if task.share is None else f"{100 * task.share:.3g}% {task.metric}"
    return task.network, budget, task.reward, str(task.decisions)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""Which reward predicts the final accuracy: rank correlations with the accuracy after the same short fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from amc.errors import ConfigurationError
from amc.pipeline.deliver import Workshop
from amc.pipeline.racing import reward_of
from amc.pipeline.recorder import Recorder
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.problem.score import Score
from amc.storage.names import REWARDS as REWARDS_FILE
from amc.storage.policy import AllocationRecord
from amc.structure import Allocation
from amc.study.tables import markdown
from amc.training import evaluate
from amc.utils.counted import counted
from amc.utils.json_lines import Lines
from envs.rewards import REWARDS

Vector = NDArray[np.float64]

TARGETS = ("finetuned_search", "finetuned_test")
"""Accuracy after fine-tuning: on the search split, by which a reward may be chosen, and on the test split."""
STATES = {
    "cut": ("none", False),
    "cut, recalibrated": ("none", True),
    "refit": ("once", False),
    "refit, recalibrated": ("once", True),
}
"""How candidates may be scored: with which refit, and whether with batch norms re-estimated."""
_MIN_SPREAD, _MAX_SPREAD = 0.1, 1.0
_TREND = 1.0
_ATTEMPTS = 20
_RESAMPLES = 1000


def diverse_allocations(problem: PruningProblem, count: int, seed: int) -> list[Allocation]:
    """Draws different allocations at the budget, from nearly uniform to very uneven ones.

    Keep ratios are log-normal with a spread that rises from draw to draw, and a random trend from the first decision
    to the last; they are then brought to the budget together.

    Args:
        problem: The decisions and the budget.
        count: How many.
        seed: Seed of the draws.

    Raises:
        ConfigurationError: If the problem has too few different allocations.
    """
    generator = np.random.default_rng(seed)
    depth = np.linspace(-0.5, 0.5, len(problem.decisions))
    found: dict[tuple[int, ...], Allocation] = {}
    for attempt in range(_ATTEMPTS * count):
        spread = _MIN_SPREAD + (_MAX_SPREAD - _MIN_SPREAD) * (attempt % count) / max(1, count - 1)
        logs = generator.normal(0.0, spread, len(depth)) + generator.normal(0.0, _TREND) * depth
        # What is below the smallest width counts as that: unevenness beyond what can be kept says nothing.
        keep = np.maximum(np.exp(logs - logs.max()), problem.keep_ratios(problem.min_widths))
        allocation = problem.allocation(problem.project([float(ratio) for ratio in keep]))
        found.setdefault(allocation.key(), allocation)
        if len(found) == count:
            return list(found.values())
    raise ConfigurationError(f"the network has only {len(found)} different allocations at this budget, not {count}")


class RewardsRecord(msgspec.Struct):
    """What is read again of a line of a comparison of rewards."""

    allocation: AllocationRecord
    rewards: dict[str, dict[str, float | None]]
    pruned_test: float | None
    finetuned_search: float | None
    finetuned_test: float | None


def allocations_to_compare(task: Task, count: int, seed: int) -> list[Allocation]:
    """Returns the allocations that rewards are compared on; see `diverse_allocations`.

    Raises:
        ConfigurationError: If there is no fine-tuning or no data, or the problem has too few allocations.
    """
    if task.data is None or task.finetune.planned_epochs < 1:
        raise ConfigurationError("rewards are compared with fine-tuned networks; give --finetune.epochs of at least 1")
    return diverse_allocations(task.problem, count, seed)


def measure_rewards(
    task: Task, folder: Path, allocations: Iterable[Allocation], recorder: Recorder | None = None
) -> Iterator[dict[str, Any]]:
    """Scores allocations in each of the task's `STATES`, and fine-tunes each from the reconstructed network.

    Allocations that the folder has a record of are not measured again.

    Args:
        task: The trained network, its data, its budget, and the fine-tuning.
        folder: Where the records are kept.
        allocations: From `allocations_to_compare`.
        recorder: Shows the progress within an allocation.

    Yields:
        One record per allocation.
    """
    lines = Lines(folder / REWARDS_FILE, ("allocation",), RewardsRecord)
    measure: Callable[[Allocation], dict[str, Any]] | None = None
    for allocation in allocations:
        known = lines.find([allocation.as_dict()])
        if known is None:
            measure = measure or _measurer(task, recorder or Recorder())
            known = measure(allocation)
            lines.add(known)
        yield known


def _measurer(task: Task, recorder: Recorder) -> Callable[[Allocation], dict[str, Any]]:
    """Returns the function that measures an allocation."""
    assert task.data is not None
    search = task.data.search
    shop = Workshop(task, recorder)
    scorers = {state: scorer(task, *rules) for state, rules in states_of(task).items()}
    values = {name: reward_of(task.problem, name) for name in REWARDS.names()}

    def measure(allocation: Allocation) -> dict[str, Any]:
        scores = {state: score(allocation) for state, score in scorers.items()}
        delivered = shop.deliver("rewards", allocation, recorder)
        return {
            "allocation": allocation.as_dict(),
            "rewards": {
                name: {state: value(allocation, score) for state, score in scores.items()}
                for name, value in values.items()
            },
            "pruned_test": delivered.pruned,
            "finetuned_search": evaluate(delivered.model, search, device=task.device).accuracy,
            "finetuned_test": delivered.finetuned,
        }

    return measure


def states_of(task: Task) -> dict[str, tuple[str, bool]]:
    """Returns those of the `STATES` that differ in a task.

    A task with 0 recalibration images does not re-estimate batch norms.
    """
    recalibrates = task.pruning.recalibration_images > 0
    return {state: rules for state, rules in STATES.items() if recalibrates or not rules[1]}


def scorer(task: Task, recovery: str, recalibrated: bool) -> Callable[[Allocation], Score]:
    """Returns a function that scores candidates on the search split as a search would under other rules.

    Args:
        task: The task.
        recovery: As in `PruningConfig`.
        recalibrated: Whether batch norms are re-estimated, on as many images as the task says.
    """
    images = task.pruning.recalibration_images if recalibrated else 0
    rules = replace(task.pruning, recovery=recovery, recalibration_images=images)
    return Workshop(replace(task, pruning=rules)).evaluator.score


def correlations(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns Kendall's tau-b of every reward with every target.

    Args:
        records: As `measure_rewards` yields them, two at least.

    Returns:
        One record per reward, state of the candidate, and target: `tau`, and `low` and `high`, the 95% interval
        from resampled allocations. The highest tau comes first within a target.
    """
    found = []
    for target in TARGETS:
        accuracies = np.array([record[target] for record in records])
        rows = []
        for name in records[0]["rewards"]:
            for state in records[0]["rewards"][name]:
                rewards = np.array([record["rewards"][name][state] for record in records])
                low, high = _interval(rewards, accuracies)
                rows.append(
                    {
                        "reward": name,
                        "scored": state,
                        "target": target,
                        "tau": kendall(rewards, accuracies),
                        "low": low,
                        "high": high,
                    }
                )
        found += sorted(rows, key=lambda row: -row["tau"])
    return found


def kendall(first: Vector, second: Vector) -> float:
    """Returns Kendall's tau-b of two vectors of the same length, 0 where one of them does not vary."""
    return _tau(_signs(first), _signs(second))


def rewards_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Formats the correlations as Markdown."""
    rows = [
        (
            row["target"].replace("finetuned_", ""),
            row["reward"],
            row["scored"],
            f"{row['tau']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
        )
        for row in correlations(records)
    ]
    heading = ("fine-tuned accuracy on", "reward", "scored", "Kendall's tau", "95% interval")
    return counted(len(records), "allocation") + "\n\n" + markdown(heading, rows)


def _interval(first: Vector, second: Vector) -> tuple[float, float]:
    """Returns the 95% interval of tau from resampled pairs."""
    draws = np.random.default_rng(0).integers(len(first), size=(_RESAMPLES, len(first)))
    signs = _signs(first), _signs(second)
    taus = [_tau(*(side[np.ix_(draw, draw)] for side in signs)) for draw in draws]
    low, high = np.quantile(taus, [0.025, 0.975])
    return float(low), float(high)


def _signs(values: Vector) -> Vector:
    """Returns which of two values is larger, for all pairs, `(n, n)`."""
    return np.sign(values[:, None] - values[None, :])


def _tau(first: Vector, second: Vector) -> float:
    """Returns tau-b from the signs of all pairs: agreeing less disagreeing pairs, over the pairs without ties."""
    untied = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / untied if untied else 0.0

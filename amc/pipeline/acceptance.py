"""Meeting a time budget on the device: the chosen network is measured, and shrunk or grown until it takes the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from amc.costs import Budget
from amc.costs.metrics import LATENCY
from amc.errors import AmcError
from amc.latency.networks import network_with
from amc.latency.profiling import Timer
from amc.pipeline.speed import timer_of
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.storage.policy import AllocationRecord
from amc.structure import Allocation
from amc.utils.counted import counted

_ROUNDS = 40
_MARGIN = 0.98
"""A network is brought to this share of the time allowed, since the next measurement may differ by a percent or two."""
_NEAR = 0.94
"""A network that needs less than this share of the time allowed is grown: what it may keep is worth more than time."""
_MOST_STEPS = 8
"""How often a network that misses its budget is shrunk, or grown."""


class AcceptanceRecord(msgspec.Struct):
    """What a run records about a network that was measured; see `Acceptance`."""

    allocation: AllocationRecord
    budget: float
    predicted: float
    measured: float | None
    steps: int
    note: str | None


@dataclass(frozen=True)
class Acceptance:
    """Whether a network meets its time budget.

    Attributes:
        allocation: What is kept: the one chosen, or one that comes nearer to the time allowed.
        budget: The largest share of the dense network's time (milliseconds where the budget is absolute).
        predicted: What the profile predicts of the allocation, in the same unit.
        measured: What was measured last; None where the profile is of another device.
        steps: How often the network was shrunk or grown.
        note: The message for the user where the budget was not met, or could not be checked.
    """

    allocation: Allocation
    budget: float
    predicted: float
    measured: float | None
    steps: int
    note: str | None

    def as_dict(self) -> dict[str, Any]:
        """Returns a JSON-able form that `from_dict` reads back."""
        return {**asdict(self), "allocation": self.allocation.as_dict()}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> Acceptance:
        """Reads what `as_dict` returned."""
        return Acceptance(**{**record, "allocation": Allocation.from_dict(record["allocation"])})


def accept(task: Task, allocation: Allocation, timer: Timer | None = None) -> Acceptance | None:
    """Measures the network of an allocation beside the dense one, and changes it until it takes the time allowed.

    A network that is too slow is shrunk by what it missed; one that is faster than asked for, since the profile
    predicted more, is grown. Speed does not depend on the weights, so this is done before anything is trained.

    Args:
        task: The dense network, its problem and the profile.
        allocation: What the search has chosen.
        timer: Times networks; the profile's engine if None.

    Returns:
        What is kept, predicted and measured; None where no budget bounds the time.
    """
    target, problem = task.latency, task.problem
    if target is None or problem.budget is None or LATENCY not in problem.budget.bounds:
        return None
    bound, unit = _unit(problem)
    if timer is None and not target.is_here:
        note = (
            f"the time was not measured: the profile is of another device ({target.profile.processor}); "
            "export the network and time it there"
        )
        return Acceptance(allocation, bound, _predicted(problem, allocation, unit), None, 0, note)
    timer = timer or timer_of(task)
    measure = _measure_with(timer, task, is_share=unit is None)
    allocation, measured, steps = _settled(problem, allocation, measure, bound)
    words = f"{measured:.3f} of the dense network's" if unit is None else f"{measured:.3g} ms"
    missed = f"the time budget is not met: the network takes {words}, more than {bound:g}; raise the budget"
    predicted = _predicted(problem, allocation, unit)
    return Acceptance(allocation, bound, predicted, measured, steps, missed if measured > bound else None)


def _unit(problem: PruningProblem) -> tuple[float, float | None]:
    """Returns the bound on time, and nanoseconds in its unit; None for a share."""
    assert problem.budget is not None
    value = problem.budget.bounds[LATENCY]
    return (float(value), None) if value <= 1 else (value / 1e6, 1e6)


def _predicted(problem: PruningProblem, allocation: Allocation, unit: float | None) -> float:
    return problem.cost(problem.widths(allocation), LATENCY) / (unit or problem.costs[LATENCY].dense)


def _measure_with(timer: Timer, task: Task, *, is_share: bool) -> Callable[[Mapping[str, int]], float]:
    """Returns what measures widths: their share of the dense network's time, or milliseconds."""

    def measure(widths: Mapping[str, int]) -> float:
        found = timer.compare(network_with(task.model, task.structure, widths), _ROUNDS)
        return float(found["ratio"] if is_share else found["network"][0])

    return measure


def _settled(
    problem: PruningProblem, allocation: Allocation, measure: Callable[[Mapping[str, int]], float], bound: float
) -> tuple[Allocation, float, int]:
    """Shrinks or grows a network until its measured time is near the bound, and below it.

    Returns:
        The largest network that was measured within the margin, else the last one; its time; how often it changed.
    """
    aim, held, was_slow = _MARGIN * bound, None, False
    measured = measure(allocation.widths)
    for step in range(_MOST_STEPS + 1):
        is_slow = measured > aim
        if not is_slow and (held is None or measured >= held[1]):
            held = (allocation, measured)
        if step == _MOST_STEPS or (not is_slow and (was_slow or measured >= _NEAR * bound)):
            break
        other = _scaled(problem, allocation, aim / measured)
        if other is None:
            break
        allocation, measured, was_slow = other, measure(other.widths), was_slow or is_slow
    return (*(held or (allocation, measured)), step)


def _scaled(problem: PruningProblem, allocation: Allocation, factor: float) -> Allocation | None:
    """Returns the largest allocation whose predicted time is that of a given one, times a factor.

    Args:
        problem: The problem; its other bounds hold.
        allocation: What is kept now. All widths fall, or all rise.
        factor: The time allowed over the one measured.

    Returns:
        A smaller allocation where the factor is below 1, else a larger one; None if there is none.
    """
    widths = problem.widths(allocation)
    now, model = problem.cost(widths, LATENCY), problem.costs[LATENCY]
    limit = min(now - 1, int(now * factor)) if factor < 1 else min(int(now * factor), model.dense)
    bounds = {**dict(problem.limits), LATENCY: max(limit, problem.cost(problem.min_widths, LATENCY))}
    try:
        bounded = replace(problem, budget=Budget.of({name: max(2, value) for name, value in bounds.items()}))
        found = _lowered(bounded, widths) if factor < 1 else bounded.fill(widths)
    except AmcError:
        return None
    return None if found == tuple(widths) else problem.allocation(found)


def _lowered(problem: PruningProblem, widths: Sequence[int]) -> tuple[int, ...]:
    """Returns widths within a budget in the proportions of others, none above them."""
    lower = problem.project(problem.keep_ratios(widths))
    return tuple(min(old, new) for old, new in zip(widths, lower, strict=True))


def acceptance_record(
    found: Acceptance, check: Mapping[str, float], points: Sequence[tuple[float, float]] = ()
) -> dict[str, Any]:
    """Returns the record of a time budget for `summary.json`.

    Args:
        found: What became of it.
        check: Errors of the model.
        points: Shares of the dense network's time, predicted and measured, of the networks that it was checked on.
    """
    record = {name: value for name, value in asdict(found).items() if name not in ("allocation", "note")}
    return {**record, "met": found.note is None, "model_check": dict(check), "model_points": [list(p) for p in points]}


def notes_of(found: Acceptance) -> Sequence[str]:
    """Describes whether a time budget was met."""
    if found.note is not None:
        return (found.note,)
    assert found.measured is not None
    unit = "of the dense network's time" if found.budget <= 1 else "ms"
    changed = f", after {counted(found.steps, 'step')} toward it" if found.steps else ""
    figures = f"{found.measured:.3g} {unit} measured, {found.predicted:.3g} predicted, {found.budget:g} allowed"
    return (f"time: {figures}{changed}",)

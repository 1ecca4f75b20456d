"""Residual branches: what runs for one summand of an addition alone, so that it can be dropped as a whole.

A branch is a summand that was computed from the other one, the stream, and that nothing else reads: the block of a
ResNet with an identity shortcut, the attention and the feed-forward part of a transformer. Where both summands come
from the same tensor and neither from the other (a shortcut with a projection), there is no stream to be left with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from amc.structure.residual_blocks import is_within
from amc.structure.residual_sums import OperatorCall
from amc.tracing.entries import Step


@dataclass(frozen=True)
class Branch:
    """A summand that may be left out.

    Attributes:
        addition: The addition.
        place: Which of its summands it is, 0 or 1.
        modules: The modules that run for it alone, by rising name; none lies within another.
    """

    addition: OperatorCall
    place: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class _Operator:
    """An operator that has run.

    Attributes:
        sources: The operators that wrote what it read, by number.
        modules: The modules that were running.
        costs: Places in `Trace.costs` of what it cost.
    """

    sources: frozenset[int]
    modules: tuple[str, ...]
    costs: range


class BranchRecorder:
    """Follows which operator reads what which other has written, and in which modules.

    Memory is known by keys (see `amc.tracing.views.memory_of`): the caller keeps it alive, so that no key is reused.

    Attributes:
        values: How modules return what they compute (see `ResidualBlock.modules`), by name; -1 for another form.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.values: dict[str, int] = {}
        self._operators: list[_Operator] = []
        self._writer: dict[int, int] = {}
        self._last: set[int] = set()
        self._additions: list[tuple[int, OperatorCall, tuple[int, int]]] = []

    def ran(
        self,
        step: Step,
        modules: Sequence[str],
        *,
        changes: bool,
        addition: OperatorCall | None = None,
        summands: Sequence[int] = (),
    ) -> None:
        """Records an operator.

        Args:
            step: What it read and wrote.
            modules: The modules that are running.
            changes: Whether it changed some of its inputs; what it wrote is else new, or a view of an input.
            addition: The operator, if it adds two tensors of the same shape.
            summands: The memory of these two.
        """
        number, known = len(self._operators), [self._writer[key] for key in summands if key in self._writer]
        if addition is not None and len(known) == 2:
            self._additions.append((number, addition, (known[0], known[1])))
        sources = frozenset(self._writer[key] for key in step.reads if key in self._writer)
        self._operators.append(_Operator(sources, tuple(modules), step.costs))
        for key in step.writes if changes else step.writes - step.reads:
            self._writer[key] = number

    def returned(self, module: str, output: Any) -> None:
        """Records the form in which a module returns what it computes; see `ResidualBlock.modules`."""
        values = 0 if isinstance(output, Tensor) else len(output) if type(output) is tuple and output else -1
        if values > 0 and not isinstance(output[0], Tensor):
            values = -1
        self.values[module] = values if self.values.get(module, values) == values else -1

    def modules_by_cost(self) -> dict[int, tuple[str, ...]]:
        """Returns the modules that were running when each entry of `Trace.costs` was made."""
        return {place: operator.modules for operator in self._operators for place in operator.costs}

    def close(self, outputs: frozenset[int]) -> None:
        """Ends the record; takes the memory of what the network returns."""
        self._last = {self._writer[key] for key in outputs & self._writer.keys()}

    def branches(self) -> list[Branch]:
        """Returns the branches, in the order of execution."""
        graph, found = _Graph(self._operators, self._last), []
        for number, call, summands in self._additions:
            for place in (0, 1):
                modules = graph.modules_of_branch(summands[place], summands[1 - place], number)
                if modules:
                    found.append(Branch(call, place, modules))
        return found


class _Graph:
    """Which operator reads which, after the run."""

    def __init__(self, operators: Sequence[_Operator], outputs: set[int]) -> None:
        """Finds the readers of every operator, and which run in vain: views too, whose readers read what they show."""
        self._operators = operators
        self._readers: list[set[int]] = [set() for _ in operators]
        for number, operator in enumerate(operators):
            for source in operator.sources:
                self._readers[source].add(number)
        for number in outputs:
            self._readers[number].add(len(operators))
        self._vain: set[int] = set()
        for number in reversed(range(len(operators))):
            if self._readers[number] <= self._vain:
                self._vain.add(number)
        live = (each for number, each in enumerate(operators) if number not in self._vain)
        self._operators_of = Counter(name for each in live for name in set(each.modules))

    def modules_of_branch(self, branch: int, stream: int, addition: int) -> tuple[str, ...]:
        """Returns the outermost modules that run for a branch alone; none if it is no branch of the stream."""
        if stream >= branch or self._readers[branch] - self._vain != {addition} or not self._depends(branch, stream):
            return ()
        alone = {branch}
        for number in range(branch - 1, stream, -1):
            if number not in self._vain and self._readers[number] - self._vain <= alone:
                alone.add(number)
        counts = Counter(name for number in alone for name in set(self._operators[number].modules))
        whole = {name for name, count in counts.items() if name and count == self._operators_of[name]}
        return tuple(sorted(name for name in whole if not is_within(name.rpartition(".")[0], whole)))

    def _depends(self, number: int, on: int) -> bool:
        """Returns whether an operator's result depends on that of an earlier one."""
        seen, due = {number}, [number]
        while due:
            for source in self._operators[due.pop()].sources:
                if source == on:
                    return True
                if source > on and source not in seen:
                    seen.add(source)
                    due.append(source)
        return False

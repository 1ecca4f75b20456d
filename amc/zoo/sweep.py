"""Examines networks one after another and keeps the results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from amc.errors import RunFolderError, cause_of
from amc.runtime.call import first_line
from amc.utils.durable_files import Appender
from amc.utils.json_lines import Lines, line_of
from amc.utils.plain_json import as_type
from amc.utils.printable import printable
from amc.utils.progress import Progress, silent, spanning, steps_of
from amc.zoo.cases import RULES, Case, Cut, cuts_of, open_case
from amc.zoo.contracts import CONTRACTS

OK, TRACING = "ok", "tracing"


@dataclass(frozen=True)
class Examination:
    """The result for one network.

    Attributes:
        model: Its name.
        image_size: Length of the example's last axis: the width of an image, the number of tokens.
        groups: How many channel groups it has.
        prunable: How many of them may be cut.
        share: Share of the FLOPs that goes if each of these keeps one channel.
        streams: Whether half of the FLOPs can only be reached by cutting residual streams.
        contracts: By contract, `"ok"` or what is wrong; `"tracing"` if that fails already.
        left_alone: Number of groups that are left alone, by reason.
        seconds: How long tracing took.
        asked_size: The requested size, None for the usual one; a network of a fixed size keeps its own.
    """

    model: str
    image_size: int = 0
    groups: int = 0
    prunable: int = 0
    share: float = 0.0
    streams: bool = False
    contracts: Mapping[str, str] = field(default_factory=dict)
    left_alone: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    asked_size: int | None = None

    @property
    def holds(self) -> bool:
        """Whether all contracts hold."""
        return all(result == OK for result in self.contracts.values())

    def is_of(self, size: int | None) -> bool:
        """Returns whether it used images of a size (None for any), or its network accepts only another size."""
        return size in (None, self.image_size, self.asked_size)

    def covers(self, contracts: Sequence[str]) -> bool:
        """Returns whether these contracts were checked, as far as the network could be traced."""
        return TRACING in self.contracts or set(contracts) <= set(self.contracts)

    def joined(self, earlier: Examination | None) -> Examination:
        """Returns the examination with contracts added that were checked only earlier."""
        if earlier is None or TRACING in {**earlier.contracts, **self.contracts}:
            return self
        return replace(self, contracts={**earlier.contracts, **self.contracts})

    def line(self) -> str:
        """Describes the examination in one line, failures included."""
        broken = "; ".join(f"{name}: {result}" for name, result in self.contracts.items() if result != OK)
        found = f"{self.prunable} of {self.groups} groups prunable, {self.share:.1%} of the FLOPs can go"
        held = "all contracts hold" if set(CONTRACTS) <= set(self.contracts) else f"held: {', '.join(self.contracts)}"
        return printable(f"{self.model}: {found}; {broken or held}")


def examine(
    name: str,
    contracts: Sequence[str] | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    advance: Progress = silent,
) -> Examination:
    """Cuts a network to half of its FLOPs in two ways and checks the contracts on both.

    Args:
        name: As for `amc.create_model`, or one of `amc.zoo.packages.PACKAGED`.
        contracts: Names of the contracts to check; all if None.
        image_size: Height and width of the example; the network's usual one if None, or where it takes no other.
        seed: Seed of weights and allocations.
        advance: Takes the share that is done; setting the network up counts as a part like each cut.

    Returns:
        The result; a failure is part of it and not raised.
    """
    started = time.perf_counter()
    try:
        case = open_case(name, image_size=image_size, seed=seed)
    except Exception as error:
        return Examination(name, contracts={TRACING: _words(error)}, asked_size=image_size)
    seconds = time.perf_counter() - started
    chosen = {contract: CONTRACTS[contract] for contract in contracts or CONTRACTS}
    results = dict.fromkeys(chosen, OK)
    parts = 1 + len(RULES)
    advance(1 / parts)
    for turn, cut in enumerate(cuts_of(case, seed), start=1):
        step = steps_of(len(chosen), spanning(advance, turn / parts, (turn + 1) / parts))
        for contract, check in chosen.items():
            if results[contract] == OK:
                results[contract] = _result(check, cut)
            step()
    return replace(_outcome(case, results, seconds), asked_size=image_size)


def _outcome(case: Case, results: Mapping[str, str], seconds: float) -> Examination:
    groups = case.structure.groups
    return Examination(
        model=case.name,
        image_size=case.size,
        groups=len(groups),
        prunable=len(case.structure.prunable),
        share=case.prunable_share,
        streams=case.streams,
        contracts=results,
        left_alone=dict(Counter(group.reason for group in groups if group.reason is not None)),
        seconds=seconds,
    )


def _result(check: Callable[[Cut], None], cut: Cut) -> str:
    try:
        check(cut)
    except Exception as error:  # any error: the sweep continues, and the table names it
        return f"{cut.rule}: {_words(error)}"
    return OK


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def read_examinations(file: Path) -> dict[str, Examination]:
    """Reads the results of earlier sweeps, by model; of several examinations the last counts.

    A last line that was cut off by a kill is dropped, from the file too.

    Raises:
        RunFolderError: If the file holds something else.
    """
    try:
        return {record["model"]: as_type(record, Examination) for record in Lines(file).records}
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(
            f"{file} must hold what amc zoo has found: {cause_of(error)}; give another --results"
        ) from error


def append_examination(file: Path, examination: Examination) -> None:
    """Adds one line to the file of examinations."""
    Appender(file).add(line_of(asdict(examination)))

"""Reading policies: what each decision keeps. People edit these files, so they are checked before they are used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from amc.errors import ConfigurationError, UnknownNameError
from amc.problem.decision import Decision
from amc.problem.space import DecisionSpace
from amc.structure import Allocation
from amc.utils.plain_json import as_type, read_json

_REMEDY = "give the policy.json that amc search writes"
_ROUNDED = 1e-4
"""How far a pruning ratio may be from the one that the widths come to: people round them."""


class AllocationRecord(msgspec.Struct):
    """An allocation as files hold it; what else a policy.json tells is for people."""

    kind: Literal["filter", "weight"]
    widths: dict[str, Annotated[int, msgspec.Meta(ge=0)]]


class _Ratios(msgspec.Struct):
    """What a policy.json says a second time."""

    pruning_ratios: dict[str, float] = {}


@dataclass(frozen=True)
class StoredPolicy:
    """What a policy.json says.

    Attributes:
        file: The file.
        allocation: What each decision keeps.
        pruning_ratios: The fraction removed by decision, where the file tells it beside the widths.
    """

    file: Path
    allocation: Allocation
    pruning_ratios: Mapping[str, float]

    def checked(self, space: DecisionSpace, *, exactly: bool = True) -> Allocation:
        """Returns the allocation if it fits a network and agrees with itself.

        Args:
            space: The decisions that it must be about.
            exactly: Whether it is carried out as it is: then it names every decision, and keeps what the bounds and the
                rounding of each allow. Otherwise it is scaled, and what it does not name stays dense.

        Raises:
            UnknownNameError: If it names what is not a decision.
            ConfigurationError: If it is of the other kind, leaves a decision out, keeps what may not be kept, or its
                pruning ratios say something else than its widths.
        """
        widths = self.allocation.widths
        if self.allocation.kind != space.kind:
            raise ConfigurationError(
                f"{self.file} must be a policy of kind {space.kind!r}, not {self.allocation.kind!r}; "
                f"set --pruning.family {self.allocation.kind}, or give another policy"
            )
        known = {decision.name: decision for decision in space.decisions}
        for name in [*widths, *self.pruning_ratios]:
            if name not in known:
                raise UnknownNameError(f"decision in {self.file}:", name, known)
        for name, decision in known.items():
            if name in widths:
                self._check_width(decision, widths[name], exactly=exactly)
            if name in self.pruning_ratios or (exactly and name not in widths):
                self._check_ratio(decision, widths.get(name))
        return self.allocation

    def _check_width(self, decision: Decision, width: int, *, exactly: bool) -> None:
        """Refuses a number of units that may not be kept."""
        low, high = (decision.smallest, decision.largest) if exactly else (1, decision.size)
        steps = f" in steps of {decision.step}" if exactly and decision.step > 1 else ""
        if low <= width <= high and (not steps or _is_allowed(decision, width)):
            return
        bounds = (
            "" if (low, high) == (1, decision.size) and not steps else ", or give the pruning options of its search"
        )
        raise ConfigurationError(
            f"{self.file}: {decision.name} must keep {low} to {high} of its {decision.size} units{steps}, "
            f"not {width}; write such a number{bounds}"
        )

    def _check_ratio(self, decision: Decision, width: int | None) -> None:
        """Refuses a ratio that is not that of the width, and a decision without a width."""
        if width is None:
            raise ConfigurationError(
                f"{self.file} must say how many units {decision.name} keeps, and leaves it out; write its "
                f"{decision.size} under widths to keep it dense, or give the pruning options of its search"
            )
        said, comes_to = self.pruning_ratios[decision.name], 1 - width / decision.size
        if abs(said - comes_to) > _ROUNDED:
            raise ConfigurationError(
                f"{self.file}: widths keeps {width} of {decision.size} units of {decision.name}, a pruning ratio of "
                f"{comes_to:.6g}, and pruning_ratios says {said:g}; change both, or delete pruning_ratios"
            )


def read_policy(path: str | os.PathLike[str]) -> StoredPolicy:
    """Reads a policy.json.

    Raises:
        ConfigurationError: If it is missing or malformed.
    """
    file = Path(path)
    try:
        record = as_type(read_json(file), dict[str, object])
        allocation = Allocation.from_dict(record)
        as_type(record, AllocationRecord)
        ratios = as_type(record, _Ratios).pruning_ratios
    except OSError as error:
        raise ConfigurationError(f"the policy must be a readable file: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is no policy: {error}; {_REMEDY}") from error
    except KeyError as error:
        raise ConfigurationError(f"{path} is no policy; {_REMEDY}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no policy: {error}; {_REMEDY}") from error
    return StoredPolicy(file, allocation, ratios)


def _is_allowed(decision: Decision, width: int) -> bool:
    try:
        decision.level(width)
    except ValueError:
        return False
    return True

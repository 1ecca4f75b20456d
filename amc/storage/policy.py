"""Reading policies: what each decision keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from amc.errors import ConfigurationError
from amc.structure import Allocation
from amc.utils.plain_json import as_type, read_json

_REMEDY = "give the policy.json that amc search writes"


class AllocationRecord(msgspec.Struct):
    """An allocation as files hold it; the rest of a policy.json is for people."""

    kind: Literal["filter", "weight"]
    widths: dict[str, Annotated[int, msgspec.Meta(ge=0)]]


class _Redundant(msgspec.Struct):
    """What a policy.json states redundantly."""

    pruning_ratios: dict[str, float] = {}
    costs: dict[str, float] = {}


@dataclass(frozen=True)
class StoredPolicy:
    """What a policy.json says; `amc.problem.edited_policy` checks it against a network.

    Attributes:
        file: The file.
        allocation: What each decision keeps.
        pruning_ratios: The fraction removed by decision, if the file has it beside the widths.
        costs: What the widths cost by metric, if the file has it.
    """

    file: Path
    allocation: Allocation
    pruning_ratios: Mapping[str, float]
    costs: Mapping[str, float]


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
        more = as_type(record, _Redundant)
    except OSError as error:
        raise ConfigurationError(f"the policy must be a readable file: {error}; {_REMEDY}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is not a policy: {error}; {_REMEDY}") from error
    except KeyError as error:
        raise ConfigurationError(f"{path} is not a policy; {_REMEDY}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a policy: {error}; {_REMEDY}") from error
    return StoredPolicy(file, allocation, more.pruning_ratios, more.costs)

"""Reading policies: what each decision keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from amc.errors import ConfigurationError
from amc.structure import Allocation
from amc.utils.plain_json import as_type, read_json

_REMEDY = "give the policy.json that amc search writes"


class AllocationRecord(msgspec.Struct):
    """An allocation as files hold it; what else a policy.json tells is for people."""

    kind: Literal["filter", "weight"]
    widths: dict[str, Annotated[int, msgspec.Meta(ge=0)]]


def read_policy(path: str | os.PathLike[str]) -> Allocation:
    """Reads a policy.json.

    Raises:
        ConfigurationError: If it is missing or malformed.
    """
    try:
        record = as_type(read_json(Path(path)), dict[str, Any])
        allocation = Allocation.from_dict(record)
        as_type(record, AllocationRecord)
    except OSError as error:
        raise ConfigurationError(f"the policy must be a readable file: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is no policy: {error}") from error
    except KeyError as error:
        raise ConfigurationError(f"{path} is no policy; give the policy.json that amc search writes") from error
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is no policy: {error}; give the policy.json that amc search writes"
        ) from error
    return allocation

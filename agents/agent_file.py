"""The file of a trained agent: tensors, and a record as JSON in its header; never a pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from amc.errors import AmcError, CheckpointError, cause_of
from amc.utils.bounded_files import opened
from amc.utils.durable_files import replacing
from amc.utils.plain_json import parse_json
from amc.utils.sealed_tensors import SEAL, check_seal, seal

if TYPE_CHECKING:
    import torch

_REMEDY = "give the agent.safetensors that a search or a training wrote"
_KEY = "agent"
_LARGEST = {
    "batch_size": 1 << 16,
    "environments": 1 << 10,
    "epochs": 1 << 10,
    "gradient_steps": 1 << 16,
    "proposals": 1 << 16,
    "replay_episodes": 1 << 20,
    "rollout_episodes": 1 << 12,
}
"""Options that decide how much memory and time an agent takes, with the largest values that a file may set."""


def write_agent(path: str | Path, record: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Writes an agent; a kill leaves the old file or the new one.

    Args:
        path: The file.
        record: JSON-able; its `"format"` says who reads it.
        tensors: By name, on the CPU.
    """
    with replacing(Path(path)) as partial:
        # The seal goes into the record: of two entries of a header, safetensors does not keep the order.
        save_file(tensors, str(partial), metadata={_KEY: json.dumps({**record, **seal(tensors)})})


def read_record(path: str | Path) -> dict[str, Any]:
    """Reads the header of an agent, without its tensors.

    Raises:
        CheckpointError: If the file cannot be read, or is not an agent.
    """
    with _opened(path) as file:
        return _record(path, file)


def read_agent(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads an agent.

    Raises:
        CheckpointError: If the file cannot be read, or is not an agent.
    """
    with _opened(path) as file:
        record, tensors = _record(path, file), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_seal(path, record, tensors)
        return {name: value for name, value in record.items() if name != SEAL}, tensors


def check_work(options: Mapping[str, Any]) -> None:
    """Rejects options of a file that ask for more memory or time than any agent needs.

    Raises:
        CheckpointError: If one does.
    """
    for name, largest in _LARGEST.items():
        if options.get(name, 0) > largest:
            raise CheckpointError(f"an agent's {name} must be at most {largest}, not {options[name]}")


@contextmanager
def described(path: str | Path, writer: str) -> Iterator[None]:
    """Turns errors about a header within the context into readable ones.

    Args:
        path: The file.
        writer: What writes such headers.

    Raises:
        CheckpointError: In place of any error that a wrong header causes.
    """
    try:
        yield
    except (AmcError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the header of the agent {str(path)!r} must hold what {writer} writes, but: {cause_of(error)}"
        ) from error


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with opened(Path(path)), safe_open(str(path), framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot read the agent {str(path)!r}: {error}; {_REMEDY}") from error


def _record(path: str | Path, file: Any) -> dict[str, Any]:
    record = parse_json((file.metadata() or {}).get(_KEY, "{}"))
    if not isinstance(record, dict) or not isinstance(record.get("format"), str):
        raise CheckpointError(f"{str(path)!r} must be a trained agent, the agent.safetensors of a search or a training")
    return record

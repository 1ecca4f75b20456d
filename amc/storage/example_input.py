"""The description of a network's input as JSON, so that an example can be made again without the data."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.utils.plain_json import as_type

_MOST_ELEMENTS = 1 << 24
"""Of all tensors of an input together."""


def describe_input(example: Any) -> dict[str, Any] | None:
    """Describes an example input: shapes, types, and the range of integers, such as token numbers.

    Args:
        example: A tensor, a tuple of positional or a mapping of keyword arguments, nested at will, with plain values
            (numbers, strings, None) beside tensors.

    Returns:
        A JSON-able record that `random_input` reads; None if the example holds anything else.
    """
    if isinstance(example, Tensor):
        record: dict[str, Any] = {"shape": list(example.shape), "dtype": str(example.dtype).removeprefix("torch.")}
        if example.numel() and not example.is_floating_point() and not example.is_complex():
            record["range"] = [int(example.min()), int(example.max())]
        return record
    if isinstance(example, Mapping):
        named = {str(name): describe_input(item) for name, item in example.items()}
        return None if None in named.values() else {"mapping": named}
    if isinstance(example, tuple | list):
        items = [describe_input(item) for item in example]
        return None if None in items else {"tuple": items}
    if example is None or isinstance(example, bool | int | float | str):
        return {"value": example}
    return None


def random_input(record: Mapping[str, Any], *, seed: int = 0) -> Any:
    """Makes an input like the one that a record describes.

    Args:
        record: What `describe_input` returned.
        seed: Seed of the values: standard normal, or integers that span the recorded range.

    Raises:
        ConfigurationError: If the record is malformed.
    """
    try:
        described = as_type(record, dict[str, Any])
        if _elements(described) > _MOST_ELEMENTS:
            raise ValueError(f"an input must have at most {_MOST_ELEMENTS:,} elements")
        return _random(described, torch.Generator().manual_seed(seed))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ConfigurationError(
            f"the description of an input must have a shape and a dtype, not {reprlib.repr(record)}"
        ) from error


def _elements(record: Mapping[str, Any]) -> int:
    """Returns how many elements the tensors of an input have together."""
    if "mapping" in record:
        return sum(map(_elements, record["mapping"].values()))
    if "tuple" in record:
        return sum(map(_elements, record["tuple"]))
    return 0 if "value" in record else abs(prod(as_type(record["shape"], list[int])))


def _random(record: Mapping[str, Any], generator: torch.Generator) -> Any:
    if "mapping" in record:
        return {name: _random(item, generator) for name, item in record["mapping"].items()}
    if "tuple" in record:
        return tuple(_random(item, generator) for item in record["tuple"])
    if "value" in record:
        return record["value"]
    shape, dtype = as_type(record["shape"], list[int]), getattr(torch, record["dtype"])
    if not isinstance(dtype, torch.dtype) or prod(shape) < 1:
        raise ValueError("an input must be of a type of PyTorch, and have an element")
    if "range" not in record:
        return torch.randn(shape, generator=generator).to(dtype)
    low, high = record["range"]
    values = torch.randint(low, high + 1, shape, generator=generator)
    # Both ends occur, so that a description of this input has the same range.
    values.view(-1)[:1], values.view(-1)[-1:] = low, high
    return values.to(dtype)

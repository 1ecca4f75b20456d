"""The one reader of JSON from files: plain, bounded, and of the types that are expected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from amc.utils.bounded_files import MEBIBYTE, DamagedFileError, read_text

T = TypeVar("T")
MOST_BYTES = 16 * MEBIBYTE
_DEPTH = 64
_DIGITS = 19
"""Decimal digits of a signed 64-bit integer; Python itself would slowly read thousands."""


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Reads a JSON file; see `parse_json`.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        DamagedFileError: If it is too large, not in UTF-8, or no plain JSON.
    """
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """Reads JSON: numbers finite and of 64 bits, names given once, nested no deeper than 64.

    Raises:
        DamagedFileError: If it is anything else.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_int=_whole, parse_float=_number, parse_constant=_no_number
        )
    except RecursionError as error:
        raise DamagedFileError("JSON must not be nested so deeply") from error
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"it is not JSON: {error}") from error
    check_depth(value)
    _check_characters(text, value)
    return value


def as_type(value: Any, kind: type[T]) -> T:
    """Returns plain values as a typed record.

    Args:
        value: What a JSON or YAML file held.
        kind: A `msgspec.Struct`, a dataclass, or any other type that msgspec knows.

    Raises:
        DamagedFileError: If a part is missing or of another type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DamagedFileError(str(error)) from error


def check_depth(value: Any) -> None:
    """Checks that lists and mappings are nested no deeper than 64.

    Raises:
        DamagedFileError: If they are.
    """
    layer = [value]
    for _ in range(_DEPTH):
        layer = [item for held in layer for item in _items(held)]
        if not layer:
            return
    raise DamagedFileError(f"lists and objects must be nested no deeper than {_DEPTH}")


def _check_characters(text: str, value: Any) -> None:
    """Rejects lone surrogates, which JSON can spell and no file can hold."""
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DamagedFileError(f"text must be of whole characters: {error}") from error


def _items(value: Any) -> list[Any]:
    """Returns what a list or mapping holds that may hold more."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in inner if isinstance(item, dict | list)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object, and rejects names that occur twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DamagedFileError("a name must be given once in an object, and is given twice")
    return found


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _DIGITS:
        raise DamagedFileError(f"whole numbers must have at most {_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DamagedFileError("numbers must be finite")
    return value


def _no_number(text: str) -> float:
    raise DamagedFileError(f"numbers must be finite, not {text}")

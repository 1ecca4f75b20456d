"""The one reader of YAML: plain values, bounded, without aliases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from amc.utils.bounded_files import DamagedFileError, read_text

MOST_BYTES = 1 << 17
"""Options take a few kilobytes, and PyYAML takes seconds for a megabyte."""
_DEPTH = 32
_DIGITS = 100


class _PlainLoader(yaml.SafeLoader):
    """Rejects aliases (with which a few lines can grow without bound), deep nesting, and duplicate names."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise DamagedFileError("YAML aliases (*name) are not read; write the value out")
        self.depth += 1
        if self.depth > _DEPTH:
            raise DamagedFileError(f"lists and sections must be nested no deeper than {_DEPTH}")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            raise DamagedFileError("an option must be given once, and is given twice")
        return found

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _DIGITS:
            raise DamagedFileError(f"whole numbers must have at most {_DIGITS} digits")
        return int(super().construct_yaml_int(node))


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; see `parse_yaml`.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        DamagedFileError: If it is too large, not in UTF-8, or no plain YAML.
    """
    return parse_yaml(read_text(path, MOST_BYTES))


def parse_yaml(text: str) -> Any:
    """Reads YAML of plain values.

    Raises:
        DamagedFileError: If it is not YAML, has aliases or a name twice, or is nested deeper than 32.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except DamagedFileError:
        raise
    except yaml.YAMLError as error:
        raise DamagedFileError(f"it is not valid YAML: {error}") from error
    except Exception as error:  # PyYAML meets tags on values that do not fit them with errors of any kind
        raise DamagedFileError(f"it is not plain YAML: {error}") from error


def plain_values(value: Any) -> Any:
    """Returns nested options as YAML reads them back: lists in place of tuples, names as text."""
    if isinstance(value, Mapping):
        return {str(name): plain_values(item) for name, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value

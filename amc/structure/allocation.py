"""What a policy decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from amc.errors import ConfigurationError
from amc.utils.digests import digest_of_text

KINDS = ("filter", "weight")
"""The kinds of pruning: whether a unit of a decision is a channel or a weight."""


@dataclass(frozen=True)
class Allocation:
    """How many units each decision keeps, as integers after rounding.

    A unit is a channel of a channel group (filter pruning) or a weight of a layer (weight pruning). Groups and
    layers that are not named stay dense.

    Attributes:
        kind: `"filter"` or `"weight"`.
        widths: Kept units by the name of the group or layer, in the order of the decisions.
    """

    kind: str
    widths: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        """Returns a form that `json.dumps` accepts and `from_dict` reads back."""
        return {"kind": self.kind, "widths": dict(self.widths)}

    @staticmethod
    def from_dict(record: Mapping[str, object]) -> Allocation:
        """Reads what `as_dict` wrote.

        Raises:
            KeyError: If a part is missing.
            ConfigurationError: If the widths are not whole numbers by name.
        """
        widths = record["widths"]
        if not isinstance(widths, Mapping):
            raise ConfigurationError(f"the widths of an allocation must be numbers by layer, not {widths!r}")
        for name, width in widths.items():
            if not isinstance(width, int) or isinstance(width, bool):
                raise ConfigurationError(f"the width of {name} must be a whole number, not {width!r}")
        return Allocation(kind=str(record["kind"]), widths={str(name): width for name, width in widths.items()})

    def key(self) -> tuple[int, ...]:
        """Returns the widths alone, in order: a key for caches."""
        return tuple(self.widths.values())

    def digest(self) -> str:
        """Returns eight hexadecimal digits of the whole allocation: part of names of files that belong to it."""
        return digest_of_text(json.dumps(self.as_dict()))[:8]

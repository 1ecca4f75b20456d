"""Sums that a layer's output enters directly, as at the end of a residual block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WHOLE_FUNCTIONS = frozenset({"linear", "lstm", "gru", "rnn_tanh", "rnn_relu", "scaled_dot_product_attention"})
"""Functions of PyTorch that count as one operator: they run one or many, depending on the device and on how their
input lies in memory."""


@dataclass(frozen=True)
class OperatorCall:
    """One operator of a forward pass: its kind, and how many of that kind ran before it.

    Other kinds do not count: how often a reshape copies depends on the widths, and PyTorch detaches what `torch.full`
    and the like return only if something holds it.
    """

    kind: str
    place: int


class OperatorCounter:
    """Numbers the operators of a forward pass.

    Attributes:
        count: Operators seen so far, of all kinds.
    """

    def __init__(self) -> None:
        """Starts at zero."""
        self.count = 0
        self._by_kind: Counter[str] = Counter()

    def next(self, kind: str) -> OperatorCall:
        """Numbers an operator of a kind (see `kind_of`), or one of the functions that count as one."""
        found = self.following(kind)
        self.count += 1
        self._by_kind[kind] += 1
        return found

    def skip(self, kinds: Mapping[str, int]) -> None:
        """Numbers operators that are left out here, by kind."""
        self.count += sum(kinds.values())
        self._by_kind.update(kinds)

    def following(self, kind: str) -> OperatorCall:
        """Returns what the next operator of a kind will be, without counting it."""
        return OperatorCall(kind, self._by_kind[kind])


def kind_of(func: Any, kwargs: Mapping[str, Any]) -> str:
    """Returns the kind of an operator (an `OpOverload`) that runs with these keyword arguments.

    An addition that scales a summand is of another kind than a plain one.
    """
    return str(func) if kwargs.get("alpha", 1) == 1 else f"{func} scaled"


@dataclass(frozen=True)
class ResidualSum:
    """A sum that a layer's output (through its batch norm) enters, and that the layer can set right.

    Attributes:
        layer: Name of the layer.
        addition: The addition.
        other: The operator that produced the other summand, before the layer runs.
        outlet: Name of the module whose output is added: the layer, or its batch norm.
    """

    layer: str
    addition: OperatorCall
    other: OperatorCall
    outlet: str

"""The costs that a budget may bound, by name.

A metric defines how an allocation determines it and how it is counted on a finished network; both must agree to the
last unit. To add one, write its class and register it here: budgets, episodes, summaries and the command line then know
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from amc.costs.cost_model import CostModel
from amc.structure import ModelStructure
from amc.utils.printable import series
from amc.utils.registry import Registry


class Metric(Protocol):
    """A cost of a network that is known for every allocation.

    Attributes:
        name: The name users write, such as `"flops"`.
        noun: The name in a sentence, such as `"FLOPs"`.
    """

    name: str
    noun: str

    def of_channels(self, structure: ModelStructure, groups: Sequence[int]) -> CostModel:
        """Returns the cost as a function of how many channels some groups keep; all others stay dense.

        Args:
            structure: The traced network.
            groups: Index of the channel group that each decision is about.
        """
        ...

    def of_weights(self, structure: ModelStructure, layers: Sequence[int]) -> CostModel:
        """Returns the cost as a function of how many weights some layers keep; all others stay dense.

        Args:
            structure: The traced network.
            layers: Index of the layer that each decision is about.
        """
        ...

    def count(self, model: nn.Module, example_input: Any) -> int:
        """Counts the cost of a given network, including zeros."""
        ...


METRICS: Registry[Metric] = Registry("metric")
"""Every metric by name; the first two are always reported."""

METRICS.register("flops", "amc.costs.flops:FLOPS", "FLOPs (a multiply-add is one)")
METRICS.register("params", "amc.costs.params:PARAMS", "parameters (in weight pruning those that are not zero)")
METRICS.register("size_bytes", "amc.costs.size_bytes:SIZE_BYTES", "bytes of the saved file")


LATENCY = "latency"
"""The one cost that is measured, in nanoseconds: it cannot be counted on a network, so it is not a `Metric`."""


MEMORY = "memory"
"""The peak of the activations, in bytes: exact, but found by running networks, so only where it is bounded."""


def bounded_names() -> list[str]:
    """Returns the names of all costs that a budget may bound."""
    return [*METRICS.names(), LATENCY, MEMORY]


_NOUNS = {LATENCY: "latency", MEMORY: "activation memory"}


def noun_of(name: str) -> str:
    """Returns what a cost is called in a sentence; several are joined as in the name of their budget."""
    return series([_NOUNS.get(part) or METRICS.get(part).noun for part in name.split("+")])


def in_words(name: str, cost: int) -> str:
    """Describes a cost with its unit: `"41,000 FLOPs"`, `"0.25 ms"`, `"1,024 bytes of activation memory"`."""
    if name == LATENCY:
        return f"{cost / 1e6:.4g} ms"
    unit = "bytes of " if name == MEMORY else ""
    return f"{cost:,} {unit}{noun_of(name)}"


def counted(model: nn.Module, example_input: Any) -> dict[str, int]:
    """Counts every metric on a given network."""
    return {name: METRICS.get(name).count(model, example_input) for name in METRICS.names()}

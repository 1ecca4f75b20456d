"""Gram matrices of sets of layers, gathered in as few passes over the images as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from amc.pruning.regression.patches import conv_groups, reader_of
from amc.pruning.regression.statistics import Gram, SamplingOptions, gather_grams, gram_bytes


@dataclass
class GramPasses:
    """Gathers the Gram matrices of sets of layers when they are asked for.

    Consecutive sets share a pass as long as their matrices fit into memory together, and are held until a set of
    another pass is asked for: if the sets are asked for in order, every layer is gathered once.

    Attributes:
        model: The dense network.
        sets: Names of the layers of each set, in the order in which they will be asked for.
        batches: Normalised images, each `(N, C, H, W)`.
        sampling: How many rows to sample.
        memory: Bound on the matrices held at once, in bytes; a single set may exceed it.
        after_batch: Called after each batch.
        bare: The weights of layers that no module runs, by the layer's name.
    """

    model: nn.Module
    sets: Sequence[Sequence[str]]
    batches: Sequence[Tensor]
    sampling: SamplingOptions
    memory: int
    after_batch: Callable[[], object] = lambda: None
    bare: Mapping[str, Tensor] = field(default_factory=dict)
    _held: Mapping[str, Gram] = field(default_factory=dict, init=False)
    _part: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Splits the sets into passes."""
        self._parts = self._split()

    @property
    def passes(self) -> int:
        """How many passes over the images all sets take."""
        return len(self._parts)

    def get(self, index: int) -> Mapping[str, Gram]:
        """Returns the matrices of the layers of a set; layers that the network does not run as such have none."""
        part = next(place for place, members in enumerate(self._parts) if index in members)
        if part != self._part:
            self._held = {}  # released before the next are gathered
            layers = [layer for member in self._parts[part] for layer in self.sets[member]]
            self._held = gather_grams(self.model, layers, self.batches, self.sampling, self.after_batch, self.bare)
            self._part = part
        return {layer: self._held[layer] for layer in self.sets[index] if layer in self._held}

    def _split(self) -> list[list[int]]:
        """Splits the sets into runs whose matrices fit into memory together."""
        parts: list[list[int]] = [[]]
        held: dict[str, int] = {}
        for index, layers in enumerate(self.sets):
            new = {layer: self._bytes(layer) for layer in layers}
            if parts[-1] and sum((held | new).values()) > self.memory:
                parts.append([])
                held = {}
            held |= new
            parts[-1].append(index)
        return parts

    def _bytes(self, layer: str) -> int:
        """Returns what a layer's matrix takes, in bytes."""
        if layer in self.bare:
            return gram_bytes(self.bare[layer], 1, self.sampling.max_features)
        module = reader_of(self.model, layer)
        return 0 if module is None else gram_bytes(module.weight, conv_groups(module), self.sampling.max_features)

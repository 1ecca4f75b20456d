"""Filter pruning: channels go, and what reads them is refit."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.plan import PrunePlan
from amc.pruning.regression.regressions import ReadCut, read_cuts
from amc.pruning.tables import RefitTable
from amc.runtime.call import named_tensors
from amc.structure import Allocation, ModelStructure
from amc.structure.residual_blocks import drop_modules, is_within
from amc.structure.selection import Selection, Slicer
from amc.structure.slicing import attribute_values, set_attributes, set_tensors, widths_of


class FilterPruner:
    """Cuts channels as an allocation asks and writes the refitted weights of their readers.

    The same plan serves the candidate of the search and the network that is delivered.

    Example:
        >>> from amc.pruning import build_tables
        >>> from amc.tracing.trace import trace_structure
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> images = torch.rand(16, 3, 8, 8)
        >>> structure = trace_structure(network, images[:1])
        >>> pruner = FilterPruner(network, structure, build_tables(network, structure, [images]))
        >>> pruner.prune(Allocation("filter", {"0": 5}))[0]
        Conv2d(3, 5, kernel_size=(3, 3), stride=(1, 1))
    """

    kind = "filter"

    def __init__(self, model: nn.Module, structure: ModelStructure, table: RefitTable) -> None:
        """Prepares the look-ups.

        Args:
            model: The dense network; it is not changed.
            structure: Its structure.
            table: Kept channels and refitted weights, from `amc.pruning.tables.build_tables`.
        """
        self.model, self.structure, self.table = model, structure, table
        self._state = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
        self._slicer = Slicer(structure, {name: tuple(tensor.shape) for name, tensor in self._state.items()})
        self._indices = {group.name: index for index, group in enumerate(structure.groups)}
        self._readers: dict[str, list[tuple[int, ReadCut]]] = {}
        for index in table.groups:
            for cut in read_cuts(model, structure, structure.groups[index]):
                if cut.tensor in table.groups[index].blocks or cut.tensor in table.groups[index].intercepts:
                    self._readers.setdefault(cut.tensor, []).append((index, cut))

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels of every group that loses some (of a dropped block: none), by its index.

        Raises:
            ConfigurationError: If the allocation is of another kind, names a group that cannot be cut, or a width that
                the group does not have.
        """
        if allocation.kind != self.kind:
            raise ConfigurationError(f"a filter pruner takes allocations of kind 'filter', not {allocation.kind!r}")
        kept = {}
        for name, width in allocation.widths.items():
            index = self._indices.get(name)
            if index is None or index not in self.table.groups:
                raise ConfigurationError(f"the allocation names {name!r}, which is not a prunable group of the network")
            channels = self.structure.groups[index].channels
            least = 1 if self.structure.groups[index].block is None else 0
            if not least <= width <= channels:
                raise ConfigurationError(f"group {name!r} has {channels} channels and cannot keep {width}")
            if width < channels:
                kept[index] = self.table.groups[index].kept(width)
        return kept

    def plan(self, allocation: Allocation) -> PrunePlan:
        """Looks up and slices the tensors that an allocation changes.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        kept = self.kept(allocation)
        selection = self._slicer.selection(kept)
        tensors: dict[str, Tensor] = {}
        sinks: dict[str, Tensor] = {}
        for name in self._slicer.touched(kept):
            if name in self._readers:
                tensors[name] = self._refit(name, selection, sinks)
            else:
                tensors[name] = selection.slice(name, self._state[name])
        for name, value in sinks.items():
            tensors[name] = selection.slice(name, value)
        widths = widths_of(self.structure, kept)
        gone = self.structure.dropped(widths)
        return PrunePlan(kept, widths, {name: t for name, t in tensors.items() if not is_within(name, gone)}, gone)

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns the smaller network as a new module; the dense one is left as it is.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        plan = self.plan(allocation)
        pruned = copy.deepcopy(self.model)
        set_tensors(pruned, {name: tensor.clone() for name, tensor in plan.tensors.items()})
        set_attributes(pruned, attribute_values(self.structure, plan.widths))
        drop_modules(pruned, plan.dropped)
        return pruned

    def _refit(self, name: str, selection: Selection, sinks: dict[str, Tensor]) -> Tensor:
        """Assembles a reader's weight from its groups' blocks, and adds their intercepts to `sinks`."""
        dense = self._state[name]
        along = next(cut for cut in self._slicer.axes[name] if cut.axis == 1)
        places = selection.positions(along).to(dense.device)
        weight = dense.index_select(1, places)
        for index, cut in self._readers[name]:
            if index not in selection.kept:
                continue
            table, kept = self.table.groups[index], selection.kept[index]
            block, intercept = table.lookup(name, len(kept))
            if block is not None:
                slots = torch.searchsorted(places, cut.positions[kept].flatten().to(places.device))
                weight.index_copy_(1, slots, block.flatten(1, 2).to(weight))
            if intercept is not None and cut.sink is not None:
                sign, sink = cut.sink
                sinks[sink] = sinks.get(sink, self._state[sink]) + sign * intercept.to(dense)
        return selection.slice(name, weight, skip_axis=1)

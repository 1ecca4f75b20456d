"""Kept channels and refitted weights of every group, for every width: computed once, looked up in every episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.criteria.norms import CRITERIA
from amc.pruning.regression.elimination import CHUNK, Elimination, eliminate
from amc.pruning.regression.patches import READER_TYPES
from amc.pruning.regression.regressions import ReadCut, group_regressions, read_cuts
from amc.pruning.regression.statistics import Gram, SamplingOptions, gather_grams, gram_bytes
from amc.structure import ChannelGroup, ModelStructure
from amc.utils.progress import Progress, silent, steps_of


@dataclass(frozen=True)
class TableOptions:
    """How channels are chosen and their readers refit.

    Attributes:
        criterion: Name in `amc.pruning.criteria.norms.CRITERIA`.
        refit: Whether the readers are refit by least squares; without, they are only sliced.
        ridge: Ridge of the refit, relative to the mean of the Gram matrix's diagonal; features per row are added.
        memory: Bound on the tables, in bytes. Where every width does not fit, widths are tabulated on a grid.
        gram_memory: Bound on the Gram matrices held at once, in bytes; beyond it, the calibration images are shown
            again for the next groups. A single reader's matrix may exceed it.
        scale_outputs: Whether a reader's outputs count by the scale of the batch norm behind it.
        sampling: How much of the calibration images is used.
    """

    criterion: str = "elimination"
    refit: bool = True
    ridge: float = 1e-3
    memory: int = 1 << 30
    gram_memory: int = 1 << 30
    scale_outputs: bool = True
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


@dataclass(frozen=True)
class GroupTable:
    """What is known of one channel group at every width.

    Attributes:
        order: Channels in the order in which they go, `(C,)`.
        grid: The widths that are tabulated, rising; empty without refit.
        blocks: By reader's weight and width, the refitted weights `(O, w, q, *kernel)`: q positions for each of the w
            kept channels, in rising order.
        intercepts: By reader's weight and width, what the refit adds to the reader's outputs, `(O,)`.
    """

    order: Tensor
    grid: tuple[int, ...] = ()
    blocks: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    intercepts: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)

    def kept(self, width: int) -> Tensor:
        """Returns the channels kept at a width, in rising order."""
        return self.order[len(self.order) - width :].sort().values

    def lookup(self, tensor: str, width: int) -> tuple[Tensor | None, Tensor | None]:
        """Looks up what a reader gets at a width.

        A width between two of the grid takes the refit of the next larger one, and the channels in excess go, in the
        order of elimination, without another refit.

        Args:
            tensor: Name of the reader's weight.
            width: Channels kept.

        Returns:
            The refitted weights `(O, width, q, *kernel)` and what to add to the outputs `(O,)`; None for either where
            the reader is not refit.
        """
        if not self.grid:
            return None, None
        nearest = next(found for found in self.grid if found >= width)
        intercept = self.intercepts[tensor][nearest] if tensor in self.intercepts else None
        if tensor not in self.blocks:
            return None, intercept
        block = self.blocks[tensor][nearest]
        if nearest != width:
            stays = torch.isin(self.kept(nearest), self.kept(width)).nonzero().squeeze(1)
            block = block.index_select(1, stays)
        return block, intercept


@dataclass(frozen=True)
class RefitTable:
    """The tables of all prunable groups of a network.

    Attributes:
        groups: By index in `ModelStructure.groups`.
        memory: What the refitted weights take, in bytes.
    """

    groups: Mapping[int, GroupTable]
    memory: int


def build_tables(
    model: nn.Module,
    structure: ModelStructure,
    batches: Sequence[Tensor],
    options: TableOptions | None = None,
    advance: Progress = silent,
) -> RefitTable:
    """Ranks the channels of every prunable group and refits their readers at every width.

    Args:
        model: The dense network, on the device of the batches.
        structure: Its structure.
        batches: Normalised calibration images, each `(N, C, H, W)`; may be empty where norms decide
            and nothing is refit.
        options: How to choose and refit.
        advance: Takes the share that is done, 0 to 1, as it grows.

    Returns:
        The tables, on the CPU.

    Raises:
        UnknownNameError: If the criterion does not exist.
        ConfigurationError: If calibration images are needed and none are given.
    """
    options = options or TableOptions()
    CRITERIA.get(options.criterion)
    tensors = model.state_dict()
    needs_images = options.refit or options.criterion == "elimination"
    if not needs_images:
        ranked = {index: _ranked(structure.groups[index], tensors, options) for index in structure.prunable}
        return RefitTable(ranked, 0)
    if not batches:
        raise ConfigurationError(
            "elimination and refit need calibration images and none were given; give some, or use l1 without refit"
        )
    cuts = {index: read_cuts(model, structure, structure.groups[index]) for index in structure.prunable}
    sizes = {index: _bytes_a_channel(structure.groups[index], found) for index, found in cuts.items()}
    grids = width_grids(sizes, options)
    tables: dict[int, GroupTable] = {}
    parts = _passes(model, cuts, options)
    step = steps_of(len(parts) * len(batches) + len(cuts), advance)
    for part in parts:
        layers = [cut.layer for index in part for cut in cuts[index]]
        grams = gather_grams(model, layers, batches, options.sampling, after_batch=step)
        for index in part:
            group = structure.groups[index]
            tables[index] = _tabulate(model, group, tensors, cuts[index], grams, grids[index], options)
            step()
    return RefitTable(tables, sum(_table_bytes(table) for table in tables.values()))


def width_grids(bytes_a_channel: Mapping[int, tuple[int, int]], options: TableOptions) -> dict[int, tuple[int, ...]]:
    """Chooses the widths to tabulate, so that all tables together stay under the memory bound.

    Args:
        bytes_a_channel: By group, its channels and what one kept channel takes at one width.
        options: Bears the bound.

    Returns:
        By group, rising widths that end with the dense one: all of them up to twice `CHUNK` channels, so many in
        wider groups. The group whose table is largest gets a coarser grid first.
    """
    steps = {index: max(1, channels // CHUNK) for index, (channels, _) in bytes_a_channel.items()}

    def grid(index: int) -> tuple[int, ...]:
        channels = bytes_a_channel[index][0]
        return tuple(sorted({*range(steps[index], channels, steps[index]), channels}))

    sizes = {index: sum(grid(index)) * size for index, (_, size) in bytes_a_channel.items()}
    while sum(sizes.values()) > options.memory:
        largest = max(sizes, key=lambda index: sizes[index])
        if len(grid(largest)) == 1:  # nothing left to thin out: the dense weights alone exceed the bound
            break
        steps[largest] *= 2
        sizes[largest] = sum(grid(largest)) * bytes_a_channel[largest][1]
    return {index: grid(index) for index in bytes_a_channel}


def _passes(model: nn.Module, cuts: Mapping[int, Sequence[ReadCut]], options: TableOptions) -> list[list[int]]:
    """Splits the groups into runs whose readers' Gram matrices fit into memory together."""
    parts: list[list[int]] = [[]]
    held: dict[str, int] = {}
    for index, found in cuts.items():
        new = {}
        for cut in found:
            module = model.get_submodule(cut.layer)
            assert isinstance(module, READER_TYPES)
            new[cut.layer] = gram_bytes(module, options.sampling.max_features)
        if parts[-1] and sum((held | new).values()) > options.gram_memory:
            parts.append([])
            held = {}
        held |= new
        parts[-1].append(index)
    return parts


def _ranked(group: ChannelGroup, tensors: Mapping[str, Tensor], options: TableOptions) -> GroupTable:
    """Makes the table of a group that is not refit; without a ranking of its own, it goes by the Euclidean norm."""
    order = CRITERIA.get(options.criterion)(group, tensors, options.sampling.seed)
    if order is None:
        order = CRITERIA.get("l2")(group, tensors, options.sampling.seed)
    assert order is not None
    return GroupTable(order)


def _tabulate(
    model: nn.Module,
    group: ChannelGroup,
    tensors: Mapping[str, Tensor],
    cuts: Sequence[ReadCut],
    grams: Mapping[str, Gram],
    grid: tuple[int, ...],
    options: TableOptions,
) -> GroupTable:
    """Eliminates one group's channels and keeps what the table needs."""
    measured = [cut for cut in cuts if cut.layer in grams]
    if not measured:  # the readers are not run as modules (fused attention): nothing to refit
        return _ranked(group, tensors, options)
    regressions = [group_regressions(model, cut, grams[cut.layer], options.scale_outputs) for cut in measured]
    found = eliminate(
        [regression for by_reader in regressions for regression in by_reader],
        widths=frozenset(grid) if options.refit else (),
        order=CRITERIA.get(options.criterion)(group, tensors, options.sampling.seed),
        ridge=options.ridge,
    )
    if not options.refit:
        return GroupTable(found.order)
    blocks: dict[str, dict[int, Tensor]] = {}
    intercepts: dict[str, dict[int, Tensor]] = {}
    start = 0
    for cut, by_reader in zip(measured, regressions, strict=True):
        parts = slice(start, start + len(by_reader))
        start = parts.stop
        if by_reader[0].refittable:
            blocks[cut.tensor] = {width: cut.layout(found.weights[width][parts]) for width in grid}
        if by_reader[0].intercept:
            intercepts[cut.tensor] = {width: torch.cat(_present(found, width, parts)).cpu() for width in grid}
    return GroupTable(found.order, grid, blocks, intercepts)


def _present(found: Elimination, width: int, parts: slice) -> list[Tensor]:
    """Returns the intercepts of one reader's regressions."""
    return [intercept for intercept in found.intercepts[width][parts] if intercept is not None]


def _bytes_a_channel(group: ChannelGroup, cuts: Sequence[ReadCut]) -> tuple[int, int]:
    """Returns a group's channels and the memory that one kept channel's weights take in its readers."""
    return group.channels, sum(4 * cut.values_a_channel for cut in cuts)


def _table_bytes(table: GroupTable) -> int:
    """Returns the memory that a table's weights take."""
    return sum(block.nbytes for by_width in table.blocks.values() for block in by_width.values())

"""Kept channels and refitted weights of every group, for every width: computed once, looked up in every episode."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from amc.data.tasks import CLASSIFICATION, TaskType
from amc.pruning.block_errors import block_errors
from amc.pruning.criteria.base import FILTER_CRITERIA, FilterCriterion, removal_order
from amc.pruning.criteria.evidence import GRAMS, Evidence, EvidenceOptions
from amc.pruning.regression.elimination import CHUNK, Elimination, Regression
from amc.pruning.regression.regressions import ReadCut, read_cuts
from amc.structure import ChannelGroup, ModelStructure
from amc.utils.options import create
from amc.utils.progress import Progress, silent, steps_of


@dataclass(frozen=True)
class TableOptions(EvidenceOptions):
    """How channels are chosen and their readers refit; gathered as in `EvidenceOptions`.

    Attributes:
        criterion: A name in `amc.pruning.criteria.base.FILTER_CRITERIA`, with or without options, or a criterion.
        refit: Whether the readers are refit by least squares; without, they are only sliced.
        memory: Bound on the tables, in bytes. Where every width does not fit, widths are tabulated on a grid.
    """

    criterion: str | FilterCriterion = "elimination"
    refit: bool = True
    memory: int = 1 << 30


@dataclass(frozen=True)
class GroupTable:
    """The table of one channel group at every width.

    Attributes:
        order: Channels in the order in which they go, `(C,)`.
        errors: Relative squared error of the readers' refit outputs at widths 0 to C, summed over the readers,
            `(C + 1,)`; None where nothing was refit.
        grid: The widths that are tabulated, rising; empty without refit.
        blocks: By reader's weight and width, the refitted weights `(O, w, q, *kernel)`: q positions for each of the w
            kept channels, in rising order.
        intercepts: By reader's weight and width, what the refit adds to the reader's outputs, `(O,)`.
    """

    order: Tensor
    errors: Tensor | None = None
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
    *,
    labels: Sequence[Tensor] = (),
    task: TaskType = CLASSIFICATION,
    only: Collection[int] | None = None,
) -> RefitTable:
    """Ranks the channels of every prunable group and refits their readers at every width.

    Args:
        model: The dense network, on the device of the batches.
        structure: Its structure.
        batches: Normalised calibration images, each `(N, C, H, W)`; may be empty where the criterion looks at weights
            alone and nothing is refit.
        options: How to choose and refit.
        advance: Takes the share that is done, 0 to 1, as it grows.
        labels: The images' targets, each `(N, ...)`, for criteria that look at gradients.
        task: What the network is trained for; its loss is what gradients are taken of.
        only: Indices of the groups that will be cut; all prunable ones if None.

    Returns:
        The tables, on the CPU.

    Raises:
        UnknownNameError: If the criterion does not exist.
        ConfigurationError: If calibration images or labels are needed and none are given, or the network has not what
            the criterion looks at.
    """
    options = options or TableOptions()
    criterion = options.criterion
    criterion = create(FILTER_CRITERIA, criterion) if isinstance(criterion, str) else criterion
    needs = criterion.needs | {GRAMS} if options.refit else criterion.needs
    groups = {index: structure.groups[index] for index in structure.prunable if only is None or index in only}
    sizes = {index: _bytes_a_channel(group, read_cuts(model, structure, group)) for index, group in groups.items()}
    grids = width_grids(sizes, options) if options.refit else {}
    widths = {groups[index].name: grid for index, grid in grids.items()}
    evidence = Evidence(
        model, structure, batches, labels, options, task=task, widths=widths, after_batch=lambda: step()
    )
    step = steps_of(evidence.passes(needs) * len(batches) + len(groups), advance)
    tables = {}
    for index, group in groups.items():
        order = removal_order(criterion, group, evidence)
        found = evidence.eliminate(group, order) if GRAMS in needs else None
        readers = evidence.regressions(group) if found is not None and options.refit else ()
        tables[index] = _tabulate(order, found, readers, grids.get(index, ()))
        step()
    tables |= _block_tables(model, structure, batches, only)
    return RefitTable(tables, sum(_table_bytes(table) for table in tables.values()))


def _block_tables(
    model: nn.Module, structure: ModelStructure, batches: Sequence[Tensor], only: Collection[int] | None
) -> dict[int, GroupTable]:
    """Returns the tables of residual blocks: one channel, and the error without it where there are images."""
    decided = [index for index in structure.blocks if only is None or index in only]
    errors = block_errors(model, structure, batches) if decided and batches else {}
    return {
        index: GroupTable(torch.zeros(1, dtype=torch.int64), torch.tensor([errors[index], 0.0]) if errors else None)
        for index in decided
    }


def width_grids(bytes_a_channel: Mapping[int, tuple[int, int]], options: TableOptions) -> dict[int, tuple[int, ...]]:
    """Chooses the widths to tabulate, so that all tables together stay under the memory bound.

    Args:
        bytes_a_channel: By group, its channels and what one kept channel takes at one width.
        options: Has the bound.

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


def _tabulate(
    order: Tensor,
    found: Elimination | None,
    readers: Sequence[tuple[ReadCut, Sequence[Regression]]],
    grid: tuple[int, ...],
) -> GroupTable:
    """Lays out what the elimination of one group's channels leaves of its readers; nothing without a grid."""
    if found is None or not grid:
        return GroupTable(order, None if found is None else found.errors)
    blocks: dict[str, dict[int, Tensor]] = {}
    intercepts: dict[str, dict[int, Tensor]] = {}
    start = 0
    for cut, by_reader in readers:
        parts = slice(start, start + len(by_reader))
        start = parts.stop
        if by_reader[0].refittable:
            blocks[cut.tensor] = {width: cut.layout(found.weights[width][parts]) for width in grid}
        if by_reader[0].intercept:
            intercepts[cut.tensor] = {width: torch.cat(_present(found, width, parts)).cpu() for width in grid}
    return GroupTable(found.order, found.errors, grid, blocks, intercepts)


def _present(found: Elimination, width: int, parts: slice) -> list[Tensor]:
    """Returns the intercepts of one reader's regressions."""
    return [intercept for intercept in found.intercepts[width][parts] if intercept is not None]


def _bytes_a_channel(group: ChannelGroup, cuts: Sequence[ReadCut]) -> tuple[int, int]:
    """Returns a group's channels and the memory that one kept channel's weights take in its readers."""
    return group.channels, sum(4 * cut.values_a_channel for cut in cuts)


def _table_bytes(table: GroupTable) -> int:
    """Returns the memory that a table's weights take."""
    return sum(block.nbytes for by_width in table.blocks.values() for block in by_width.values())

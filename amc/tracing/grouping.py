"""Joins channels that are cut together into groups."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from amc.structure.extents import Extent
from amc.structure.model_structure import ChannelGroup, TensorCut, owner_of
from amc.tracing.axes import Axis, Positions
from amc.tracing.entries import Factor
from amc.tracing.record import Trace
from amc.tracing.units import NEUTRAL, Labels

IN_PARTS = "a layer computes some of these channels at a time; computing all at once would let them be cut"
"""Why channels stay whole whose costs are those of parts."""
NEVER = np.iinfo(np.int64).max
"""Stands for a class of labels that no layer writes."""


@dataclass(frozen=True)
class Grouping:
    """Groups, and which group every class of labels belongs to.

    Attributes:
        groups: The groups, in the order of execution.
        group_of: For every label that represents a class, the index of its group; -1 for none.
    """

    groups: tuple[ChannelGroup, ...]
    group_of: Labels

    @cached_property
    def _open_group_of(self) -> Labels:
        """As `group_of`, but -1 for groups that must stay."""
        prunable = np.array([group.prunable for group in self.groups] + [False])
        return np.where(prunable[self.group_of], self.group_of, -1)

    def extent(self, factor: Factor, trace: Trace) -> Extent:
        """Returns the length of an axis as a function of the widths of the groups."""
        if isinstance(factor, int):
            return Extent(factor)
        counts = self._counts(factor, trace)
        constant = counts.pop(-1, 0)
        return Extent(constant, tuple((index, total // self.groups[index].channels) for index, total in counts.items()))

    def parts(self, factor: Factor, trace: Trace) -> list[int]:
        """Returns the groups of which an axis holds some channels only: its length does not follow their widths."""
        counts = {} if isinstance(factor, int) else self._counts(factor, trace)
        return [index for index, total in counts.items() if index >= 0 and total % self.groups[index].channels]

    def _counts(self, labels: Labels, trace: Trace) -> dict[int, int]:
        """Returns how many labels are in each group; -1 stands for those that must stay."""
        found, totals = np.unique(self._open_group_of[trace.units.find(labels)], return_counts=True)
        return dict(zip(found.tolist(), totals.tolist(), strict=True))


def grouping_of(trace: Trace) -> Grouping:
    """Joins the classes that cut the same axes at as many positions into groups, in the order of execution.

    Those of which some layer computes a part at a time stay whole: what that costs is no multiple of their widths.
    """
    grouping = _grouping_of(trace)
    parts = {index for _, factors in trace.costs for factor in factors for index in grouping.parts(factor, trace)}
    for index in parts:
        trace.units.freeze(np.flatnonzero(grouping.group_of == index), IN_PARTS)
    return _grouping_of(trace) if parts else grouping


def _grouping_of(trace: Trace) -> Grouping:
    axes = [Axis.of(key, labels, trace.units) for key, labels in trace.axis_labels.items()]
    written = _first_writes(trace)
    alike: dict[tuple[int, str | None], list[int]] = defaultdict(list)
    signatures = _signatures(axes, trace.units.count)
    for root in np.argsort(written, kind="stable")[: np.count_nonzero(written != NEVER)].tolist():
        alike[int(signatures[root]), trace.units.reason(root)].append(root)
    by_root: dict[int, list[Axis]] = defaultdict(list)
    firsts = np.array(sorted(members[0] for members in alike.values()), dtype=np.int64)
    for axis in axes:
        for root in firsts[np.isin(firsts, axis.roots)].tolist():
            by_root[root].append(axis)
    names: dict[str, int] = {}
    groups: list[ChannelGroup] = []
    group_of = np.full(trace.units.count, -1, dtype=np.int64)
    for (_, reason), members in alike.items():
        group_of[members] = len(groups)
        groups.append(_group(trace, np.array(members), by_root[members[0]], reason, names))
    return Grouping(tuple(groups), group_of)


def _first_writes(trace: Trace) -> Labels:
    """Returns for every class the smallest label that a layer writes, by its representative; NEVER if none does."""
    written = np.full(trace.units.count, NEVER, dtype=np.int64)
    for key, labels in trace.axis_labels.items():
        if trace.roles[key] == "write":
            np.minimum.at(written, trace.units.find(labels), labels)
    written[NEUTRAL] = NEVER
    return written


def _signatures(axes: Sequence[Axis], count: int) -> npt.NDArray[np.uint64]:
    """Returns a number for every class that is the same for classes on the same axes at as many positions."""
    signatures = np.zeros(count, dtype=np.uint64)
    for index, axis in enumerate(axes):
        amounts, which = np.unique(axis.counts, return_inverse=True)
        digests = [hashlib.blake2b(f"{index} {amount}".encode(), digest_size=8).digest() for amount in amounts.tolist()]
        signatures[axis.roots] += np.frombuffer(b"".join(digests), dtype=np.uint64)[which]
    return signatures


def _group(
    trace: Trace, members: Labels, axes: Sequence[Axis], reason: str | None, names: dict[str, int]
) -> ChannelGroup:
    ordered = sorted(axes, key=lambda axis: axis.first_label)
    known: dict[bytes, Positions] = {}
    cuts = tuple(TensorCut(*axis.key, axis.of_members(members, known), trace.roles[axis.key]) for axis in ordered)
    writers = tuple(dict.fromkeys(owner_of(cut.tensor) for cut in cuts if cut.role == "write"))
    readers = tuple(dict.fromkeys(owner_of(cut.tensor) for cut in cuts if cut.role == "read"))
    names[writers[0]] = names.get(writers[0], 0) + 1
    suffix = f"#{names[writers[0]]}" if names[writers[0]] > 1 else ""
    if reason is None and len(members) < 2:
        reason = "a single channel once coupled"
    if reason is None and not any(owner_of(weight) in writers for weight in trace.layers):
        reason = "part of an auxiliary head, which the output in evaluation mode does not depend on"
    return ChannelGroup(
        name=writers[0] + suffix,
        channels=len(members),
        cuts=cuts,
        writers=writers,
        readers=readers,
        residual=trace.units.marked(members, "residual"),
        normalised=trace.units.marked(members, "normalised"),
        reason=reason,
    )

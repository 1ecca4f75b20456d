"""Layers of one width that one number gives the width of their states: `torch.zeros(n, self.hidden)` for several cells.

None of them can be cut alone, as the number cannot follow two widths. All of them lose the same channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

from amc.structure.model_structure import ChannelGroup, ModelStructure
from amc.tracing.record import Trace
from amc.tracing.repair import remembered, written_in_code
from amc.tracing.skipping import worthwhile
from amc.tracing.trial import COUNTS_ON_WIDTH
from amc.tracing.units import Labels

TRIES = 3
"""Most sets of groups to couple, each with a trial of its own; none in networks in which that takes long."""


def with_shared_numbers(
    trace: Trace, found: ModelStructure, assembled: Callable[[], ModelStructure], tried: Callable[..., ModelStructure]
) -> ModelStructure:
    """Couples groups that can be cut together only, because the network makes tensors for all of them by one number.

    Args:
        trace: A finished run.
        found: The structure after a trial, which has failed for these groups.
        assembled: Returns the structure that the trace describes now.
        tried: Returns a structure after its trial.

    Returns:
        The structure of which more can be cut, or `found`.
    """
    done: set[tuple[str, ...]] = set()
    for _ in range(0 if worthwhile(trace.model) else TRIES):
        groups = next((some for some in _sharing(trace, found) if _names(some) not in done), None)
        if groups is None:
            break
        done.add(_names(groups))
        before = copy.deepcopy(trace.units)
        for other in groups[1:]:
            trace.units.union(_labels(trace, groups[0]), _labels(trace, other))
        coupled = tried(assembled())
        if _names(groups[:1])[0] in {coupled.groups[index].name for index in coupled.prunable}:
            found = coupled
        else:
            trace.units = before
    return found


def _sharing(trace: Trace, structure: ModelStructure) -> Iterator[list[ChannelGroup]]:
    """Yields the groups that have failed and around which one number equals their width, the largest sets first.

    Only those count that are as wide as a tensor which the network has made from sizes.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for index, group in enumerate(structure.groups):
        if group.channels not in trace.made or COUNTS_ON_WIDTH not in (group.reason or ""):
            continue
        around = remembered(trace.model, structure, index, in_settings=True)
        for entries in {**around, **written_in_code(trace.model, structure, index)}.values():
            for entry in entries:
                if entry.value.length(structure.dense_widths) == group.channels:
                    found.setdefault((entry.module, entry.attribute), []).append(index)
    sets = dict.fromkeys(tuple(dict.fromkeys(indices)) for indices in found.values())
    for indices in sorted(sets, key=len, reverse=True):
        if len(indices) > 1:
            yield [structure.groups[index] for index in indices]


def _names(groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)


def _labels(trace: Trace, group: ChannelGroup) -> Labels:
    """Returns one label for each channel of a group."""
    cut = group.cuts[0]
    labels: Labels = trace.axis_labels[cut.tensor, cut.axis][[positions[0] for positions in cut.positions]]
    return labels

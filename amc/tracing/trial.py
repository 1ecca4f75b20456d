"""Tests every cut before it is offered: groups with which the cut network fails are left alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations, islice

import torch
from torch import Tensor, nn

from amc.runtime.call import ExampleInput, call, first_line, named_tensors, tensors_in
from amc.structure.claimed_width import CLAIMED, claim_width, claims_width, release_width
from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import ModelStructure, ModuleAttribute
from amc.structure.numbers_in_code import is_in_code
from amc.structure.remembered_numbers import attribute_name
from amc.structure.slicing import Kept, attribute_values, set_attributes, sliced, widths_of
from amc.structure.substitution import Substitute, Users, is_large, substituted
from amc.tracing.plain_norms import PlainNorms
from amc.tracing.repair import Attempt, Chosen, attempts, claims, following, remembered, written_in_code
from amc.tracing.skipping import SkippingMode, ValuesNeeded, for_shapes, reading

Places = Sequence[tuple[int, Tensor]]
"""Axes of a tensor, with positions on them."""

TOLERANCE = 1e-3
"""Largest difference, relative to the largest output, between a cut network and the dense one that ignores the same
channels."""

COUNTS_ON_WIDTH = "the network's code counts on its width"
"""Why a group stays whole with which the cut network fails."""
_REMEDY = "let it ask for the size (x.shape[1])"
_FOLLOW = "let places and scales in its code follow its width (x.shape[1])"

TRIES_WITHOUT = 24
"""Most sets of numbers in the code to leave as they are when a network works with all of them changed."""


OTHER_WIDTHS = (1, -sys.maxsize, sys.maxsize)
"""How many more channels than half are kept where shares of channels are tried again: one, all but one or none."""


@dataclass
class Trial:
    """Cuts half of the channels of several groups at once and runs the network, whose own tensors stay as they are.

    Attributes:
        model: The dense network, in evaluation mode.
        structure: Its structure as traced, with attributes that were found to follow the widths.
        example_input: One example input.
        users: The modules that use each tensor, where some are large enough to be made on demand.
        values: Whether the outputs are compared, or the network only has to run.
        failures: Why groups cannot be cut, by index; filled in by `accept`.
        claiming: Modules that were given a claimed width on the way, by name.
        more: How many more channels than half are kept, if there are as many; never none, nor all.
    """

    model: nn.Module
    structure: ModelStructure
    example_input: ExampleInput
    users: Users | None
    values: bool = True
    failures: dict[int, str] = field(default_factory=dict)
    claiming: dict[str, nn.Module] = field(default_factory=dict)
    more: int = 0
    _last_fails: dict[tuple[str, ...], bool] = field(default_factory=dict)
    _beyond_repair: set[tuple[str, ...]] = field(default_factory=set)
    _dense_outputs: list[Tensor] | None = None

    def accept(self, accepted: list[int], groups: Sequence[int]) -> list[int]:
        """Returns the accepted groups with those of `groups` that can be cut together with them.

        Halves `groups` until each failure is pinned to one group, so that few failures take few runs. Once two groups
        of a kind and its last one have failed, all of that kind are left alone: networks repeat their blocks.
        """
        groups = [index for index in groups if not self._condemned(index)]
        failure = self._failure([*accepted, *groups]) if groups else None
        if failure is None:
            return [*accepted, *groups]
        if len(groups) == 1:
            if self._repaired(groups[0], accepted):
                return [*accepted, groups[0]]
            self.failures[groups[0]] = failure
            return accepted
        middle = len(groups) // 2
        return self.accept(self.accept(accepted, groups[:middle]), groups[middle:])

    def _condemned(self, index: int) -> bool:
        """Returns whether two groups of the same kind have failed, and the last one does too; notes the reason."""
        kind = self._kind(index)
        alike = [failed for failed in self.failures if self._kind(failed) == kind]
        if len(alike) < 2:
            return False
        if kind not in self._last_fails:
            last = max(other for other in self.structure.prunable if self._kind(other) == kind)
            self._last_fails[kind] = last in self.failures or self._failure([last]) is not None
        if self._last_fails[kind]:
            self.failures[index] = f"like {self.structure.groups[alike[0]].name!r}: {self.failures[alike[0]]}"
        return self._last_fails[kind]

    def _repaired(self, index: int, accepted: Sequence[int]) -> bool:
        """Looks for widths that modules remember and that must follow; returns whether the group can then be cut.

        Groups of the same kind get the same change, and are tested with it in their turn.
        """
        kind = self._kind(index)
        if kind in self._beyond_repair:
            return False
        dense, is_large = self.structure, self.users is not None
        for found, chosen in attempts(self.model, dense, index, self.example_input, is_large=is_large):
            if self._works_with(following(dense, found, chosen), index, accepted):
                self._repair_alike(index, kind, self._needed(dense, (found, chosen), index, accepted))
                return True
        self.structure = dense
        self._beyond_repair.add(kind)
        return False

    def _needed(self, dense: ModelStructure, attempt: Attempt, index: int, accepted: Sequence[int]) -> Chosen:
        """Adopts an attempt that works, without numbers in the code that happen to equal the width.

        What such a number is for may not show in one run of the network. Two may cancel out, as in `x * 16 / 16`.
        """
        found, chosen = attempt
        in_code = sorted(key for key in chosen if is_in_code(key[1]))
        for some in islice(chain(combinations(in_code, 1), combinations(in_code, 2)), TRIES_WITHOUT):
            others = chosen.difference(some)
            if not chosen.issuperset(some) or others.isdisjoint(in_code):
                continue
            if self._works_with(following(dense, found, others), index, accepted):
                chosen = others
        self.structure = following(dense, found, chosen)
        return chosen

    def _works_with(self, structure: ModelStructure, index: int, accepted: Sequence[int]) -> bool:
        """Adopts a structure, and returns whether a group can be cut under it, together with those accepted."""
        self.structure = structure
        return self._failure([*accepted, index]) is None and self._proven(index)

    def _proven(self, index: int) -> bool:
        """Returns whether normalised channels compute the same in a cut network, if norms take no notice of zeros."""
        if not (self.values and self.structure.groups[index].normalised):
            return True
        kept = self._kept([index])
        gone = ignoring(self.model, self.structure, kept, ("read", "write", "follow"), buffers=True)
        with PlainNorms():  # type: ignore[no-untyped-call]
            with self._attributes(kept):
                outputs = self._run(sliced(self.model, self.structure, kept), None)
            return agree(outputs, self._run(gone, None))

    def _repair_alike(self, index: int, kind: tuple[str, ...], chosen: Chosen) -> None:
        for other in self.structure.prunable:
            if other > index and self._kind(other) == kind:
                found = remembered(self.model, self.structure, other, in_settings=True)
                if any(is_in_code(attribute) for _, attribute in chosen):
                    found = {**found, **written_in_code(self.model, self.structure, other)}
                if any(attribute == CLAIMED for _, attribute in chosen):
                    found = {**found, **claims(self.model, self.structure, other, self.example_input)}
                self.structure = following(self.structure, found, chosen)

    def _kind(self, index: int) -> tuple[str, ...]:
        """Returns the names of a group's tensors without numbers, the same for groups of repeated blocks."""
        return tuple(sorted({re.sub(r"\d+", "#", cut.tensor) for cut in self.structure.groups[index].cuts}))

    def _failure(self, groups: Sequence[int]) -> str | None:
        """Returns why a network cut at these groups is wrong, or None.

        A failure with tensors made on demand is retried with all of them in place: other code may read them.
        """
        if self.users is not None and self._failure_with(groups, self.users) is None:
            return None
        return self._failure_with(groups, None)

    def _failure_with(self, groups: Sequence[int], users: Users | None) -> str | None:
        kept = self._kept(groups)
        # After a cut, normalised channels are scaled by other statistics, so there is nothing to compare with.
        normalised = [index for index in groups if self.structure.groups[index].normalised]
        comparable = self.values and not normalised
        narrow = sliced(self.model, self.structure, kept)
        with self._attributes(kept):
            try:
                outputs = self._run(narrow, users) if comparable else self._run_for_shapes(narrow, users)
            except Exception as error:
                return f"{COUNTS_ON_WIDTH}: {first_line(error)}; {_REMEDY}"
        if not comparable:
            return self._failure_reordered(normalised, users) if self.values else None
        for roles in (("read",), ("read", "write", "follow")):
            if agree(outputs, self._run(ignoring(self.model, self.structure, kept, roles), users)):
                return None
        return f"the network computes something else when it is narrower: {_FOLLOW}"

    def _kept(self, groups: Sequence[int]) -> dict[int, Tensor]:
        return {index: half_of(self.structure.groups[index].channels, index, self.more) for index in groups}

    def _failure_reordered(self, groups: Sequence[int], users: Users | None) -> str | None:
        """Returns why the order of channels matters to the network, or None if it does not."""
        if self._dense_outputs is None:
            self._dense_outputs = self._run({}, users)
        outputs = self._run(reordered(self.model, self.structure, groups), users)
        same = agree(outputs, self._dense_outputs)
        return None if same else "the network computes something else when its channels change places"

    def _run(self, substitutes: Mapping[str, Substitute], users: Users | None) -> list[Tensor]:
        # The same random numbers in every run, for networks that draw some.
        with torch.no_grad(), torch.random.fork_rng(devices=[]), substituted(self.model, substitutes, users):
            torch.default_generator.manual_seed(0)
            output = call(self.model, self.example_input)
        return [tensor.detach() for tensor in tensors_in(output) if tensor.is_floating_point()]

    def _run_for_shapes(self, substitutes: Mapping[str, Substitute], users: Users | None) -> list[Tensor]:
        """Runs the network where its outputs do not count, if it can do without the values of its activations."""
        if users is None:
            return self._run(substitutes, None)
        try:
            with for_shapes(self.model) as run_operator, reading(run_operator), SkippingMode(run_operator):
                outputs = self._run(substitutes, {})
        except ValuesNeeded:
            return self._run(substitutes, users)
        return self._run(substitutes, users) if run_operator.values_needed else outputs

    @contextmanager
    def _attributes(self, kept: Kept) -> Iterator[None]:
        """Gives the modules the widths of the cut network temporarily."""
        values = attribute_values(self.structure, widths_of(self.structure, kept))
        for path, name, width in attribute_values(self.structure, widths_of(self.structure, {})):
            if name == CLAIMED and not claims_width(module := self.model.get_submodule(path)):
                claim_width(module, width)
                self.claiming[path] = module
        places = [(self.model.get_submodule(module), attribute_name(name)) for module, name, _ in values]
        dense = [(module, type(module), name, vars(module).get(name, places)) for module, name in places]
        set_attributes(self.model, values)
        try:
            yield
        finally:
            for module, kind, name, value in dense:
                module.__class__ = kind
                if value is places:  # it had none
                    vars(module).pop(name, None)
                else:
                    setattr(module, name, value)


def without_failing_groups(
    model: nn.Module, structure: ModelStructure, example_input: ExampleInput, users: Users, *, values: bool = True
) -> ModelStructure:
    """Cuts half of every group and runs the network; groups that make it fail are marked with the reason.

    Args:
        model: The dense network, in evaluation mode; it is left as it is.
        structure: Its structure as traced.
        example_input: One example input.
        users: The modules that use each parameter and buffer, as a trace saw it.
        values: Whether what the cut network computes is compared, or it only has to run.

    Returns:
        The structure, with a reason on every group that cannot be cut after all.
    """
    large = any(is_large(parameter) for parameter in model.parameters())
    trial = Trial(model, structure, example_input, users if large else None, values)
    normalised = [index for index in structure.prunable if structure.groups[index].normalised]
    others = [index for index in structure.prunable if not structure.groups[index].normalised]
    accepted = trial.accept(trial.accept([], others), normalised)
    in_pieces = [index for index in accepted if any(len(cut.positions[0]) > 1 for cut in structure.groups[index].cuts)]
    # A share of the channels may be right for some widths only: 2 * (channels // 8), or max(2, channels // 8).
    for more in OTHER_WIDTHS if values and not large else ():
        trial.more = more
        trial.accept([], [index for index in in_pieces if index not in trial.failures])
    found = frozen(trial.structure, trial.failures)
    found = replace(found, candidates=())
    for path in trial.claiming.keys() - {entry.module for entry in found.attributes if entry.attribute == CLAIMED}:
        release_width(trial.claiming[path])
    return found


def half_of(channels: int, group: int, more: int = 0) -> Tensor:
    """Returns an irregular half of the channels, at least one and not all.

    Groups of the same width keep shares of their own, from 4 to 7 of 11: code that confuses two widths would pass if
    both were cut alike.

    Args:
        channels: How many there are.
        group: The group's index.
        more: How many more are kept, if there are as many.
    """
    count = max(1, min(channels - 1, (channels * (4 + group % 4) + 5) // 11 + more))
    mixed = sorted(range(channels), key=lambda channel: ((channel * 7919 + 3) % 11, channel))
    return torch.tensor(sorted(mixed[:count]), dtype=torch.int64)


def agree(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Returns whether outputs have the same shapes and, relative to the largest, the same values."""
    if [tensor.shape for tensor in outputs] != [tensor.shape for tensor in expected]:
        return False
    filled = [(a, b) for a, b in zip(outputs, expected, strict=True) if b.numel()]
    scale = max((float(b.abs().max()) for _, b in filled), default=0.0)
    tolerance = max([TOLERANCE, *(4 * torch.finfo(b.dtype).eps for _, b in filled)])
    return all(float((a - b).abs().max()) <= tolerance * (scale + 1e-6) for a, b in filled)


def ignoring(
    model: nn.Module, structure: ModelStructure, kept: Kept, roles: Sequence[str], *, buffers: bool = False
) -> dict[str, Substitute]:
    """Returns the parameters that belong to removed channels, zeroed there, so that the dense network ignores them.

    Args:
        model: The dense network.
        structure: Its structure.
        kept: The kept channels.
        roles: Which parameters. Zeroed where they are read, channels have no effect whatever lies between; those that
            meet others in a product of two activations are read by no parameter and have to be zeroed where written.
        buffers: Whether buffers are zeroed too.
    """
    tensors = named_tensors(model) if buffers else dict(model.named_parameters())
    gone: dict[str, list[tuple[int, Tensor]]] = {}
    for index, channels in kept.items():
        group = structure.groups[index]
        removed = sorted(set(range(group.channels)) - set(channels.tolist()))
        for entry in group.cuts:
            if entry.tensor in tensors and entry.role in roles:
                positions = torch.tensor([position for channel in removed for position in entry.positions[channel]])
                gone.setdefault(entry.tensor, []).append((entry.axis, positions))
    return _changed(_zeroed, tensors, gone)


def reordered(model: nn.Module, structure: ModelStructure, groups: Sequence[int]) -> dict[str, Substitute]:
    """Returns the tensors with the channels of some groups in another order, an irregular one for each group.

    To a network that may lose any of them, that order does not matter.
    """
    tensors = named_tensors(model)
    moved: dict[str, list[tuple[int, Tensor]]] = {}
    for index in groups:
        group = structure.groups[index]
        order = torch.randperm(group.channels, generator=torch.Generator().manual_seed(index))
        for entry in group.cuts:
            positions, sources = torch.tensor(entry.positions), torch.arange(tensors[entry.tensor].shape[entry.axis])
            sources[positions] = positions[order]
            moved.setdefault(entry.tensor, []).append((entry.axis, sources))
    return _changed(_picked, tensors, moved)


def _changed(
    change: Callable[[Tensor, Places], Tensor], tensors: Mapping[str, Tensor], places: Mapping[str, Places]
) -> dict[str, Substitute]:
    """Returns the tensors that have places, with values that are changed there when they are asked for."""
    return {
        name: Substitute(tuple(tensors[name].shape), partial(change, tensors[name].detach(), where))
        for name, where in places.items()
    }


def _picked(tensor: Tensor, places: Places) -> Tensor:
    """Returns a copy whose positions on axes are taken from others."""
    for axis, sources in places:
        tensor = tensor.index_select(axis, sources.to(tensor.device))
    return tensor


def _zeroed(tensor: Tensor, places: Places) -> Tensor:
    """Returns a copy with zeros at positions on axes; multiplying is faster than writing them one by one."""
    result = tensor
    for axis, positions in places:
        mask = tensor.new_ones([size if other == axis else 1 for other, size in enumerate(tensor.shape)])
        result = result * mask.index_fill_(axis, positions.to(tensor.device), 0.0)
    return result


def frozen(structure: ModelStructure, reasons: dict[int, str]) -> ModelStructure:
    """Returns the structure with some groups marked as not to be cut, their widths substituted in all costs."""
    if not reasons:
        return structure
    groups = tuple(
        replace(group, reason=reasons.get(index, group.reason)) for index, group in enumerate(structure.groups)
    )

    def closed(extent: Extent) -> Extent:
        added = sum(count * groups[index].channels for index, count in extent.counts if index in reasons)
        return Extent(extent.constant + added, tuple(pair for pair in extent.counts if pair[0] not in reasons))

    def terms(old: tuple[CostTerm, ...]) -> tuple[CostTerm, ...]:
        return tuple(CostTerm(term.coefficient, tuple(closed(factor) for factor in term.factors)) for term in old)

    attributes = [ModuleAttribute(a.module, a.attribute, closed(a.value)) for a in structure.attributes]
    return replace(
        structure,
        groups=groups,
        flops_terms=terms(structure.flops_terms),
        params_terms=terms(structure.params_terms),
        attributes=tuple(a for a in attributes if a.value.counts),
    )

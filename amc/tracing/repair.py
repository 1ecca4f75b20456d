"""Widths that modules remember under any name, found by trying: `self.nf`, `self.dim`, `split((self.c, self.c), 1)`.

When a cut network fails, the cause may be whole numbers in its modules, or in settings that these hold
(`self.config.hidden_size`): those that are a multiple of the group's channels. They are changed in the cut network,
which is tried again. A change is kept if the network then computes the same as the dense one without these channels.
Numbers in the code (`x.view(-1, 64, 4, 4)`) come last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, combinations, islice
from typing import Any

import torch
from torch import nn

from amc.runtime.call import ExampleInput, call, tensors_in
from amc.runtime.hooks import hooked
from amc.structure.claimed_width import CLAIMED, claims_width
from amc.structure.extents import Extent
from amc.structure.model_structure import ChannelGroup, ModelStructure, ModuleAttribute
from amc.structure.numbers_in_code import is_in_code, numbers_in_code
from amc.structure.remembered_numbers import numbers_in_settings, numbers_of

Remembered = Mapping[tuple[str, str], tuple[ModuleAttribute, ...]]
"""Attributes that may follow a group's width, by the module's and the attribute's name without numbers: repeated blocks
have theirs under one key."""
Chosen = frozenset[tuple[str, str]]
"""Keys of those that follow."""

TRIES, TRIES_OF_LARGE, TRIES_WITH_CLAIMS, TRIES_WITH_SETTINGS, TRIES_WITH_CODE = 24, 10, 8, 12, 12
"""Most sets of attributes to try for a group, the last ones with claimed widths, with numbers in settings that
modules hold, and with numbers in their code; in large networks every try takes seconds."""

MOST_SINGLE = 6
"""Most attributes to try one by one where repeated modules have several under one name: of cells above each other."""

Attempt = tuple[Remembered, Chosen]
"""Attributes that may follow a width, and those of them to try."""


def attempts(
    model: nn.Module, structure: ModelStructure, index: int, example_input: ExampleInput, *, is_large: bool
) -> Iterator[Attempt]:
    """Yields what to try for a group that cannot be cut as it is.

    Args:
        model: The dense network, in evaluation mode.
        structure: Its structure.
        index: The group.
        example_input: One example input.
        is_large: Whether every try takes long.
    """
    found = remembered(model, structure, index)
    for chosen in islice(choices(found), TRIES_OF_LARGE if is_large else TRIES):
        yield found, chosen
    single = {(entry.module, entry.attribute): (entry,) for entries in found.values() for entry in entries}
    for chosen in islice(choices(single), TRIES if len(found) < len(single) <= MOST_SINGLE and not is_large else 0):
        yield single, chosen
    claimed = claims(model, structure, index, example_input)
    for chosen in islice([Chosen(), *choices(found)], TRIES_WITH_CLAIMS if claimed else 0):
        yield {**found, **claimed}, chosen | frozenset(claimed)
    wider = remembered(model, structure, index, in_settings=True)
    for chosen in islice(choices(wider), TRIES_WITH_SETTINGS if len(wider) > len(found) else 0):
        yield wider, chosen
    code = written_in_code(model, structure, index)
    more = [Chosen(), *([frozenset(wider)] if wider else [])]
    noted = frozenset(_by_place(structure.candidates)) & frozenset(code)
    first = dict.fromkeys([*([noted] if noted else []), *choices(code)])
    for chosen in islice((some | others for some in first for others in more), TRIES_WITH_CODE):
        yield {**wider, **code}, chosen


def remembered(model: nn.Module, structure: ModelStructure, index: int, *, in_settings: bool = False) -> Remembered:
    """Returns the attributes that may follow the width of a group.

    Candidates are the modules whose tensors it cuts, the modules that contain these, and their siblings without
    parameters. Attributes that already follow the width of some group are left out.

    Args:
        model: The dense network.
        structure: Its structure.
        index: The group.
        in_settings: Whether to look into objects and dictionaries that modules hold, too.
    """
    known = {(entry.module, entry.attribute) for entry in structure.attributes}
    group = structure.groups[index]
    modules = {name: model.get_submodule(name) for name in _modules_around(model, group)}
    numbers = (
        (name, attribute, size)
        for name, module in modules.items()
        for attribute, size in chain(numbers_of(module), numbers_in_settings(module) if in_settings else ())
        if (name, attribute) not in known
    )
    return _by_place(_multiples_of_width(group, index, numbers))


def written_in_code(model: nn.Module, structure: ModelStructure, index: int) -> Remembered:
    """Returns the numbers in the code that may follow the width of a group.

    Those are numbers that were the length of an axis with its channels, when the network ran, and numbers that happen
    to equal the width, in the modules of which `remembered` looks at attributes.

    Args:
        model: The dense network.
        structure: Its structure.
        index: The group.
    """
    group = structure.groups[index]
    known = {(entry.module, entry.attribute) for entry in structure.attributes}
    lengths = [entry for entry in structure.candidates if (entry.module, entry.attribute) not in known]
    known |= {(entry.module, entry.attribute) for entry in lengths}
    numbers = (
        (name, attribute, size)
        for name in _modules_around(model, group)
        for attribute, size in numbers_in_code(model.get_submodule(name))
        if (name, attribute) not in known
    )
    own = [entry for entry in lengths if any(place == index for place, _ in entry.value.counts)]
    return _by_place([*own, *_multiples_of_width(group, index, numbers)])


def _multiples_of_width(
    group: ChannelGroup, index: int, numbers: Iterable[tuple[str, str, int]]
) -> Iterator[ModuleAttribute]:
    """Yields those of some numbers, given as `(module, attribute, size)`, that may follow the width of a group."""
    multiples = _multiples(group)
    for name, attribute, size in numbers:
        times, rest = divmod(size, group.channels)
        if not rest and times in multiples:
            yield ModuleAttribute(name, attribute, Extent(0, ((index, times),)))


def _by_place(entries: Iterable[ModuleAttribute]) -> Remembered:
    """Returns attributes by the names of module and attribute; repeated blocks and elements of a list together."""
    found: dict[tuple[str, str], tuple[ModuleAttribute, ...]] = {}
    for entry in entries:
        attribute = entry.attribute if is_in_code(entry.attribute) else entry.attribute.partition("[")[0]
        key = _without_numbers(entry.module), attribute
        found[key] = (*found.get(key, ()), entry)
    return found


def claims(model: nn.Module, structure: ModelStructure, index: int, example_input: ExampleInput) -> Remembered:
    """Returns the claimed widths that may follow the width of a group, by the module without numbers; see `CLAIMED`.

    Candidates are the modules that hold the group's layers. The width is that of what the module is given, which has to
    be a multiple of the group's channels: `B, N, C = x.shape` and `C // self.num_heads`. Where other layers divide the
    heads of a projection among several groups, as CoaT's convolutions do, it is a multiple of those of all together.

    Args:
        model: The dense network, in evaluation mode.
        structure: Its structure.
        index: The group.
        example_input: One example input.
    """
    group = structure.groups[index]
    kin = [place for place, other in enumerate(structure.groups) if set(other.writers) == set(group.writers)]
    known = {entry.module for entry in structure.attributes if entry.attribute == CLAIMED}
    known |= {name for name, module in model.named_modules() if claims_width(module)}
    multiples = _multiples(group)
    owners = dict.fromkeys(cut.tensor.rpartition(".")[0] for cut in group.cuts if cut.role == "write")
    holders = [name for name in dict.fromkeys(owner.rpartition(".")[0] for owner in owners) if name not in known]
    found: dict[tuple[str, str], list[ModuleAttribute]] = {}
    for name, width in _input_widths(model, holders, example_input).items():
        for places in ([index], kin):
            times, rest = divmod(width, sum(structure.groups[place].channels for place in places))
            if not rest and times in multiples:
                entry = ModuleAttribute(name, CLAIMED, Extent(0, tuple((place, times) for place in places)))
                found.setdefault((_without_numbers(name), CLAIMED), []).append(entry)
                break
    return {key: tuple(entries) for key, entries in found.items()}


def _input_widths(model: nn.Module, names: Iterable[str], example_input: ExampleInput) -> dict[str, int]:
    """Runs a network once; returns the length of the last axis of the first tensor that each module receives."""
    widths: dict[str, int] = {}

    def note(module: nn.Module, args: Any, kwargs: Any, name: str) -> None:
        tensors = tensors_in((args, kwargs))
        if tensors and tensors[0].dim():
            widths.setdefault(name, tensors[0].shape[-1])

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(partial(note, name=name), with_kwargs=True)
        for name in names
    ]
    with hooked(hooks), torch.no_grad(), torch.random.fork_rng(devices=[]):
        call(model, example_input)
    return widths


def choices(found: Remembered) -> Iterator[Chosen]:
    """Yields sets of attributes to try: all, all but one, one, all but two, two."""
    keys = list(found)
    seen = set()
    for size in (0, 1, 2):
        for some in combinations(keys, size):
            for chosen in (frozenset(keys) - set(some), frozenset(some)):
                if chosen and chosen not in seen:
                    seen.add(chosen)
                    yield chosen


def following(structure: ModelStructure, found: Remembered, chosen: Chosen) -> ModelStructure:
    """Returns the structure in which the chosen attributes follow the widths."""
    added = [entry for key in chosen for entry in found.get(key, ())]
    return replace(structure, attributes=(*structure.attributes, *added))


def _multiples(group: ChannelGroup) -> frozenset[int]:
    """Returns by how much a remembered width may exceed a group's channels: what its axes hold, or a divisor of it."""
    positions = {len(cut.positions[0]) for cut in group.cuts}
    return frozenset(times for most in positions for times in range(1, most + 1) if most % times == 0)


def _modules_around(model: nn.Module, group: ChannelGroup) -> list[str]:
    owners = dict.fromkeys(cut.tensor.rpartition(".")[0] for cut in group.cuts)
    around = dict(owners)
    for owner in owners:
        parts = owner.split(".") if owner else []
        around.update(dict.fromkeys(".".join(parts[:count]) for count in range(len(parts))))
    for parent in {owner.rpartition(".")[0] for owner in owners}:
        for name, module in model.get_submodule(parent).named_modules(prefix=parent):
            if next(module.parameters(), None) is None:
                around[name] = None
    return list(around)


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", name)

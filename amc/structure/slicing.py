"""Cutting a network: one generic slicing that serves search, surgery, saving and loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from amc.errors import StructureError
from amc.runtime.call import buffer_places, named_tensors
from amc.structure.claimed_width import CLAIMED, claim_width
from amc.structure.model_structure import ModelStructure
from amc.structure.remembered_numbers import set_number
from amc.structure.residual_blocks import drop_modules, is_within
from amc.structure.selection import Slicer
from amc.structure.substitution import Substitute, forget_computed

Kept = Mapping[int, Tensor]
"""For every group that is cut, by its index in `ModelStructure.groups`: the kept channels, int64 and rising."""


def widths_of(structure: ModelStructure, kept: Kept) -> tuple[int, ...]:
    """Returns the width of every group, dense where it is not cut."""
    return tuple(len(kept[i]) if i in kept else group.channels for i, group in enumerate(structure.groups))


def kept_positions(
    structure: ModelStructure, kept: Kept, shapes: Mapping[str, Sequence[int]]
) -> dict[str, dict[int, Tensor]]:
    """Returns what stays of every tensor that is cut.

    Args:
        structure: The structure of the network.
        kept: The kept channels of every group that is cut.
        shapes: Shape of every tensor in the dense network, by name.

    Returns:
        For every tensor that is cut, by axis, the positions that stay, rising. Tensors of dropped blocks are left out.

    Raises:
        StructureError: If a group would be emptied, or a channel does not exist.
    """
    for index, channels in kept.items():
        group = structure.groups[index]
        if group.block is not None:
            continue
        if len(channels) == 0 or int(channels.min()) < 0 or int(channels.max()) >= group.channels:
            raise StructureError(
                f"group {group.name!r} has channels 0 to {group.channels - 1} and must keep one at least; "
                f"asked to keep {channels.tolist()}"
            )
    slicer = Slicer(structure, shapes, groups=sorted(kept))
    selection, gone = slicer.selection(kept), structure.dropped(widths_of(structure, kept))
    return {
        name: {cut.axis: selection.positions(cut) for cut in cuts}
        for name, cuts in slicer.axes.items()
        if not is_within(name, gone)
    }


def slice_tensor(tensor: Tensor, axes: Mapping[int, Tensor]) -> Tensor:
    """Returns the positions of a tensor that stay, as a new contiguous tensor."""
    for axis, positions in axes.items():
        tensor = tensor.index_select(axis, positions.to(tensor.device))
    return tensor.contiguous()


def cut(model: nn.Module, structure: ModelStructure, kept: Kept) -> None:
    """Cuts a network in place: tensors become smaller, what modules remember of their sizes follows, and blocks go.

    Args:
        model: The dense network that `structure` describes, made sliceable (see `amc.structure.make_sliceable`).
        structure: Its structure.
        kept: The kept channels of every group that is cut.

    Raises:
        StructureError: If a group would be emptied, or a channel does not exist.
    """
    set_tensors(model, {name: left.make() for name, left in sliced(model, structure, kept).items()})
    widths = widths_of(structure, kept)
    set_attributes(model, attribute_values(structure, widths))
    drop_modules(model, structure.dropped(widths))


def sliced(model: nn.Module, structure: ModelStructure, kept: Kept) -> dict[str, Substitute]:
    """Returns what is left of every tensor that is cut, each made on request; the network is not changed.

    Raises:
        StructureError: If a group would be emptied, or a channel does not exist.
    """
    state = named_tensors(model)
    stays = kept_positions(structure, kept, {name: tensor.shape for name, tensor in state.items()})
    return {
        name: Substitute(
            tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(state[name].shape)),
            partial(slice_tensor, state[name].detach(), axes),
        )
        for name, axes in stays.items()
    }


def set_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replaces parameters and buffers by tensors of other shapes; a shared parameter stays shared.

    What modules have computed from the old ones is dropped, see `forget_computed`.

    Args:
        model: The network, changed in place.
        tensors: New values by name; parameters keep whether they require gradients. Buffers that are shared stay so.
    """
    places: dict[int, list[tuple[nn.Module, str]]] = {}  # looked up once, if there are buffers to set
    for name, value in tensors.items():
        parent_name, _, leaf = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        if leaf in parent._parameters:
            parameter = parent._parameters[leaf]
            assert parameter is not None
            parameter.grad = None
            parameter.data = value
        else:
            places = places or buffer_places(model)
            for module, key in places[id(parent._buffers[leaf])]:
                module._buffers[key] = value
    forget_computed(model)


def attribute_values(structure: ModelStructure, widths: Sequence[int]) -> list[tuple[str, str, int]]:
    """Returns `(module, attribute, value)` for every number that follows the widths of all groups.

    Those of modules that go with a dropped block are left out.
    """
    gone = structure.dropped(widths)
    return [
        (entry.module, entry.attribute, entry.value.length(widths))
        for entry in structure.attributes
        if not is_within(entry.module, gone)
    ]


def set_attributes(model: nn.Module, values: Sequence[tuple[str, str, int]]) -> None:
    """Sets the sizes that modules remember; see `amc.structure.remembered_numbers`."""
    for module_name, attribute, value in values:
        module = model.get_submodule(module_name)
        if attribute == CLAIMED:
            claim_width(module, value)
        else:
            set_number(module, attribute, value)

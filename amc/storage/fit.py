"""Whether a network, the record of its cut and the header of its weights file fit, before anything large is made."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from amc.errors import CheckpointError
from amc.runtime.call import named_tensors, tensor_bytes
from amc.runtime.finite import all_finite
from amc.storage.positions import parse_positions
from amc.structure.claimed_width import CLAIMED
from amc.structure.numbers_in_code import is_in_code, numbers_in_code
from amc.structure.remembered_numbers import attribute_name, number_at
from amc.structure.residual_blocks import drop_modules
from amc.utils.sparse_tensors import INDEX, index_of, is_part

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OTHERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
_TYPES = {**_FLOATS, **_OTHERS, "BOOL": torch.bool, "C64": torch.complex64}
_ATTRIBUTE = re.compile(r"[A-Za-z]\w*(\[[0-9]{1,2}\]|\.[A-Za-z]\w*)?")
_NEVER_CUT = ("kernel_size", "stride", "padding", "dilation")
_MOST_TIMES, _ALWAYS_BYTES = 64, 1 << 26
"""How many times the bytes of the file a dense network may take that a file asks for, beside a fixed number."""
_REMEDY = "give the network that was compressed: amc.load(folder, model=...)"


@dataclass(frozen=True)
class StoredTensor:
    """What the header of a safetensors file says about a tensor.

    Attributes:
        shape: Its shape.
        dtype: Its type; None for a type that no network here has.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None


@dataclass(frozen=True)
class WeightsHeader:
    """The header of a weights file.

    Attributes:
        tensors: What it says about each tensor, by name; tensors stored in parts are joined.
        size_bytes: Size of the file.
    """

    tensors: dict[str, StoredTensor]
    size_bytes: int


def read_header(file: Path) -> WeightsHeader:
    """Reads the header of a safetensors file.

    Raises:
        CheckpointError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            found = {
                name: StoredTensor(tuple(part.get_shape()), _TYPES.get(part.get_dtype()))
                for name, part in slices.items()
            }
            parts = index_of(opened.get_tensor(INDEX)) if INDEX in found else []
        size = file.stat().st_size
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error
    whole = {name: tensor for name, tensor in found.items() if not is_part(name)}
    if len(whole) < len(found) and INDEX not in found:
        raise CheckpointError(
            f"{file} holds parts of tensors without {INDEX}, which says whose; save the network again"
        )
    types = {str(dtype).removeprefix("torch."): dtype for dtype in _TYPES.values()}
    for name, dtype, *shape in parts:
        if name in whole:
            raise CheckpointError(f"{file} must hold each tensor once, and holds {name[:80]!r} twice")
        whole[name] = StoredTensor(tuple(shape), types.get(dtype))
    return WeightsHeader(whole, size)


def cut_positions(network: nn.Module, tensors: Mapping[str, Mapping[str, str]]) -> dict[str, dict[int, Tensor]]:
    """Returns the positions that stay of every tensor that is cut, by axis.

    Args:
        network: The dense network; its tensors may be on any device, and without values.
        tensors: The same as text, as architecture.json has it.

    Raises:
        CheckpointError: If the network has no such tensor, axis or position.
    """
    state = named_tensors(network)
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        raise CheckpointError(
            f"the dense network {type(network).__name__} does not fit: it has no tensor {unknown[0][:80]!r} "
            f"({len(unknown)} missing); {_REMEDY}"
        )
    return {name: _axes(name, state[name], axes) for name, axes in tensors.items()}


def _axes(name: str, tensor: Tensor, axes: Mapping[str, str]) -> dict[int, Tensor]:
    found = {}
    for axis, text in axes.items():
        if int(axis) >= tensor.dim():
            raise CheckpointError(
                f"the dense network does not fit: tensor {name!r} of shape {tuple(tensor.shape)} has no axis {axis}; "
                f"{_REMEDY}"
            )
        try:
            found[int(axis)] = parse_positions(text, tensor.shape[int(axis)])
        except CheckpointError as error:
            raise CheckpointError(
                f"the dense network does not fit axis {axis} of {name!r}, of shape {tuple(tensor.shape)}: {error}; "
                f"{_REMEDY}"
            ) from error
    return found


def drop(network: nn.Module, modules: Mapping[str, int]) -> None:
    """Takes out of a dense network, in place, what a record says was dropped.

    Raises:
        CheckpointError: If the network has no such module.
    """
    known = dict(network.named_modules())
    for name in modules:
        if not name or name not in known:
            raise CheckpointError(
                f"architecture.json must drop blocks that the dense network has, not {name[:80]!r}; {_REMEDY}"
            )
    drop_modules(network, modules)


def check_outline(outline: nn.Module, tensors: Mapping[str, Mapping[str, str]], header: WeightsHeader) -> None:
    """Checks a dense network without values against a weights file, so that a small file makes no large network.

    Raises:
        CheckpointError: If it does not fit.
    """
    cut = cut_positions(outline, tensors)
    state = outline.state_dict()
    check_names(state.keys(), header.tensors)
    for name, found in header.tensors.items():
        shape = tuple(len(cut.get(name, {}).get(axis, range(size))) for axis, size in enumerate(state[name].shape))
        _check_shape(name, shape, found)
    dense = tensor_bytes(outline)
    if dense > _MOST_TIMES * header.size_bytes + _ALWAYS_BYTES:
        raise CheckpointError(
            f"the weights take {header.size_bytes:,} bytes, and the dense network that architecture.json names takes "
            f"{dense:,}, more than {_MOST_TIMES} times as many; if that is right, {_REMEDY}"
        )


def check_names(names: Iterable[str], stored: Mapping[str, StoredTensor]) -> None:
    """Checks that a file has no tensor that the network lacks.

    Raises:
        CheckpointError: If it has.
    """
    unknown = sorted(stored.keys() - set(names))
    if unknown:
        raise CheckpointError(
            f"the weights do not fit their architecture.json: {unknown[0][:80]!r} and others, {len(unknown)} in all, "
            f"are unknown; {_REMEDY}"
        )


def check_stored(network: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Checks the header of a weights file against a network that has been cut: names, shapes and types.

    Numbers with a fraction may be of another precision than the network's, others must be of its own type.

    Raises:
        CheckpointError: If they do not fit.
    """
    own = network.state_dict()
    check_names(own.keys(), stored)
    for name, found in stored.items():
        _check_shape(name, tuple(own[name].shape), found)
        fits = found.dtype in _FLOATS.values() if own[name].is_floating_point() else found.dtype == own[name].dtype
        if not fits:
            raise CheckpointError(f"the tensor {name!r} must have the type {own[name].dtype}, not {found.dtype}")


def _check_shape(name: str, shape: tuple[int, ...], found: StoredTensor) -> None:
    if shape != found.shape:
        raise CheckpointError(
            f"the weights do not fit their architecture.json: size mismatch of {name}, which must have shape {shape} "
            f"and has {reprlib.repr(found.shape)}; {_REMEDY}"
        )


def check_values(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], *, bounded: bool) -> None:
    """Checks the values of a weights file.

    Args:
        own: The tensors of the network as it was built.
        stored: Those of the file.
        bounded: Whether integers, which index into tables, must lie within the range of the network's own.

    Raises:
        CheckpointError: If a value is not finite where the network's own are, or an index is out of range.
    """
    for name, tensor in stored.items():
        ours = own[name]
        if tensor.is_floating_point() or tensor.is_complex():
            if not all_finite(tensor) and all_finite(ours):
                raise CheckpointError(f"weights must be finite: tensor {name!r} holds NaN or infinite values")
        elif bounded and tensor.dim() and tensor.numel() and not _lies_within(tensor, ours):
            raise CheckpointError(f"the places in {name!r} must lie within those of its network, and do not")


def _lies_within(tensor: Tensor, other: Tensor) -> bool:
    return int(tensor.min()) >= int(other.min()) and int(tensor.max()) <= int(other.max())


def check_attributes(network: nn.Module, attributes: Sequence[tuple[str, str, int]]) -> None:
    """Checks that a file sets numbers of channels that modules hold, and nothing else.

    Raises:
        CheckpointError: If a module has no such number, or a smaller one.
    """
    modules = dict(network.named_modules())
    for module, attribute, value in attributes:
        if is_in_code(attribute):
            _check_code(modules.get(module), module, attribute, value)
            continue
        held = _largest_claim(modules.get(module)) if attribute == CLAIMED else _number(modules.get(module), attribute)
        if held is None or not 0 <= value <= held:
            raise CheckpointError(
                f"architecture.json must set numbers of channels that the network has, none larger, and sets "
                f"{attribute[:80]!r} of {module[:80]!r} to {value}; {_REMEDY}"
            )


def _check_code(module: nn.Module | None, name: str, attribute: str, value: int) -> None:
    """Checks that a number in the code that a file sets is there, and that the new one is no larger.

    Raises:
        CheckpointError: If it is not.
    """
    held = None if module is None else dict(numbers_in_code(module)).get(attribute)
    if held is None or not 1 <= value <= held:
        raise CheckpointError(
            f"architecture.json must set numbers that stand in the code of the network, none larger, and sets "
            f"{attribute[:80]!r} of {name[:80]!r} to {value}; give the network that was compressed, with its source as "
            "it was: amc.load(folder, model=...)"
        )


def _largest_claim(module: nn.Module | None) -> int | None:
    """Returns the largest width that may be claimed of a module: the longest axis of its parameters."""
    sizes = [] if module is None else [size for parameter in module.parameters() for size in parameter.shape]
    return max(sizes, default=None)


def _holds_size_of_maps(module: nn.Module) -> bool:
    """Returns whether `output_size` is height and width, as in PyTorch's own pooling layers and `Fold`."""
    return any(
        "output_size" in vars(kind).get("__constants__", ())
        for kind in type(module).__mro__
        if kind.__module__.startswith("torch.nn.")
    )


def _number(module: nn.Module | None, attribute: str) -> int | None:
    """Returns the number that a module holds and that may be a count of channels; None if there is none."""
    name = attribute_name(attribute)
    if module is None or not _ATTRIBUTE.fullmatch(attribute) or name in _NEVER_CUT:
        return None
    if name == "output_size" and _holds_size_of_maps(module):
        return None
    return number_at(module, attribute)

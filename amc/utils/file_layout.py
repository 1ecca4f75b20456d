"""How many bytes a safetensors file takes, before it is written.

A file is eight bytes, a header in JSON that is padded to a multiple of eight, and the tensors' bytes. The header lists
for each tensor its name, number format, shape, and where its bytes begin and end, so that its length depends on how
many digits these numbers have. Tensors lie in the order of their number formats, the widest first, then by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amc.utils.sealed_tensors import SEAL

Whole: TypeAlias = NDArray[np.int64]

_FORMATS = {
    "bool": ("BOOL", 1),
    "uint8": ("U8", 1),
    "int8": ("I8", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "int16": ("I16", 2),
    "uint16": ("U16", 2),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int32": ("I32", 4),
    "uint32": ("U32", 4),
    "float32": ("F32", 4),
    "complex64": ("C64", 8),
    "float64": ("F64", 8),
    "int64": ("I64", 8),
    "uint64": ("U64", 8),
}
"""By PyTorch's name, what files call a number format and its bytes, in the reverse order of files."""
_ORDER = list(_FORMATS)
SEAL_BYTES = len(json.dumps({"__metadata__": {SEAL: 64 * "0"}}, separators=(",", ":"))) - 1
"""What the seal takes of the header, its comma included; see `amc.utils.sealed_tensors`."""
_TENS = 10 ** np.arange(1, 19, dtype=np.int64)


def tensors_by_names(state: Mapping[str, object]) -> list[tuple[tuple[str, ...], Tensor]]:
    """Returns the tensors that a file of a network holds: of those that are shared one, the first by name.

    Args:
        state: The network's `state_dict`; entries that are not tensors are skipped.

    Returns:
        All names of each tensor, rising, and the tensor; by its first name.
    """
    names: dict[tuple[int, int], list[str]] = {}
    tensors = {name: value for name, value in sorted(state.items()) if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        place = tensor.data_ptr() if tensor.numel() else 0
        names.setdefault((place or id(tensor), tensor.numel()), []).append(name)
    return [(tuple(found), tensors[found[0]]) for found in names.values()]


def value_bytes(dtype: str) -> int:
    """Returns the bytes of one value, given PyTorch's name of its number format; 4 for formats that are not known."""
    return _FORMATS.get(dtype, ("", 4))[1]


@dataclass(frozen=True)
class FileLayout:
    """The tensors that a file may hold, in any order; which of them it does hold may change.

    Attributes:
        order: Their places in the file.
        fixed: What the header takes for each but for numbers, in bytes.
    """

    order: Whole
    fixed: Whole

    @staticmethod
    def of(names: Sequence[str], dtypes: Sequence[str], axes: Sequence[int]) -> FileLayout:
        """Lays out tensors, given their names, PyTorch's names of their number formats, and how many axes they have."""
        keys = [
            (-_ORDER.index(dtype) if dtype in _ORDER else 1, name) for name, dtype in zip(names, dtypes, strict=True)
        ]
        fixed = [
            len(json.dumps(name, ensure_ascii=False).encode())
            + len(':{"dtype":"","shape":[],"data_offsets":[,]},')
            + len(_FORMATS.get(dtype, (dtype, 4))[0])
            + max(0, count - 1)
            for name, dtype, count in zip(names, dtypes, axes, strict=True)
        ]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return FileLayout(np.array(order, dtype=np.int64), np.array(fixed, dtype=np.int64))

    def size(self, sizes: Whole, shape_digits: Whole, held: NDArray[np.bool_] | None = None) -> int:
        """Returns the size of the file in bytes.

        Args:
            sizes: Bytes of every tensor.
            shape_digits: How many digits the sizes of its axes have together.
            held: Which of the tensors the file holds; all if None.
        """
        order = self.order if held is None else self.order[held[self.order]]
        ends = np.cumsum(sizes[order])
        begins = np.concatenate([[0], ends[:-1]])
        header = int((self.fixed[order] + shape_digits[order] + digits(begins) + digits(ends)).sum())
        header += 2 + SEAL_BYTES - 1  # braces; no comma behind the last
        return 8 + header + -header % 8 + (int(ends[-1]) if len(order) else 0)


def digits(numbers: Whole) -> Whole:
    """Returns how many decimal digits numbers from 0 up have."""
    return 1 + np.searchsorted(_TENS, numbers, side="right").astype(np.int64)


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Returns the size of the file that holds some tensors, in bytes."""
    formats = [str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()]
    layout = FileLayout.of(list(tensors), formats, [tensor.dim() for tensor in tensors.values()])
    sizes = np.array([tensor.numel() * tensor.element_size() for tensor in tensors.values()], dtype=np.int64)
    shapes = [int(digits(np.array(tensor.shape, dtype=np.int64)).sum()) for tensor in tensors.values()]
    return layout.size(sizes, np.array(shapes, dtype=np.int64))

"""Python objects with tensors as a small header and flat buffers, which an object store shares among processes."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parcel:
    """An object, taken apart.

    Attributes:
        header: The object without the contents of its tensors.
        buffers: Those contents, each a flat array of bytes; one for each storage, however many tensors view it.
    """

    header: bytes
    buffers: list[NDArray[np.uint8]]

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return len(self.header) + sum(buffer.nbytes for buffer in self.buffers)


def pack(thing: object) -> Parcel:
    """Takes an object apart. Tensors on the CPU are not copied: do not change them while the parcel is in use.

    Raises:
        pickle.PicklingError: If something in it cannot be sent to another process.
        TypeError: The same.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _TensorPickler(stream, protocol=5, buffer_callback=buffers.append).dump(thing)
    return Parcel(stream.getvalue(), [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers])


def unpack(parcel: Parcel) -> Any:
    """Puts an object together again, with tensors of its own, on the kind of device that they came from.

    A parcel runs code: unpack only what this program has packed.
    """
    return pickle.loads(parcel.header, buffers=parcel.buffers)


class _TensorPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Puts the contents of tensors aside, with one buffer for a storage; functions without a name travel, too."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.storage.TypedStorage):
            return _typed_storage, (obj._untyped_storage, obj.dtype)
        if isinstance(obj, torch.UntypedStorage):
            contents: Any = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj).cpu().numpy()
            return _untyped_storage, (pickle.PickleBuffer(contents), obj.device.type)
        return super().reducer_override(obj)


def _typed_storage(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.storage.TypedStorage:
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]


def _untyped_storage(contents: Any, device: str) -> torch.UntypedStorage:
    """Copies the contents, as the store's own memory must not be written to."""
    flat = np.frombuffer(contents, dtype=np.uint8)
    tensor = torch.empty(len(flat), dtype=torch.uint8)
    tensor.numpy()[:] = flat
    return tensor.to(device).untyped_storage()

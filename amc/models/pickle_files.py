"""Reading files of `torch.save`: tensors and plain containers, no code, and no more than the file holds."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from amc.errors import CheckpointError
from amc.models.pickle_scan import check_pickle
from amc.utils.bounded_files import DamagedFileError, opened

_ARCHIVE = b"PK\3\4"
"""How the archives begin that PyTorch has written since 1.6."""
_END, _LOCATOR, _END_64 = struct.Struct("<4s8xIIH"), struct.Struct("<4s4xQ4x"), struct.Struct("<4s36xQQ")
"""The end of an archive: size and place of its directory and the length of a remark; where the longer form of it is;
and that longer form."""
_PICKLES_OF_OLD_FILES = 5
"""A magic number, the version, the machine, the content, and the names of the storages, which follow."""
_BESIDE = {"scalar": "a NumPy number", "Namespace": "an argparse.Namespace", "_reconstruct": "a NumPy array"}


def read_pickle(file: Path) -> Any:
    """Reads a file of `torch.save` onto the CPU: tensors and plain containers, nothing else.

    Raises:
        CheckpointError: If the file is unreadable, holds anything else, or unpacks to more than it has bytes.
    """
    try:
        _check_instructions(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except DamagedFileError as error:
        raise CheckpointError(
            f"{file} must hold plain tensors and containers, and is refused: {error}; where you trust it, save its "
            "weights with torch.save(model.state_dict(), FILE) and load those"
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds {_what_else(error)}, which may run any code and is refused; where you trust it, save its "
            "weights with torch.save(model.state_dict(), FILE) and load those"
        ) from error
    except Exception as error:  # The reader meets arbitrary bytes with errors of any kind, IndexError among them.
        raise CheckpointError(f"{file} is not a readable PyTorch file: {type(error).__name__}: {error}") from error
    for value in _values_within(content):
        _check_own_names(value, file)
        if isinstance(value, Tensor):
            _check_plain(value, file)
    return content


def _check_instructions(file: Path) -> None:
    """Rejects files that unpack to more than their own size, or whose instructions take more than it justifies.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        CheckpointError: If it unpacks to more.
        DamagedFileError: If its instructions take more.
    """
    with opened(file) as content:
        held, begin = content.seek(0, 2), content.seek(0)
        if content.read(len(_ARCHIVE)) != _ARCHIVE:
            content.seek(begin)
            for _ in range(_PICKLES_OF_OLD_FILES):
                if not check_pickle(content, held):
                    return
            return
        _check_directory(content, held)
        with zipfile.ZipFile(content) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > held or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise CheckpointError(
                    f"{file} must unpack to no more than its {held:,} bytes, as what torch.save writes, but unpacks to "
                    f"{unpacked:,}"
                )
            for entry in entries:  # PyTorch ignores case when it looks for this record
                if entry.filename.lower().endswith("data.pkl"):
                    with archive.open(entry) as record:
                        check_pickle(io.BytesIO(record.read()), held)


def _check_directory(content: BinaryIO, held: int) -> None:
    """Rejects archives that other programs may read otherwise than Python does: those with anything behind their end.

    Raises:
        DamagedFileError: If it is one.
    """
    end = held - _END.size
    sign, size, start, remark = _read(content, end, _END)
    if sign != b"PK\5\6" or remark:
        raise DamagedFileError("an archive must end with its directory, as what torch.save writes")
    sign, place = _read(content, end - _LOCATOR.size, _LOCATOR)
    if sign == b"PK\6\7":
        end -= _LOCATOR.size + _END_64.size
        sign, size, start = _read(content, end, _END_64)
        if sign != b"PK\6\6" or place != end:
            raise DamagedFileError("an archive must end with its directory, as what torch.save writes")
    if start + size != end:
        raise DamagedFileError("the directory of an archive must stand at its end, as in what torch.save writes")


def _read(content: BinaryIO, place: int, form: struct.Struct) -> tuple[Any, ...]:
    """Reads numbers at a place of a file; an archive that is too short for them has zeros there."""
    content.seek(max(0, place))
    held = content.read(form.size) if place >= 0 else b""
    return form.unpack(held.ljust(form.size, b"\0"))


def tensors_within(content: Any) -> Iterator[Tensor]:
    """Yields all tensors in nested plain containers, each once however often it occurs."""
    return (value for value in _values_within(content) if isinstance(value, Tensor))


def _values_within(content: Any) -> Iterator[Any]:
    """Yields all tensors and containers in nested plain containers, each once however often it occurs."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in seen or not isinstance(value, Tensor | Mapping | list | tuple | set):
            continue
        seen.add(id(value))
        yield value
        if not isinstance(value, Tensor):
            pending += value.values() if isinstance(value, Mapping) else value


def _check_own_names(value: Any, file: Path) -> None:
    """Rejects tensors and containers with names of their own that hide those of their class, such as `values`."""
    hidden = [name for name in getattr(value, "__dict__", ()) if hasattr(type(value), str(name))]
    if hidden or (any(name is not None for name in getattr(value, "names", ()))):
        raise CheckpointError(
            f"{file} must hold plain tensors and containers, and one has {str([*hidden, 'names'][0])[:80]!r} of its own"
        )


def _check_plain(tensor: Tensor, file: Path) -> None:
    """Rejects tensors without values of their own: on no device, sparse, quantised, nested or of other classes."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not is_plain or tensor.is_quantized or tensor.is_nested:
        raise CheckpointError(
            f"{file} must hold plain tensors, and holds one of the class {type(tensor).__name__}, the layout "
            f"{tensor.layout}, on {tensor.device}, of type {tensor.dtype}"
        )


def _what_else(error: pickle.UnpicklingError) -> str:
    """Describes what a file holds that is neither tensor nor plain container, as PyTorch's reader names it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is None:
        return "more than tensors, or is no PyTorch file"
    name = found[1].rpartition(".")[2]
    return f"{_BESIDE.get(name, 'more than tensors: an object of another class')} ({found[1]}) beside its weights"

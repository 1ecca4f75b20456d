"""A seal for files of tensors: the digest of what they hold, in their header, so that silent damage is found.

Safetensors checks where tensors lie, not what they are: a disk that returns zeros for the end of a file goes unnoticed.
A file without a seal, of another tool or an earlier version, is read as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from amc.errors import CheckpointError

SEAL = "tensors_sha256"
"""Key of the digest."""


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of tensors by name."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seal(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns what the header of a file with these tensors must say."""
    return {SEAL: digest_of_tensors(dict(sorted(tensors.items())))}


def check_seal(file: object, metadata: Mapping[str, object] | None, tensors: Mapping[str, Tensor]) -> None:
    """Compares the tensors of a file with its seal, if it has one.

    Args:
        file: For the message.
        metadata: Of its header; None if there is none.
        tensors: All that the file holds.

    Raises:
        CheckpointError: If they are not those that the file was written with.
    """
    expected = (metadata or {}).get(SEAL)
    if expected is not None and seal(tensors)[SEAL] != expected:
        raise CheckpointError(
            f"{file} must hold the tensors that it was written with, and does not: it is damaged, or was edited "
            "without its header; restore it from a copy, or delete it to have it made again"
        )


def read_sealed(file: str) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU, and checks its seal.

    Raises:
        CheckpointError: If the seal does not fit.
        SafetensorError: If the file is none of safetensors.
        OSError: If it cannot be read.
    """
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        metadata = opened.metadata()
    check_seal(file, metadata, tensors)
    return tensors

"""A digest of data, by which two machines find out whether they have the same."""

from __future__ import annotations

import hashlib

from amc.data import BatchSource, DataRoles, ImageSet

_FEW = 8
_ROLES = ("train", "calibration", "search", "test")


def fingerprint(data: DataRoles) -> str:
    """Returns a digest of the sizes of all roles, and of a few images and all targets of those that are in memory.

    Of other sources a batch is read, so that files that are missing are noticed; its contents may be random.

    Raises:
        OSError: If data cannot be read.
        DataError: The same.
    """
    digest = hashlib.sha256()
    for name in _ROLES:
        source: BatchSource = getattr(data, name)
        digest.update(f"{name} {len(source)};".encode())
        if isinstance(source, ImageSet):
            few = source.take(range(min(_FEW, len(source))))
            for tensor in (few.images, source.targets):
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        else:
            next(iter(source.batches(1)), None)
    return digest.hexdigest()

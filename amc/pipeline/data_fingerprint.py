"""A digest of data, by which two machines find out whether they have the same."""

from __future__ import annotations

import hashlib

from amc.data import BatchSource, DataRoles, ImageSet, StreamedImages

_FEW = 8
_ROLES = ("train", "calibration", "search", "test")


def fingerprint(data: DataRoles) -> str:
    """Returns a digest of the sizes of all roles, and of a few images and all targets of those that are in memory.

    Of images that stream from disk the names and sizes of all files count. Of these and of other sources an image is
    read too, so that a missing file is noticed; what it shows does not count, as it may be random.

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
            continue
        if isinstance(source, StreamedImages):
            digest.update(source.digest().encode())
            source = source.take(range(min(1, len(source))))
        next(iter(source.batches(1)), None)
    return digest.hexdigest()

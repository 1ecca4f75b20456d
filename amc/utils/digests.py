"""SHA-256 digests of files and texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from amc.utils.bounded_files import opened

_BLOCK = 1 << 20


def digest_of_text(text: str) -> str:
    """Returns the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
    """
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

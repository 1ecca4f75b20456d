"""Where the images and labels of WebDataset shards are: a list made by one pass over the headers of the tar files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch

from amc.data.reading.image_folder import IMAGE_SUFFIXES
from amc.data.reading.pictures import PackedNames
from amc.data.reading.shard_pictures import ShardPictures, state_of
from amc.data.reading.tar_headers import Member, members
from amc.errors import DataError
from amc.utils.bounded_files import DamagedFileError, opened
from amc.utils.progress import Progress, silent

MOST_CLASSES = 1_000_000
_MOST_TEXT_BYTES = 64
_MOST_JSON_BYTES = 1 << 20
_READERS = 8
"""Shards that are read at the same time."""


@dataclass(frozen=True)
class SampleParts:
    """Which members make a sample.

    Attributes:
        image: The suffix of the image; None for that of any image.
        label: The suffix of a member that holds the class as digits, or a field of the sample's `.json`; None for
            `.cls`, and else the field `label`.
    """

    image: str | None = None
    label: str | None = None

    def is_image(self, suffix: str) -> bool:
        """Returns whether a member with some suffix is the image of its sample."""
        return suffix == self.image if self.image else f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES

    @property
    def text(self) -> str:
        """The suffix of a member that holds the class alone."""
        return self.label or "cls"

    @property
    def field(self) -> str:
        """The field of the sample's `.json` that holds the class."""
        return self.label or "label"


@dataclass
class _Sample:
    """What was found of a sample."""

    image: Member | None = None
    text: int | None = None
    field: int | None = None


def index_shards(
    shards: Sequence[Path], parts: SampleParts, advance: Progress = silent
) -> tuple[ShardPictures, torch.Tensor]:
    """Lists the images of shards in their order.

    Args:
        shards: The tar files.
        parts: Which members make a sample.
        advance: Takes the share of the shards that is done.

    Returns:
        The images, and their classes `(N,)`, int64.

    Raises:
        DataError: If a shard is damaged, or a sample lacks its image or its class.
    """
    found: list[tuple[Member, int]] = []
    counts: list[int] = []
    states: list[tuple[int, int]] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for state, samples in pool.map(lambda shard: _samples(shard, parts), shards):
            found += samples
            states.append(state)
            counts.append(len(samples))
            advance(len(counts) / len(shards))
    if not found:
        raise DataError(
            f"the shards beside {shards[0]} hold no image; images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    pictures = ShardPictures(
        tuple(shards),
        numpy.repeat(numpy.arange(len(shards)), counts),
        numpy.array([member.offset for member, _ in found], dtype=numpy.int64),
        numpy.array([member.size for member, _ in found], dtype=numpy.int64),
        PackedNames.of(member.name for member, _ in found),
        tuple(states),
    )
    return pictures, torch.tensor([label for _, label in found], dtype=torch.int64)


def _samples(shard: Path, parts: SampleParts) -> tuple[tuple[int, int], list[tuple[Member, int]]]:
    """Returns the state of a shard, and lists its images and their classes.

    Raises:
        DataError: As `index_shards` does.
    """
    try:
        with opened(shard) as file:
            state = state_of(os.fstat(file.fileno()))
            grouped = _grouped(file, parts)
    except DamagedFileError as error:
        raise DataError(f"the shard {shard} cannot be used: {error}; write or fetch it again, or remove it") from error
    except OSError as error:
        raise DataError(f"cannot read the shard {shard}: {error}; check data.root") from error
    found = []
    for key, sample in grouped.items():
        label = sample.field if sample.text is None else sample.text
        if sample.image is None and sample.text is None:
            continue  # a .json that belongs to no image
        if sample.image is None or label is None:
            lacks = "image" if sample.image is None else "class"
            raise DataError(
                f"every sample needs an image and a class, and {key!r} of {shard} has no {lacks}: the class is in "
                f"{key}.{parts.text}, or in the field {parts.field!r} of {key}.json; add it, or name others with "
                "data.image_column and data.label_column"
            )
        found.append((sample.image, label))
    return state, found


def _grouped(file: BinaryIO, parts: SampleParts) -> dict[str, _Sample]:
    """Groups members by their names up to the first dot, as WebDataset does."""
    samples: dict[str, _Sample] = {}
    seen: set[str] = set()
    for member in members(file):
        key, suffix = _key_and_suffix(member.name)
        is_image = parts.is_image(suffix)
        if not key or not (is_image or suffix in (parts.text, "json")):
            continue
        if f"{key}.{suffix}" in seen:
            raise DamagedFileError(f"it holds {member.name!r} twice")
        seen.add(f"{key}.{suffix}")
        sample = samples.setdefault(key, _Sample())
        if is_image:
            if sample.image is not None:
                raise DamagedFileError(
                    f"its sample {key!r} has two images, {sample.image.name!r} and {member.name!r} (a key ends at the "
                    "first dot); name the suffix of one with data.image_column"
                )
            sample.image = member
        elif suffix == parts.text:
            sample.text = _whole_number(
                _content(file, member, _MOST_TEXT_BYTES).strip().decode("ascii", "replace"), member
            )
        else:
            sample.field = _field(_content(file, member, _MOST_JSON_BYTES), parts.field, member)
    return samples


def _key_and_suffix(name: str) -> tuple[str, str]:
    """Splits a member's name at the first dot after its folders; both are empty for names that belong to no sample."""
    folders, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if not stem or not suffix or (stem.startswith("__") and stem.endswith("__")):
        return "", ""
    return folders + slash + stem, suffix.lower()


def _content(file: BinaryIO, member: Member, most: int) -> bytes:
    """Reads a small member."""
    if member.size > most:
        raise DamagedFileError(f"{member.name!r} must have at most {most:,} bytes, and has {member.size:,}")
    file.seek(member.offset)
    return file.read(member.size)


def _field(content: bytes, name: str, member: Member) -> int | None:
    """Returns the class from a field of JSON; None if there is no such field."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{member.name!r} is no valid JSON") from error
    value = record.get(name) if isinstance(record, dict) else None
    return None if value is None else _whole_number(value, member)


def _whole_number(value: Any, member: Member) -> int:
    """Returns a class.

    Raises:
        DamagedFileError: If it is not a whole number, or out of range.
    """
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_CLASSES:
        shown = repr(value)[:40]
        raise DamagedFileError(
            f"the class in {member.name!r} must be a whole number from 0 to {MOST_CLASSES - 1:,}, and is {shown}"
        )
    return value

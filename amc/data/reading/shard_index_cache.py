"""The index of shards, kept in the user's cache folder: their headers are read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from amc.data.reading.cache_entries import keep_entry, read_entry
from amc.data.reading.pictures import PackedNames
from amc.data.reading.shard_index import MOST_CLASSES, SampleParts, index_shards
from amc.data.reading.shard_pictures import ShardPictures, state_of
from amc.errors import DataError
from amc.utils.progress import Progress, silent

# Part of the names of entries: raise it when the same shards are indexed in another way.
_INDEXING = 1
_ARRAYS = ("shard", "offsets", "sizes", "ends", "targets")


def index_shards_cached(
    shards: Sequence[Path], parts: SampleParts, cache: Path | None, advance: Progress = silent
) -> tuple[ShardPictures, Tensor]:
    """Lists the images of shards, or reads the result of an earlier call.

    Args:
        shards: As for `index_shards`, and so are `parts` and `advance`.
        parts: As there.
        cache: The folder of the cache; `None` does without. An entry is named by the path, size and time of change of
            every shard, so that no stale one is read.
        advance: As there.

    Returns:
        As `index_shards` does.

    Raises:
        DataError: As for `index_shards`.
    """
    if cache is None:
        return index_shards(shards, parts, advance)
    states = [_state(shard) for shard in shards]
    paths = [ascii(str(shard.resolve())) for shard in shards]
    named = json.dumps([_INDEXING, parts.image, parts.label, list(zip(paths, states, strict=True))]).encode()
    entry = cache / f"shards-{hashlib.sha256(named).hexdigest()[:20]}.safetensors"
    kept = _checked(read_entry(entry), shards, states)
    if kept is not None:
        advance(1.0)
        return kept
    pictures, targets = index_shards(shards, parts, advance)
    content = numpy.frombuffer(pictures.names.content, dtype=numpy.uint8)
    arrays = pictures.shard, pictures.offsets, pictures.sizes, pictures.names.ends
    if list(pictures.states) != states:
        return pictures, targets  # of shards that changed meanwhile
    tensors = dict(zip(_ARRAYS, [*map(torch.from_numpy, arrays), targets], strict=True))
    keep_entry(entry, tensors | {"names": torch.from_numpy(content.copy())})
    return pictures, targets


def _state(shard: Path) -> tuple[int, int]:
    """Returns the state of a shard; see `state_of`."""
    try:
        return state_of(shard.stat())
    except OSError as error:
        raise DataError(f"cannot read the shard {shard}: {error}; check data.root") from error


def _checked(
    found: dict[str, Tensor], shards: Sequence[Path], states: list[tuple[int, int]]
) -> tuple[ShardPictures, Tensor] | None:
    """Returns the index in an entry; None if it is not one of these shards."""
    if found.keys() != {*_ARRAYS, "names"} or found["names"].dtype != torch.uint8:
        return None
    arrays = [found[name] for name in _ARRAYS]
    count = len(arrays[0]) if arrays[0].dim() == 1 else 0
    if not count or any(array.dtype != torch.int64 or array.shape != (count,) for array in arrays):
        return None
    shard, offsets, sizes, ends, targets = arrays
    if any(int(array.min()) < 0 for array in arrays) or int(shard.max()) >= len(shards):
        return None
    beyond = offsets > torch.tensor([size for size, _ in states])[shard] - sizes
    if bool(beyond.any()) or int(targets.max()) >= MOST_CLASSES:
        return None
    if bool((ends.diff() < 0).any()) or found["names"].shape != (int(ends[-1]),):
        return None
    names = PackedNames(found["names"].numpy().tobytes(), ends.numpy())
    return ShardPictures(tuple(shards), shard.numpy(), offsets.numpy(), sizes.numpy(), names, tuple(states)), targets

"""A process's part of the training images."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from amc.data.image_set import BatchSource
from amc.errors import ConfigurationError


@runtime_checkable
class Shardable(Protocol):
    """A split of which processes can read parts."""

    def shard(self, rank: int, size: int) -> BatchSource:
        """Returns the same split with a part of every training batch: of B images those from B / size * rank on.

        All parts take the same random numbers from the generator that `batches` is given.
        """
        ...


def shard_of(source: BatchSource, rank: int, size: int) -> BatchSource:
    """Returns what a process reads of the training images.

    Raises:
        ConfigurationError: If they cannot be shared out.
    """
    if size == 1:
        return source
    if not isinstance(source, Shardable):
        raise ConfigurationError(
            f"several processes need training data that can be shared out, and {type(source).__name__} cannot: give "
            "tensors, a map-style data set or a loader of one, define shard(rank, size), or train with devices 1"
        )
    return source.shard(rank, size)

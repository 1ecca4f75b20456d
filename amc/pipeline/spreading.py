"""Over which workers the candidates of a run, or the searches of a study, are spread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from amc.cluster import OpenExecutor
from amc.cluster.cluster import Needs, check_cluster, connected
from amc.errors import ConfigurationError
from amc.runtime import resolve_device


@contextmanager
def spread_over(
    cluster: str | None,
    workers: int | None,
    *,
    device: str,
    deterministic: bool,
    devices: int = 1,
    first_images: int | None = None,
) -> Iterator[OpenExecutor | None]:
    """Connects to a cluster, and yields what brings work to it; None without one.

    A worker computes with as many threads as this process does when the work begins, and has a GPU where this has one.

    Args:
        cluster: `"local"` for this machine, or the address of a cluster's head; None for this process alone.
        workers: How many workers; None for as many as there is room for.
        device: Where the work computes.
        deterministic: Whether it takes deterministic algorithms.
        devices: How many processes share its trainings.
        first_images: Images on which a candidate is scored first, where candidates are what is spread.

    Raises:
        ConfigurationError: If the options do not fit each other.
        ClusterError: If the cluster cannot be reached.
    """

    def needs() -> Needs:
        gpus = int(resolve_device(device).type == "cuda")
        return Needs(threads=torch.get_num_threads(), gpus=gpus, deterministic=deterministic)

    check_cluster(cluster, workers)
    if cluster is None:
        yield None
        return
    if first_images is not None:
        raise ConfigurationError(
            f"first_images {first_images} lets each candidate decide how far the next is scored, so that none can be "
            "scored side by side: leave it or the cluster out"
        )
    if devices != 1:
        raise ConfigurationError(
            f"devices {devices} trains one network in several processes, and a cluster spreads searches over workers: "
            "give one of them"
        )
    with connected(cluster, workers, needs) as open_executor:
        yield open_executor

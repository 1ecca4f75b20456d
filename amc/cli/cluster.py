"""`--cluster` and `--workers`: where the work of a command is spread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import jsonargparse

from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from amc.cluster import OpenExecutor
    from amc.pipeline.config import RunConfig


def add_cluster_options(parser: jsonargparse.ArgumentParser, what: str) -> None:
    """Adds the options.

    Args:
        parser: The parser of the command.
        what: What is spread, in the plural, for the help.
    """
    parser.add_argument(
        "--cluster",
        metavar="local|ADDRESS",
        type=str | None,
        default=None,
        help=f"Spread {what} over the processors of this machine, or over a Ray cluster, as HOST:6379; the results "
        "are the same. Needs pip install 'amc-compress[cluster]'.",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int | None,
        default=None,
        help="With --cluster: workers, each with the network; unset: as many as there are processors, or GPUs.",
    )


def check_cluster_options(options: jsonargparse.Namespace) -> None:
    """Checks the options, before anything takes time.

    Raises:
        ConfigurationError: If there are workers without a cluster, or fewer than one.
        ClusterError: If Ray is not installed.
    """
    from amc.cluster.cluster import check_cluster

    check_cluster(options.cluster, options.workers)


@contextmanager
def cluster_of(
    options: jsonargparse.Namespace, config: RunConfig, *, races: bool = True
) -> Iterator[OpenExecutor | None]:
    """Connects to the cluster that the options name, and yields what brings work to it; None without one.

    A worker computes with as many threads as this process does when the work begins, and has a GPU where this has one.

    Args:
        options: The parsed options.
        config: The configuration.
        races: Whether candidates may race: where they are what is spread, they cannot.

    Raises:
        ConfigurationError: If the options do not fit each other.
        ClusterError: If it cannot be reached.
    """
    from amc.cluster.cluster import Needs, connected

    def needs() -> Needs:
        import torch

        from amc.runtime import resolve_device

        gpus = int(resolve_device(config.device).type == "cuda")
        return Needs(threads=torch.get_num_threads(), gpus=gpus, deterministic=config.deterministic)

    check_cluster_options(options)
    if options.cluster is None:
        yield None
        return
    if config.first_images is not None and not races:
        raise ConfigurationError(
            f"--first_images {config.first_images} lets each candidate decide how far the next is scored, so that none "
            "can be scored side by side: leave it or --cluster out"
        )
    if config.devices != 1:
        raise ConfigurationError(
            f"--devices {config.devices} trains one network in several processes, and --cluster spreads searches over "
            "workers: give one of them"
        )
    with connected(options.cluster, options.workers, needs) as open_executor:
        yield open_executor

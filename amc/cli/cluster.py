"""`--cluster` and `--workers`: where the work of a command is spread."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import jsonargparse

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


def cluster_of(
    options: jsonargparse.Namespace, config: RunConfig, *, races: bool = True
) -> AbstractContextManager[OpenExecutor | None]:
    """Returns the context of the cluster that the options name; see `amc.pipeline.spreading.spread_over`.

    Args:
        options: The parsed options.
        config: The configuration.
        races: Whether candidates may race: where they are what is spread, they cannot.

    Raises:
        ConfigurationError: If the options do not fit each other.
        ClusterError: If it cannot be reached.
    """
    from amc.pipeline.spreading import spread_over

    return spread_over(
        options.cluster,
        options.workers,
        device=config.device,
        deterministic=config.deterministic,
        devices=config.devices,
        first_images=None if races else config.first_images,
    )

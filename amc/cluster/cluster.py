"""A cluster by its address: connecting, counting what it has, and bringing replicas to it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from amc.cluster.executor import Executor, OpenExecutor, Replica
from amc.cluster.parcel import Parcel, pack
from amc.cluster.pool import Pool
from amc.errors import ClusterError, ConfigurationError
from amc.utils.counted import counted
from amc.utils.progress import Shows

LOCAL = "local"
_SPARE = 0.7
"""Share of a node's object store that a replica may take: results and Ray's own objects need the rest."""
_LEAST_STORE = 100 << 20
_CLOSING_S = 10.0
_ANSWER_S = 5.0
_OF_A_LOCAL_CLUSTER = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Nothing is sent anywhere; and workers get the processor as this process would, not the last of all (Ray's 15)."""


@dataclass(frozen=True)
class Needs:
    """What a worker takes.

    Attributes:
        threads: Threads of the CPU that it computes with.
        gpus: GPUs that it has to itself: one, or none.
        deterministic: Whether GPUs take deterministic algorithms.
    """

    threads: int = 1
    gpus: int = 0
    deterministic: bool = False

    def resources(self) -> dict[str, float]:
        """Returns what Ray sets aside for a worker."""
        return {"num_cpus": self.threads, "num_gpus": self.gpus}

    def workers_on(self, node: dict[str, Any]) -> int:
        """Returns how many workers fit on a node that Ray describes."""
        resources = node["Resources"] if node["Alive"] else {}
        by_cpu = int(resources.get("CPU", 0)) // self.threads
        return min(by_cpu, int(resources.get("GPU", 0))) if self.gpus else by_cpu


def check_cluster(address: str | None, workers: int | None) -> None:
    """Checks the options that name a cluster, before anything takes time.

    Args:
        address: `"local"`, or the address of a cluster's head; None for no cluster.
        workers: How many workers; None for as many as there is room for.

    Raises:
        ConfigurationError: If there are workers without a cluster, or fewer than one.
        ClusterError: If Ray is not installed.
    """
    if workers is not None and (address is None or workers < 1):
        raise ConfigurationError(f"workers must be 1 or more, and need a cluster, such as local, not {workers}")
    if address is not None and find_spec("ray") is None:
        raise ClusterError("a cluster needs Ray, which is not installed: pip install 'amc-compress[cluster]'")


@contextmanager
def connected(address: str, workers: int | None, needs: Callable[[], Needs]) -> Iterator[OpenExecutor]:
    """Connects to a cluster, and yields what brings a replica to its workers.

    Where this process has connected Ray already, that connection serves, and stays.

    Args:
        address: `"local"` for this machine, or the address of a cluster's head.
        workers: How many workers; None for as many as there is room for.
        needs: Tells what a worker takes; asked when a replica is brought there.

    Raises:
        ClusterError: If there is no cluster at the address.
    """
    import ray

    is_ours = not ray.is_initialized()
    if address != LOCAL and is_ours:
        check_answers(address)
        _connect(address)
    opened: list[Executor] = []

    def open_executor(replica: Replica, shown: Shows) -> Executor:
        opened.append(_opened(address, workers, needs(), replica, shown))
        return opened[-1]

    try:
        yield open_executor
    finally:
        if is_ours:
            _leave(ray)
        else:
            for executor in opened:
                executor.close()


def _leave(ray: Any) -> None:
    """Ends the connection, in a thread, which may wait for a dead head forever."""

    def shutdown() -> None:
        with suppress(Exception):
            ray.shutdown()

    closing = threading.Thread(target=shutdown, daemon=True)
    closing.start()
    closing.join(_CLOSING_S)


def check_answers(address: str) -> None:
    """Checks that something listens where the head of a cluster should be: Ray itself tries for minutes.

    Raises:
        ClusterError: If nothing does, or the address has no port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"cluster must be local or HOST:PORT, such as head:6379, not {address!r}")
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, found: str) -> ClusterError:
    return ClusterError(
        f"a Ray cluster must answer at {address}, and none does ({found}): start one (ray start --head), or take "
        "local, which is this machine"
    )


@contextmanager
def keeping_signal_handlers() -> Iterator[None]:
    """Restores the handlers of signals that Ray replaces: a stop must still end this process at a safe point."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(address: str, **options: Any) -> None:
    """Connects Ray; its own words become one line."""
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        with keeping_signal_handlers():
            ray.init(address=address, **quiet, **options)
    except Exception as error:  # Ray has no class for all of these
        text = " ".join(str(error).split())
        if "ersion mismatch" in text:
            raise ClusterError(
                f"the cluster at {address} must have this Python and this Ray ({ray.__version__}): {text[:200]}; "
                "install the same on every node"
            ) from error
        raise _no_cluster(address, text[:160]) from error


def _opened(address: str, workers: int | None, needs: Needs, replica: Replica, shown: Shows) -> Executor:
    """Packs a replica, checks that there is room for it, and starts the workers."""
    import ray

    from amc.cluster.head_watch import HeadWatch
    from amc.cluster.ray_fleet import RayFleet

    parcel, fingerprint = _packed(replica), replica.fingerprint()
    if address == LOCAL and not ray.is_initialized():
        for name, value in _OF_A_LOCAL_CLUSTER.items():
            os.environ.setdefault(name, value)
        _connect(LOCAL, include_dashboard=False, object_store_memory=max(_LEAST_STORE, int(2 * parcel.nbytes)))
    nodes = ray.nodes()
    size = count_workers(nodes, needs, workers)
    check_store(nodes, needs, parcel.nbytes)
    shown.say(f"cluster: {counted(size, 'worker')}, {parcel.nbytes / 1e6:,.0f} MB sent to each node")
    try:
        fleet = RayFleet(
            parcel,
            fingerprint,
            shown,
            size=size,
            resources=needs.resources(),
            threads=needs.threads,
            deterministic=needs.deterministic,
            watch=HeadWatch(ray.nodes, address),
        )
    except ray.exceptions.RayError as error:
        raise _too_small("an object store", parcel.nbytes, str(error).split("\n")[0]) from error
    return Pool(fleet, shown)


def _packed(replica: Replica) -> Parcel:
    try:
        return pack(replica)
    except Exception as error:  # pickling raises what the user's classes do
        text = " ".join(str(error).split())
        raise ClusterError(
            f"network and data must be such that they can be sent to another process, and are not ({text[:200]}): "
            "leave the cluster out, or keep open files, locks and connections out of your own classes"
        ) from error


def count_workers(nodes: Sequence[dict[str, Any]], needs: Needs, wanted: int | None) -> int:
    """Returns how many workers to start.

    Args:
        nodes: The nodes, as Ray describes them.
        needs: What a worker takes.
        wanted: What the user asked for; None for as many as there is room for.

    Raises:
        ClusterError: If there is room for none, or for fewer than asked for.
    """
    room = sum(needs.workers_on(node) for node in nodes)
    what = "1 GPU and " if needs.gpus else ""
    if not room:
        raise ClusterError(
            f"a node must have {what}{needs.threads} processors for a worker, and none has: start one that has, or "
            "compute with fewer threads (deterministic takes one)"
        )
    if wanted is not None and wanted > room:
        raise ClusterError(
            f"workers must be at most {room}, for which the cluster has room at {what}{needs.threads} processors "
            f"each, not {wanted}"
        )
    return wanted or room


def check_store(nodes: Sequence[dict[str, Any]], needs: Needs, nbytes: int) -> None:
    """Checks that a replica fits into the object store of every node that may have a worker.

    Raises:
        ClusterError: If it does not.
    """
    for node in nodes:
        have = int(node["Resources"].get("object_store_memory", 0))
        if needs.workers_on(node) and nbytes > _SPARE * have:
            raise _too_small(
                f"the object store of {node['NodeManagerHostname']}", nbytes, f"it has {have / 1e6:,.0f} MB"
            )


def _too_small(what: str, nbytes: int, found: str) -> ClusterError:
    need = int(nbytes / _SPARE) + 1
    return ClusterError(
        f"{what} must have {need / 1e6:,.0f} MB for network, tables and images ({found}): start Ray there with "
        f"--object-store-memory {max(need, _LEAST_STORE)}, and repeat the command"
    )

"""Workers as Ray actors (Moritz et al., 2018, arXiv:1712.05889)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from amc.cluster.fitness import check_data, check_versions
from amc.cluster.head_watch import HeadWatch
from amc.cluster.parcel import Parcel
from amc.cluster.pool import Done, Event, Failed, Lost, Ready
from amc.cluster.replay import replay
from amc.cluster.worker import Worker, here
from amc.errors import ClusterError
from amc.utils.progress import Shows

_FACTS, _OPEN, _WORK = "facts", "open", "work"


class RayFleet:
    """Starts actors, brings the replica to each from the object store, and gives them jobs.

    Attributes:
        size: How many workers are wanted.
    """

    def __init__(
        self,
        parcel: Parcel,
        fingerprint: str,
        shown: Shows,
        *,
        size: int,
        resources: Mapping[str, float],
        threads: int,
        deterministic: bool = False,
        watch: HeadWatch | None = None,
    ) -> None:
        """Puts the replica into the object store, once.

        Args:
            parcel: The replica.
            fingerprint: What every worker must find its data to be.
            shown: Shows the lines that workers say.
            size: How many workers are wanted.
            resources: What a worker takes of its node: `num_cpus`, `num_gpus`.
            threads: Threads of the CPU that a worker computes with.
            deterministic: Whether GPUs take deterministic algorithms.
            watch: Notices a dead head node.
        """
        self.size = size
        self._fingerprint, self._shown, self._watch = fingerprint, shown, watch
        self._here = here()
        self._arguments = {"threads": threads, "deterministic": deterministic}
        self._parcel = ray.put(parcel)
        self._Actor = ray.remote(Worker).options(**resources, max_concurrency=2, max_restarts=0, max_task_retries=0)
        self._actors: dict[int, Any] = {}
        self._machines: dict[int, str] = {}
        self._waiting: dict[Any, tuple[int, str]] = {}
        self._shares: dict[int, float] = {}
        self._asked: dict[Any, int] = {}
        self._hired = 0

    def hire(self) -> int:
        """Starts a worker; see `Fleet`."""
        self._hired += 1
        actor = self._actors[self._hired] = self._Actor.remote(**self._arguments)
        self._waiting[actor.facts.remote()] = (self._hired, _FACTS)
        return self._hired

    def assign(self, worker: Any, job: Any) -> None:
        """Gives a worker a job; see `Fleet`."""
        self._waiting[self._actors[worker].work.remote(job)] = (worker, _WORK)

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns what has happened; see `Fleet`."""
        if self._watch is not None:
            self._watch.check()
        known = list(self._waiting)
        done, _ = ray.wait(known, num_returns=1, timeout=seconds)
        if done:
            done = ray.wait(known, num_returns=len(known), timeout=0)[0] or done
        events = (self._event_of(ref, *self._waiting.pop(ref)) for ref in done)
        return [event for event in events if event is not None]

    def underway(self) -> float:
        """Returns the jobs under way; see `Fleet`. The answers are those to the last question, which is asked again."""
        busy = {worker for worker, step in self._waiting.values() if step == _WORK}
        done, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0) if self._asked else ([], [])
        for ref in done:
            worker = self._asked.pop(ref)
            with suppress(RayError):
                self._shares[worker] = ray.get(ref)
        for worker in busy - set(self._asked.values()):
            self._asked[self._actors[worker].underway.remote()] = worker
        return sum(self._shares.get(worker, 0.0) for worker in busy)

    def close(self) -> None:
        """Ends all workers."""
        for actor in self._actors.values():
            with suppress(RayError, RuntimeError):
                ray.kill(actor)
        self._actors, self._waiting, self._asked = {}, {}, {}

    def _event_of(self, ref: Any, worker: int, step: str) -> Event | None:
        """Returns what an answer means; None for a step on the way to a worker that is ready."""
        try:
            return self._event(worker, step, ray.get(ref))
        except RayError as error:
            return self._loss(worker, error)
        except Exception as error:  # of the job, as it would be in this process
            return Failed(worker, error)

    def _event(self, worker: int, step: str, value: Any) -> Event | None:
        if step == _FACTS:
            self._machines[worker] = check_versions(self._here, value, self._shown)
            self._waiting[self._actors[worker].open.remote(self._parcel)] = (worker, _OPEN)
            return None
        if step == _OPEN:
            check_data(self._machines[worker], self._fingerprint, value)
            return Ready(worker)
        self._shares.pop(worker, None)
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked != worker}
        return Done(worker, replay(value, self._shown))

    def _loss(self, worker: int, error: RayError) -> Lost | Failed:
        """Forgets a worker; one that only seems to be dead is ended, as its job is done elsewhere.

        A node that lacks this program fails: no other worker could help.
        """
        if "No module named" in str(error):
            module = str(error).rpartition("No module named")[2].split("\n")[0].strip(" '\".")
            words = (
                f"every node must have the same packages, and a worker lacks {module!r}: install amc there as here "
                "(pip install 'amc-compress[cluster]'), and repeat the command"
            )
            return Failed(worker, ClusterError(words))
        with suppress(RayError, RuntimeError):
            ray.kill(self._actors[worker])
        del self._actors[worker]
        place = self._machines.get(worker)
        reason = type(error).__name__ if place is None else f"{type(error).__name__} on {place}"
        return Lost(worker, reason)

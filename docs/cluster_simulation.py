"""Simulates the scheduling of a study on a large cluster: python docs/cluster_simulation.py.

The pool is the product's own (`amc.cluster.pool.Pool`); only its workers and its clock are made up. docs/cluster.md
says where the figures come from and what the simulation leaves out.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from dataclasses import dataclass

from amc.cluster.pool import Done, Lost, Pool, Ready


@dataclass(frozen=True)
class Assumptions:
    """What a cluster is taken to be.

    Attributes:
        nodes: Machines.
        per_node: Workers on each: one a GPU, or one a few processors.
        start_s: Seconds in which a worker starts and imports.
        replica_mb: What is sent to each node, once.
        link_mb_s: What the driver's link carries; the nodes share it, as if each fetched from there.
        unpack_mb_s: At which a worker copies the replica out of the store.
        dispatch_s: Seconds of the driver for each result and the job that follows it.
        cell_s: Median seconds of a cell.
        spread: Standard deviation of the logarithm of a cell's seconds.
        node_hours: Mean time between two deaths of a node.
        reboot_s: After which a dead node is back.
    """

    nodes: int = 1
    per_node: int = 8
    start_s: float = 10.0
    replica_mb: float = 260.0
    link_mb_s: float = 1000.0
    unpack_mb_s: float = 900.0
    dispatch_s: float = 0.01
    cell_s: float = 300.0
    spread: float = 0.5
    node_hours: float = 1000.0
    reboot_s: float = 600.0


class SimulatedFleet:
    """Workers on nodes that die at random, on a clock that jumps from event to event."""

    def __init__(self, assumed: Assumptions, seed: int) -> None:
        self.size = assumed.nodes * assumed.per_node
        self.now, self.busy_s, self.lost_s = 0.0, 0.0, 0.0
        self._assumed, self._random = assumed, random.Random(seed)
        self._events: list[tuple[float, int, object]] = []
        self._order, self._names = itertools.count(), itertools.count()
        self._free = [node for node in range(assumed.nodes) for _ in range(assumed.per_node)]
        self._node: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._has_replica: dict[int, float] = {}
        self._waiting: list[int] = []
        self._dies = {node: self._next_death(0.0) for node in range(assumed.nodes)}
        for node, when in self._dies.items():
            self._at(when, ("death", node))

    def hire(self) -> int:
        """Starts a worker where there is room; see `Fleet`."""
        worker = next(self._names)
        if self._free:
            self._start(worker, self._free.pop(0))
        else:
            self._waiting.append(worker)
        return worker

    def assign(self, worker: int, job: float) -> None:
        """Begins a job, which is its length in seconds; see `Fleet`."""
        self.now += self._assumed.dispatch_s  # the driver does one thing after the other
        self._began[worker] = self.now
        self._at(self.now + job, Done(worker, job))

    def wait(self, seconds: float) -> list[object]:
        """Jumps to the next event; see `Fleet`."""
        while self._events:
            when, _, event = heapq.heappop(self._events)
            self.now = max(self.now, when)
            if isinstance(event, (Ready, Done)) and event.worker not in self._node:
                continue  # it died in the meantime
            if isinstance(event, Done):
                self.busy_s += self.now - self._began.pop(event.worker)
            if isinstance(event, tuple):
                found = self._happens(*event)
                if found:
                    return found
                continue
            return [event]
        return []

    def underway(self) -> float:
        """Is not watched."""
        return 0.0

    def close(self) -> None:
        """Does nothing."""

    def _happens(self, kind: str, node: int) -> list[object]:
        if kind == "back":
            for _ in range(self._assumed.per_node):
                if self._waiting:
                    self._start(self._waiting.pop(0), node)
                else:
                    self._free.append(node)
            self._at(self._next_death(self.now), ("death", node))
            return []
        lost = [worker for worker, place in self._node.items() if place == node]
        for worker in lost:
            del self._node[worker]
            self.lost_s += self.now - self._began.pop(worker, self.now)
        self._free = [place for place in self._free if place != node]
        self._has_replica.pop(node, None)
        self._at(self.now + self._assumed.reboot_s, ("back", node))
        return [Lost(worker, "its node died") for worker in lost]

    def _start(self, worker: int, node: int) -> None:
        assumed = self._assumed
        self._node[worker] = node
        if node not in self._has_replica:  # one node after the other over the driver's link
            last = max([*self._has_replica.values(), self.now + assumed.start_s])
            self._has_replica[node] = last + assumed.replica_mb / assumed.link_mb_s
        arrived = max(self._has_replica[node], self.now + assumed.start_s)
        self._at(arrived + assumed.replica_mb / assumed.unpack_mb_s, Ready(worker))

    def _at(self, when: float, event: object) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _next_death(self, since: float) -> float:
        return since + self._random.expovariate(1.0 / (3600.0 * self._assumed.node_hours))


class _Silent:
    def stage(self, title: str, total: int = 100, unit: str = "%") -> None:
        raise AssertionError("the pool shows no stages")

    def say(self, line: str) -> None:
        pass


def simulate(assumed: Assumptions, cells: int, seed: int = 0) -> dict[str, float]:
    """Returns makespan, share of the workers' time that finished cells took, and time lost with dead nodes."""
    draw = random.Random(seed + 1)
    jobs = [assumed.cell_s * math.exp(draw.gauss(0.0, assumed.spread)) for _ in range(cells)]
    fleet = SimulatedFleet(assumed, seed)
    pool = Pool(fleet, _Silent(), clock=lambda: fleet.now)
    for job in jobs:
        pool.submit(job)
    done = sum(1 for _ in pool.results())
    assert done == cells, "every cell is done"
    return {
        "hours": fleet.now / 3600,
        "speedup": sum(jobs) / fleet.now,
        "used": sum(jobs) / (fleet.now * fleet.size),
        "longest": max(jobs) / fleet.now,
        "lost": fleet.lost_s / (fleet.now * fleet.size),
    }


CASES = {
    "8 GPUs, 99 cells": (Assumptions(nodes=1, per_node=8), 99),
    "8 GPUs, 1,000 cells": (Assumptions(nodes=1, per_node=8), 1000),
    "64 nodes of 8, 1,000 cells": (Assumptions(nodes=64, per_node=8), 1000),
    "64 nodes of 8, 10,000 cells": (Assumptions(nodes=64, per_node=8), 10_000),
    "the same, replica of 8 GB": (Assumptions(nodes=64, per_node=8, replica_mb=8000), 10_000),
    "the same, cells of 10 s": (Assumptions(nodes=64, per_node=8, cell_s=10), 10_000),
    "the same, a node dies every 24 h": (Assumptions(nodes=64, per_node=8, node_hours=24), 10_000),
    "the same, cells of very unequal length": (Assumptions(nodes=64, per_node=8, spread=1.0), 10_000),
}


def main() -> None:
    """Prints the table of docs/cluster.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    print("| cluster and study | workers | hours | speed-up | of the workers' time | the longest cell is | lost |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (assumed, cells) in CASES.items():
        runs = [simulate(assumed, cells, seed) for seed in seeds]
        mean = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}
        print(
            f"| {name} | {assumed.nodes * assumed.per_node} | {mean['hours']:.2f} | {mean['speedup']:.1f} | "
            f"{mean['used']:.0%} | {mean['longest']:.0%} | {mean['lost']:.1%} |"
        )


if __name__ == "__main__":
    main()

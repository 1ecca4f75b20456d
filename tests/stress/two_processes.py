"""Times one process with one thread, one with two, and two processes with one thread each, on the CPU, in turn.

    python tests/stress/two_processes.py                      # ResNet-20, batches of 128, ten rounds
    python tests/stress/two_processes.py --rounds 3 --images 512

Both train the same network on the same batches. The wall time of an epoch says which is faster on a machine that is
free; on one that is shared with others, processor time says what each costs: with OMP_WAIT_POLICY=passive, as threads
that wait for each other spin otherwise. The first round is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.training import TrainConfig, TrainingHooks, train_model
from amc.training.distributed.checks import check_installed
from amc.training.distributed.processes import LocalProcesses
from amc.training.work import ONE


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="a built-in network (resnet20)")
    parser.add_argument("--images", type=int, default=1024, help="training images of an epoch (1024)")
    parser.add_argument("--batch", type=int, default=128, help="images of a step (128)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (10)")
    options = parser.parse_args()
    check_installed()
    data = load_data(DataConfig(name="fake", train_images=options.images + 100, test_images=100, search_images=100))
    config = TrainConfig(epochs=1, batch_size=options.batch, dtype="float32", learning_rate=0.01)
    pair = LocalProcesses(2, "cpu")
    cases = {"one process, one thread": (ONE, 1), "one process, two threads": (ONE, 2), "two processes": (pair, 2)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(options.rounds + 1):
        for name, (processes, threads) in cases.items():
            torch.set_num_threads(threads)
            workers = [process.pid for process in pair._others if process.pid is not None]
            seconds: list[float] = []
            hooks = TrainingHooks(on_epoch=lambda record, seconds=seconds: seconds.append(record.seconds))
            before = _processor_seconds(workers)
            train_model(
                create_model(options.model, seed=0), data, config, device="cpu", hooks=hooks, processes=processes
            )
            spent = _processor_seconds(workers) - before
            if number:
                found[name].append((seconds[0], spent))
            print(f"round {number}, {name}: {seconds[0]:.2f} s, processor {spent:.2f} s, {_load()}", flush=True)
    pair.close()
    for name, measured in found.items():
        wall, spent = zip(*measured, strict=True)
        print(
            f"{name}: wall {statistics.median(wall):.2f} s (least {min(wall):.2f}), processor "
            f"{statistics.median(spent):.2f} s (least {min(spent):.2f}), of {options.rounds} rounds"
        )
    two = found.pop("two processes")
    for name, measured in found.items():
        wall, spent = ([b[i] / a[i] for a, b in zip(measured, two, strict=True)] for i in (0, 1))
        print(
            f"two processes to {name}, median of the rounds: wall {statistics.median(wall):.2f}, "
            f"processor {statistics.median(spent):.2f}"
        )


def _processor_seconds(workers: list[int]) -> float:
    """Returns the processor time of this process and of others."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for worker in workers:
        with open(f"/proc/{worker}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()

"""Small tensors between processes of one machine: what each gives reaches all, and a lost process is noticed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch

from amc.errors import ProcessLostError
from amc.training.distributed import shared_memory
from amc.training.distributed.shared_memory import SharedMemory

FORK = multiprocessing.get_context("fork")
ROUNDS = 300


def given(rank, number):
    """A tensor whose shape and format change from exchange to exchange."""
    dtype = (torch.float32, torch.float64, torch.int64)[number % 3]
    return torch.full((1 + number % 5, 2), 1000 * rank + number, dtype=dtype)


def exchange_all(folder, rank, size, results):
    memory, right = SharedMemory(folder, rank, size, 60.0), True
    for number in range(ROUNDS):
        found = memory.gathered(given(rank, number))
        right &= torch.equal(found, torch.stack([given(other, number) for other in range(size)]))
        right &= found.dtype == given(0, number).dtype
        if number % 50 == rank:
            time.sleep(0.06)  # longer than the others look without sleeping
    results.put(right)


def test_what_each_gives_reaches_all():
    folder, results = SharedMemory.create(3), FORK.Queue()
    processes = [FORK.Process(target=exchange_all, args=(folder, rank, 3, results)) for rank in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [True] * 3
    for process in processes:
        process.join()


def test_small_tensors_of_the_cpu_are_taken():
    assert SharedMemory.takes(torch.zeros(2, 8192))
    assert not SharedMemory.takes(torch.zeros(2, 8193))
    assert not SharedMemory.takes(torch.zeros(0))
    assert not SharedMemory.takes(torch.zeros(2, device="meta"))


def exchange_once(folder):
    SharedMemory(folder, 1, 2, 60.0).gathered(torch.zeros(1))
    time.sleep(60)


def test_a_process_that_has_ended_is_noticed(monkeypatch):
    monkeypatch.setattr(shared_memory, "_LOOK_S", 0.02)
    folder = SharedMemory.create(2)
    memory = SharedMemory(folder, 0, 2, 60.0)
    other = FORK.Process(target=exchange_once, args=(folder,))
    other.start()
    memory.gathered(torch.zeros(1))
    os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(ProcessLostError, match=r"another process of the training is gone \(number 1\)"):
        memory.gathered(torch.zeros(1))
    other.join()
    memory.close()
    assert not folder.exists()


def test_a_process_that_lives_and_does_not_come_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(shared_memory, "_LOOK_S", 0.02)
    folder = SharedMemory.create(2)
    memory, _other = SharedMemory(folder, 0, 2, 0.05), SharedMemory(folder, 1, 2, 0.05)
    with pytest.raises(ProcessLostError, match=r"does not answer \(number 1\)"):
        memory.gathered(torch.zeros(1))
    memory.close()

"""Small tensors between processes of one machine: what each gives reaches all, and a lost process is noticed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from amc.errors import ProcessLostError
from amc.training import FineTuneConfig, fine_tune
from amc.training.distributed import processes as shared_processes
from amc.training.distributed import shared_memory
from amc.training.distributed.shared_memory import SharedMemory

QUICK = FineTuneConfig(epochs=1, batch_size=48, dtype="float32", distillation=0.0, keep="last")
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


def test_views_that_are_conjugate_or_negative_reach_all_with_their_values():
    memory = SharedMemory(SharedMemory.create(1), 0, 1, 60.0)
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(memory.gathered(tensor.conj()), tensor.conj()[None].resolve_conj())
    assert torch.equal(memory.gathered(tensor.conj().imag), tensor.conj().imag[None])
    memory.close()


def test_what_killed_processes_have_left_is_removed_and_what_others_use_is_not(temporary):
    left, used, new = (SharedMemory.create(1) for _ in range(3))
    (left / "0.lock").touch()
    with FileLock(used / "0.lock"):
        for folder in (left, used):
            os.utime(folder, (0, 0))
        link = temporary / "amc-exchange-link"
        link.symlink_to(temporary)
        SharedMemory.remove(SharedMemory.create(1))
        assert set(temporary.glob("amc-exchange-*")) == {used, new, link}


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


def test_a_lock_that_was_cleaned_up_is_not_taken_for_a_process_that_is_gone(monkeypatch):
    monkeypatch.setattr(shared_memory, "_LOOK_S", 0.02)
    folder = SharedMemory.create(2)
    memory, _other = SharedMemory(folder, 0, 2, 0.2), SharedMemory(folder, 1, 2, 0.2)
    (folder / "1.lock").unlink()
    with pytest.raises(ProcessLostError, match=r"does not answer \(number 1\)"):
        memory.gathered(torch.zeros(1))
    assert not (folder / "1.lock").exists()
    memory.close()


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def pair(two_processes):
    processes = two_processes()
    yield processes
    processes.abandon()


def no_space(*given, **named):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_exchange_to_gloo(monkeypatch, temporary, make, data, pair):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_space)
        assert SharedMemory.create(2) is None
        fine_tune(make(), data, QUICK, device="cpu", processes=pair)
    assert pair._joined()._memory is None
    assert not list(temporary.glob("amc-exchange-*"))


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_cannot_open_the_memory_keeps_none_from_training(monkeypatch, temporary, make, data, pair, failing):
    usual = SharedMemory.__init__

    def init(memory, folder, rank, *given):
        (no_space if rank == failing else usual)(memory, folder, rank, *given)

    monkeypatch.setattr(SharedMemory, "__init__", init)
    fine_tune(make(), data, QUICK, device="cpu", processes=pair)
    assert pair._joined()._memory is None
    assert not list(temporary.glob("amc-exchange-*"))


def test_a_group_that_is_interrupted_while_it_forms_leaves_the_next_one_alone(monkeypatch, make, data, pair):
    def interrupted(size):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedMemory, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(make(), data, QUICK, device="cpu", processes=pair)
    assert not torch.distributed.is_initialized()
    fine_tune(make(), data, QUICK, device="cpu", processes=pair)


def test_an_abandoned_training_of_torchrun_leaves_no_folder(monkeypatch):
    folder = SharedMemory.create(2)
    group = object.__new__(shared_processes.JoinedCollectives)
    group._memory = SharedMemory(folder, 0, 2, 60.0)
    monkeypatch.setattr(shared_processes, "JoinedCollectives", lambda place: group)
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    shared_processes.TorchrunProcesses("cpu").abandon()
    assert not folder.exists()

"""A process that dies ends the training, and says why."""

from __future__ import annotations

import os
import re
import signal

import pytest
from torch import nn
from torch.utils.data import Dataset

from amc.data import as_source
from amc.errors import ProcessLostError
from amc.training import FineTuneConfig, TrainingHooks, fine_tune

QUICK = FineTuneConfig(epochs=3, batch_size=16, learning_rate=0.05, dtype="float32", distillation=0.0, keep="last")


@pytest.fixture
def pair(two_processes):
    processes = two_processes()
    yield processes
    processes.abandon()


def test_one_that_is_killed_is_named_and_the_training_can_start_again(make, data, pair, tmp_path):
    def kill(record):
        if record.epoch == 1:
            os.kill(pair._others[0].pid, signal.SIGKILL)

    state = tmp_path / "state.pt"
    with pytest.raises(ProcessLostError, match=r"process 1 of 2 has died \(killed by signal 9, often for want of mem"):
        fine_tune(
            make(), data, QUICK, device="cpu", processes=pair, checkpoint=state, hooks=TrainingHooks(on_epoch=kill)
        )
    result = fine_tune(make(), data, QUICK, device="cpu", processes=pair, checkpoint=state)
    assert [record.epoch for record in result.epochs] == [1, 2, 3]


def test_one_that_dies_after_the_last_training_is_no_error(make, data, pair):
    fine_tune(make(), data, QUICK, device="cpu", processes=pair)
    logs, other = pair._logs, pair._others[0]
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    pair.close()
    assert not logs.exists()


class Torn(Dataset):
    """Fails in every process but the one that has made it."""

    def __init__(self, source):
        self.images, self.targets, self.owner = source.inputs(), source.targets, os.getpid()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if os.getpid() != self.owner:
            raise OSError("the disk of this process\nis gone")
        return self.images[index], self.targets[index]


def test_one_that_fails_says_why(make, data, pair):
    roles = type(data)(as_source(Torn(data.train)), data.calibration, data.search, data.test)
    words = re.escape("process 1 of 2 has died (OSError: the disk of this process)")
    with pytest.raises(ProcessLostError, match=words):
        fine_tune(make(), roles, QUICK, device="cpu", processes=pair)


def test_a_training_that_diverges_ends_in_all(make, data, pair):
    model = make()
    nn.init.constant_(model.head.weight, 1e38)
    with pytest.warns(RuntimeWarning, match="training diverged.*the network stays as it was"):
        fine_tune(model, data, QUICK, device="cpu", processes=pair)
    assert fine_tune(make(), data, QUICK, device="cpu", processes=pair).kept_epoch == 3

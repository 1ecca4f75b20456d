"""What several processes cannot train is refused before anything starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError
from amc.training import FineTuneConfig
from amc.training.distributed import checks
from amc.training.distributed.checks import check_devices, check_not_torchrun, check_work, kind_of_device
from amc.training.distributed.group import Place
from amc.training.distributed.processes import processes_for
from amc.training.objective import AfterStep
from amc.training.work import ONE, Work

CONFIG = FineTuneConfig(epochs=1, batch_size=16, learning_rate=0.1)


def work(config=CONFIG, **changes):
    data = load_data(DataConfig(train_images=100, test_images=20))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return replace(Work(model, data, config), **changes)


class Once:
    """Yields what it has, and nobody can ask for a part of it."""

    batch_size = None

    def __len__(self):
        return 64


def test_a_training_that_can_be_shared_passes():
    check_work(work(), 2)


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"config": CONFIG}, 3, "batch_size must be a multiple of the 3 processes.*not 16; 15 is the nearest"),
        ({"config": replace(CONFIG, compile=True)}, 2, "compile must be false with several processes"),
        ({"terms": [AfterStep(lambda model: None)]}, 2, "terms of the objective that can be pickled.*devices 1"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes, size, message):
    with pytest.raises(ConfigurationError, match=message):
        check_work(work(**changes), size)


def test_data_without_parts_is_refused():
    own = work()
    with pytest.raises(ConfigurationError, match="Once cannot: give tensors, a map-style data set"):
        check_work(replace(own, data=replace(own.data, train=Once())), 2)


def test_a_network_that_cannot_be_sent_is_refused():
    class Local(nn.Linear):
        pass

    with pytest.raises(ConfigurationError, match=r"a network that can be pickled.*Local"):
        check_work(work(model=Local(64, 10)), 2)


def test_tensors_are_not_pickled_to_find_out(monkeypatch):
    def fail(*arguments):
        raise AssertionError

    monkeypatch.setattr(torch.Tensor, "__reduce_ex__", fail)
    check_work(work(), 2)


@pytest.mark.parametrize(
    ("devices", "device", "message"),
    [
        (0, "cpu", "devices must be at least 1, not 0"),
        (10_000, "cpu", "devices must be at most [0-9]+ on a CPU"),
        (2, "cuda:1", "device must be auto, cpu or cuda, not 'cuda:1'"),
    ],
)
def test_devices_that_are_not_here_are_refused(devices, device, message):
    with pytest.raises(ConfigurationError, match=message), processes_for(devices, device):
        pass


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert kind_of_device("auto") == "cuda"
    check_devices(4, "cuda")
    with pytest.raises(ConfigurationError, match="devices must be at most 4, the GPUs that are here, not 8"):
        check_devices(8, "cuda")


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightning_fabric", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'amc-compress\[devices\]'"):
        check_devices(1, "cpu")


def test_one_device_needs_nothing(monkeypatch):
    monkeypatch.setattr(checks, "check_installed", lambda: pytest.fail("nothing is to be joined"))
    with processes_for(1, "cuda:3") as processes:
        assert processes is ONE


@pytest.fixture
def torchrun(monkeypatch):
    ranks = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 2950}
    for name, number in ranks.items():
        monkeypatch.setenv(name, str(number))
    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")


def test_torchrun_says_where_a_process_stands(torchrun):
    assert Place.of_torchrun("cuda") == Place(3, 4, 1, 2, "node0", 2950, "cuda")


def test_torchrun_decides_how_many_there_are(torchrun):
    with pytest.raises(ConfigurationError, match="devices must be 1 under torchrun, not 2"):
        check_not_torchrun(2)


def test_a_script_of_ones_own_under_torchrun_is_refused(torchrun):
    with (
        pytest.raises(ConfigurationError, match=r"torchrun is for the commands.*devices=N"),
        processes_for(1, "cpu"),
    ):
        pass

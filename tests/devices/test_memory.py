"""Scoring goes on in smaller batches where memory does not suffice, and says so in one line where it cannot."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import amc
from amc.data import ImageSet, as_source
from amc.errors import DataError, ModelError
from amc.runtime.memory import BatchesThatFit, is_out_of_memory
from amc.training import evaluate


class Machine:
    """Runs inputs as long as there are few enough."""

    def __init__(self, most, error=MemoryError):
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, inputs):
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise self.error("out of memory: tried to allocate 8 GiB\nmore lines")
        return 2 * inputs


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, RuntimeError])
def test_batches_are_halved_until_they_fit_and_stay_so(error):
    machine, fitting, inputs = Machine(3, error), BatchesThatFit(), torch.arange(10.0)
    with pytest.warns(RuntimeWarning, match=r"batches of (10|5) \(out of memory: tried to allocate 8 GiB\); scoring"):
        assert torch.equal(fitting(machine, inputs), 2 * inputs)
    assert machine.sizes == [10, 5, 3, 3, 3, 1]
    assert torch.equal(fitting(machine, inputs[:7]), 2 * inputs[:7])
    assert machine.sizes[6:] == [3, 3, 1]


@pytest.mark.filterwarnings("ignore:memory does not suffice")
def test_one_input_that_does_not_fit_is_told():
    with pytest.raises(ModelError, match="memory must suffice to run the network on one input, and does not: out of"):
        BatchesThatFit()(Machine(0), torch.zeros(4))


def test_other_errors_are_none_of_its_business():
    def run(inputs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        BatchesThatFit()(run, torch.zeros(4))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (ValueError("out of memory"), False),
    ],
)
def test_what_pytorch_says(error, expected):
    assert is_out_of_memory(error) == expected


class Hungry(nn.Module):
    """Takes five images at once."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        convolutions = (nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.body = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 4))
        self.most = 1000

    def forward(self, images):
        if len(images) > self.most:
            raise MemoryError("too many images")
        return self.body(images)


def images(count):
    generator = torch.Generator().manual_seed(0)
    return ImageSet(torch.rand(count, 1, 8, 8, generator=generator), torch.arange(count) % 4)


def test_a_score_is_the_same_in_parts():
    network, data = Hungry().eval(), images(20)
    expected = evaluate(network, data)
    network.most = 5
    with pytest.warns(RuntimeWarning, match=r"scoring continues with (10|5)"):
        found = evaluate(network, data)
    assert found.accuracy == expected.accuracy
    assert found.cross_entropy == pytest.approx(expected.cross_entropy, abs=1e-6)


class Dying(Dataset):
    """Its tenth item kills the process that loads it."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1, 8, 8), index % 4


@pytest.mark.slow  # the signal of the death may also arrive while other code runs
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the loader, taken down, complains
def test_the_death_of_a_process_that_loads_data_is_one_line():
    source = as_source(DataLoader(Dying(), batch_size=5, num_workers=1))
    with pytest.raises(DataError, match=r"a process that loads data has died .*fewer workers, or 0"):
        list(source.batches(5))


class Mislabelled(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((1, 8, 8), index / 40), 9 if index == 30 else index % 4


def test_a_label_out_of_range_that_only_training_meets_is_one_line():
    pair = images(20)
    with pytest.raises(DataError, match="the data has a class 9, but the network has 4 outputs"):
        amc.compress(
            Hungry(),
            (Mislabelled(), (pair.images, pair.targets)),
            search=amc.SearchConfig(agent="uniform", untrained=True),
            device="cpu",
        )

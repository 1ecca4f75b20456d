"""Networks in the wrappers of PyTorch, and networks that no wrapper comes off or that cannot be trained."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn

import amc
from amc.errors import ModelError


def images(count=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    return torch.rand(count, 3, 8, 8, generator=generator) + classes.view(-1, 1, 1, 1) / 4, classes


DATA = (images(), images(40, seed=1))
QUICK = {
    "search": amc.SearchConfig(agent="uniform", untrained=True),
    "finetune": amc.FineTuneConfig(epochs=1, batch_size=20),
    "device": "cpu",
}


class ConvNet(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12 * 4 * 4, 4)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).flatten(1))


def compiled():
    return torch.compile(ConvNet())


def compiled_in_place():
    model = ConvNet()
    model.first.compile()
    model.compile()
    return model


def partly_compiled():
    model = ConvNet()
    model.first = torch.compile(model.first)
    return model


def parallel():
    return nn.DataParallel(torch.compile(ConvNet()))


def averaged():
    return torch.optim.swa_utils.AveragedModel(ConvNet())


@pytest.mark.parametrize("network", [compiled, compiled_in_place, partly_compiled, parallel, averaged])
def test_networks_are_taken_out_of_their_wrappers(network, tmp_path):
    result = amc.compress(network(), DATA, **QUICK)
    assert type(result.model) is ConvNet
    assert all("_orig_mod" not in name and "module" not in name for name in result.model.state_dict())
    result.save(tmp_path)
    few = images(4)[0]
    with torch.no_grad():
        torch.testing.assert_close(amc.load(tmp_path, model=network())(few), result.model.eval()(few))


@pytest.fixture
def one_process(tmp_path):
    """A group of one process, as a distributed program on one machine has."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("this PyTorch has no gloo")
    store = (tmp_path / "store").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_distributed_network_is_taken_out_of_its_wrapper(one_process, tmp_path):
    wrapped = nn.parallel.DistributedDataParallel(torch.compile(ConvNet()))
    result = amc.compress(wrapped, DATA, **QUICK)
    assert type(result.model) is ConvNet
    result.save(tmp_path / "saved")
    few = images(4)[0]
    loaded = amc.load(tmp_path / "saved", model=nn.parallel.DistributedDataParallel(ConvNet()))
    with torch.no_grad():
        torch.testing.assert_close(loaded(few), result.model.eval()(few))


def scripted():
    return torch.jit.trace(ConvNet().eval(), images(2)[0], check_trace=False)


def partly_scripted():
    model = ConvNet()
    model.first = torch.jit.script(model.first)
    return model


def quantised():
    return torch.ao.quantization.quantize_dynamic(ConvNet(), {nn.Linear})


def frozen():
    return ConvNet().requires_grad_(False)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (partly_scripted, "must be a Python module, not a scripted or traced one: 'first' is one"),
        (quantised, "must be in floating point, but 'head' is a quantised Linear; compress the network before"),
        (scripted, "must be a Python module, not a scripted or traced one"),
        (lambda: ConvNet().to("meta"), "'first.weight' is on the meta device"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "'0.weight' is lazy"),
        (frozen, "needs parameters that require gradients"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
def test_networks_that_cannot_be_worked_on_are_refused_at_once(network, message):
    with pytest.raises(ModelError, match=message):
        amc.compress(network(), DATA, **QUICK)


def test_inference_mode_is_refused_with_the_remedy():
    with torch.inference_mode():
        made_inside = ConvNet()
        with pytest.raises(ModelError, match=r"in torch.inference_mode\(\); leave it"):
            amc.compress(ConvNet(), DATA, **QUICK)
    with pytest.raises(ModelError, match=r"'first.weight' was made in torch.inference_mode\(\); build"):
        amc.compress(made_inside, DATA, **QUICK)

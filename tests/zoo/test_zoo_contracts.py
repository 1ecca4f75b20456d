"""Every contract on one network of each family, small; on all of torchvision when run with `-m slow`."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch
import torchvision
from torch import nn

from amc.errors import ConfigurationError
from amc.zoo import CONTRACTS, cuts_of, open_case
from amc.zoo.cases import idle_parameters
from amc.zoo.packages import PACKAGED, package_of

# One of each family, at an image size that keeps it quick (Inception's auxiliary head would need 299 pixels). Large
# ones that are built like others (VGG, the second versions of EfficientNet and Swin) are left to `-m slow`.
REPRESENTATIVES = {
    "alexnet": {"image_size": 64},
    "resnet18": {"image_size": 64},
    "resnext50_32x4d": {"image_size": 32},
    "densenet121": {"image_size": 32},
    "googlenet": {"image_size": 64},
    "inception_v3": {"image_size": 96, "options": {"aux_logits": False}},
    "squeezenet1_1": {"image_size": 64},
    "mobilenet_v2": {"image_size": 64},
    "mobilenet_v3_small": {"image_size": 64},
    "mnasnet0_5": {"image_size": 64},
    "shufflenet_v2_x0_5": {"image_size": 64},
    "efficientnet_b0": {"image_size": 64},
    "regnet_x_400mf": {"image_size": 64},
    "regnet_y_400mf": {"image_size": 64},
    "convnext_tiny": {"image_size": 64},
    "vit_b_32": {"image_size": 64, "options": {"image_size": 64}},
    "swin_t": {"image_size": 64},
    "maxvit_t": {},
}
LONG = {"maxvit_t"}  # takes images of 224 pixels alone
QUICK = [name for name in CONTRACTS if name != "onnx"]
# The exporter takes seconds, and is tested on small networks elsewhere; this one has operators that they lack.
EXPORTED = ("shufflenet_v2_x0_5",)
ALL = torchvision.models.list_models(module=torchvision.models)


def check(case, names, rules=("uniform", "random")):
    """Checks contracts on the allocations; a failure names the network, the allocation and the contract."""
    broken = []
    for cut in cuts_of(case, rules=rules):
        for name in names:
            try:
                CONTRACTS[name](cut)
            except Exception as error:
                broken.append(f"{case.name}, {cut.rule} allocation, contract {name!r}: {type(error).__name__}: {error}")
    if broken:
        pytest.fail("\n".join(broken), pytrace=False)


@pytest.fixture(autouse=True)
def _quiet():
    """Exporters of PyTorch and ONNX warn of what they will drop one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in REPRESENTATIVES]
)
def test_a_network_of_each_family(name):
    check(open_case(name, **REPRESENTATIVES[name]), QUICK, ["random"])


def test_the_uniform_allocation():
    check(open_case("resnet18", **REPRESENTATIVES["resnet18"]), QUICK, ["uniform"])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_export(name):
    check(open_case(name, **REPRESENTATIVES[name]), ["onnx"], ["random"])


def test_every_family_has_a_representative():
    families = {type(torchvision.models.get_model_builder(name)).__name__ for name in ALL}
    modules = {torchvision.models.get_model_builder(name).__module__ for name in ALL}
    seen = {torchvision.models.get_model_builder(name).__module__ for name in REPRESENTATIVES}
    assert families == {"function"}
    assert seen == modules - {"torchvision.models.vgg"}  # half a gigabyte, built as AlexNet is


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_all_of_torchvision(name):
    check(open_case(name), list(CONTRACTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGED)
def test_small_networks_of_other_packages(name):
    try:
        package_of(name)
    except ConfigurationError as error:
        pytest.skip(str(error))
    check(open_case(name), list(CONTRACTS))


def test_a_package_that_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigurationError, match="install it with: pip install segmentation-models-pytorch"):
        open_case("smp:Unet")


def test_networks_of_a_fixed_size_keep_their_own():
    assert open_case("vit_b_32", image_size=64).size == 224
    assert open_case("resnet18", image_size=32).size == 32


def test_layers_that_the_dense_network_does_not_train_are_not_asked_of_the_cut_one():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.frozen, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.frozen(self.used(x))

    idle = {f"{name}.{kind}" for name in ("frozen", "idle") for kind in ("weight", "bias")}
    model = Partly()
    assert idle_parameters(model, torch.randn(1, 4)) == idle
    assert not model.training
    assert model.used.weight.grad is None


def test_looking_for_idle_layers_leaves_the_statistics_of_the_dense_network_alone():
    case = open_case("digits_resnet")
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    assert case.idle == frozenset()
    assert all(torch.equal(before[name], tensor) for name, tensor in case.model.state_dict().items())

"""Every contract on one network of each family, small; on all of torchvision when run with `-m slow`."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import convnext, densenet, efficientnet, regnet, resnet, swin_transformer, vision_transformer

from amc.errors import ConfigurationError
from amc.models.quick_weights import QuickWeights
from amc.zoo import CONTRACTS, cuts_of, open_case
from amc.zoo.cases import idle_parameters
from amc.zoo.packages import PACKAGED, PackagedNetwork, package_of

# One of each family, at an image size that keeps it quick (Inception's auxiliary head would need 299 pixels). Large
# ones that are built like others (VGG, the second versions of EfficientNet and Swin) are left to `-m slow`.
REPRESENTATIVES = {
    "alexnet": {"image_size": 64},
    "resnet18": {"image_size": 64},
    "googlenet": {"image_size": 64},
    "inception_v3": {"image_size": 96, "options": {"aux_logits": False}},
    "squeezenet1_1": {"image_size": 64},
    "mobilenet_v2": {"image_size": 64},
    "mobilenet_v3_small": {"image_size": 64},
    "mnasnet0_5": {"image_size": 64},
    "shufflenet_v2_x0_5": {"image_size": 64},
    "regnet_x_400mf": {"image_size": 64},
    "maxvit_t": {},
}
# Families whose smallest network has many layers: the same blocks, fewer of them. All of them are run by `-m slow`.
FEWER_LAYERS = {
    "resnext50_32x4d": (32, lambda: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)),
    "densenet121": (32, lambda: densenet.DenseNet(32, (2, 3, 2, 2), 64)),
    "efficientnet_b0": (64, lambda: efficientnet.EfficientNet(MOBILE_BLOCKS, 0.2)),
    "regnet_y_400mf": (64, lambda: regnet.RegNet(regnet.BlockParams.from_init_params(6, 48, 27.89, 2.09, 8, 0.25))),
    "convnext_tiny": (64, lambda: convnext.ConvNeXt([convnext.CNBlockConfig(*each) for each in STAGES])),
    "vit_b_32": (64, lambda: vision_transformer.VisionTransformer(64, 32, 3, 6, 192, 768)),
    "swin_t": (64, lambda: swin_transformer.SwinTransformer([4, 4], 48, [2, 2], [3, 6], [7, 7])),
}
MOBILE_BLOCKS = [
    efficientnet.MBConvConfig(*each)
    for each in ((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 1))
]
STAGES = ((96, 192, 1), (192, 384, 1), (384, None, 1))
LONG = {
    "maxvit_t",  # takes images of 224 pixels alone
    "inception_v3",  # branches that are put together, as in GoogLeNet
    "regnet_x_400mf",  # the other without squeezing
    "mnasnet0_5",  # the blocks of MobileNet V2
}
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


def marked(name):
    """Two families are tried by default, most others in CI too, and the largest by ``-m slow``."""
    if name in LONG:
        return pytest.param(name, marks=pytest.mark.slow)
    return name if name in {"resnet18", "mobilenet_v2"} else pytest.param(name, marks=pytest.mark.heavy)


@pytest.mark.parametrize("name", [marked(name) for name in REPRESENTATIVES])
def test_a_network_of_each_family(name):
    with QuickWeights():
        case = open_case(name, **REPRESENTATIVES[name])
    check(case, QUICK, ["random"])


@pytest.mark.heavy
@pytest.mark.parametrize("name", FEWER_LAYERS)
def test_the_blocks_of_each_large_family(name, monkeypatch):
    size, build = FEWER_LAYERS[name]
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    monkeypatch.setitem(PACKAGED, name, PackagedNetwork(build, lambda: image))
    check(open_case(name), QUICK, ["random"])


def test_the_uniform_allocation():
    check(open_case("resnet18", **REPRESENTATIVES["resnet18"]), QUICK, ["uniform"])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_export(name):
    check(open_case(name, **REPRESENTATIVES[name]), ["onnx"], ["random"])


def test_every_family_has_a_representative():
    families = {type(torchvision.models.get_model_builder(name)).__name__ for name in ALL}
    modules = {torchvision.models.get_model_builder(name).__module__ for name in ALL}
    seen = {torchvision.models.get_model_builder(name).__module__ for name in {**REPRESENTATIVES, **FEWER_LAYERS}}
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
    assert open_case("digits_lenet", image_size=64).size == 8
    assert open_case("digits_resnet", image_size=12).size == 12


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

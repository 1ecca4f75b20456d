"""Networks by name."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from amc.errors import ConfigurationError, ModelError, UnknownNameError
from amc.models import create_model, example_input_shape, model_names

OWN = [
    "digits_resnet",
    "digits_lenet",
    "resnet20",
    "resnet44",
    "plain56",
    "vgg16_cifar",
    "mobilenet_cifar",
    "mobilenet_v1",
]
THEIRS = ["squeezenet1_1", "torchvision:mobilenet_v3_small", "googlenet", "timm:resnet10t"]


@pytest.mark.parametrize("name", OWN + THEIRS)
def test_every_source_builds_what_takes_its_example_input(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = create_model(name, num_classes=3, seed=0).eval()
    assert model(torch.zeros(1, *example_input_shape(name))).shape == (1, 3)


def test_auxiliary_heads_are_kept_and_inception_is_larger():
    assert create_model("inception_v3").aux_logits
    assert example_input_shape("inception_v3") == example_input_shape("torchvision:inception_v3") == (3, 299, 299)


def test_names_are_unique_and_hold_both_kinds():
    names = model_names()
    assert len(names) == len(set(names))
    assert {"resnet56", "resnet50", "swin_v2_t"} <= set(names)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (create_model("resnet20", seed=seed).conv1.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_importing_models_loads_no_model_zoo():
    import subprocess

    code = "import amc.models, sys; sys.exit('torchvision' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_own_code_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\ndef tiny(num_classes=5, width=2): return nn.Linear(width, num_classes)\nnumber = 7\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    model = create_model("nets_of_mine:tiny", width=3)
    assert (model.in_features, model.out_features) == (3, 5)
    assert sys.path == path
    with pytest.raises(ConfigurationError, match=r"must name an nn\.Module class .* not a value of the type int"):
        create_model("nets_of_mine:number")
    with pytest.raises(ConfigurationError, match="give an example input"):
        example_input_shape("nets_of_mine:tiny")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet57", "'resnet56'"), ("torchvision:resnet51", "'resnet50'"), ("vgg16_cifr", "'vgg16_cifar'")],
)
def test_unknown_names_get_the_nearest(name, near):
    with pytest.raises(UnknownNameError, match=near):
        create_model(name)
    with pytest.raises(UnknownNameError, match=near):
        example_input_shape(name)


def test_timm_not_installed_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigurationError, match="pip install timm"):
        create_model("timm:resnet18")


def test_unknown_timm_name_gets_the_nearest():
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match="'resnet18'"):
        create_model("timm:resnt18")


def test_unusable_options_and_results_are_named():
    with pytest.raises(ModelError, match=r"'resnet20' cannot be built with options .*colour"):
        create_model("resnet20", colour="blue")
    with pytest.raises(ConfigurationError, match=r"nn\.Module class .* not the class OrderedDict"):
        create_model("collections:OrderedDict")
    assert isinstance(create_model("torch.nn:Identity"), nn.Identity)

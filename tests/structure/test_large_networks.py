"""What tracing does to be fast on large networks must not change what it finds."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from amc.errors import StructureError
from amc.structure import substitution
from amc.structure.finite import all_finite
from amc.structure.skipping import SkippingMode, ValuesNeeded
from amc.structure.substitution import Substitute, substituted
from amc.structure.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Three convolutions; subclasses change what lies between them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b, self.c = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def between(self, x):
        return x

    def forward(self, x):
        return self.c(self.b(self.between(self.a(x))).relu())


class ScaledByWidth(Net):
    """Looks at the shape of a weight from outside of the module that uses it."""

    def between(self, x):
        return x / len(self.a.weight)


class ScaledByWeight(Net):
    """Looks at the values of a weight from outside of the module that uses it."""

    def between(self, x):
        return x * self.c.weight.abs().mean()


class Fixed(Net):
    """Cannot do with fewer channels."""

    def between(self, x):
        return x.reshape(len(x), 6, 64).reshape(len(x), 6, 8, 8)


class Called(Net):
    """Calls a module's forward without its hooks."""

    def between(self, x):
        return self.b.forward(x)[:, :6]


NETWORKS = [Net, ScaledByWidth, ScaledByWeight, Fixed, Called]


@pytest.mark.parametrize("network", NETWORKS)
def test_tensors_made_on_demand_find_the_same_structure(network, tools, monkeypatch):
    model = tools.randomise(network())
    all_in_place = trace_structure(model, IMAGE)
    monkeypatch.setattr(substitution, "LARGE", 1)
    assert trace_structure(model, IMAGE) == all_in_place


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "googlenet"])
def test_families_have_the_same_structure_with_tensors_on_demand(name, monkeypatch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"init_weights": False} if name == "googlenet" else {}
        model = getattr(torchvision.models, name)(num_classes=5, **options)
        image = torch.randn(1, 3, 224, 224)
    on_demand = trace_structure(model, image)
    monkeypatch.setattr(substitution, "LARGE", 1 << 60)
    assert trace_structure(model, image) == on_demand


def test_a_large_tensor_has_its_values_only_while_a_user_runs():
    model, seen = nn.Sequential(nn.Linear(512, 600), nn.ReLU(), nn.Linear(600, 512)), {}
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model[1].register_forward_hook(lambda *_: seen.update(at_relu=model[0].weight.clone()))
    model[0].register_forward_hook(lambda *_: seen.update(in_use=model[0].weight.clone()))
    narrow = {
        "0.weight": Substitute((300, 512), lambda: dense["0.weight"][:300].clone()),
        "0.bias": Substitute((300,), lambda: dense["0.bias"][:300].clone()),
        "2.weight": Substitute((512, 300), lambda: dense["2.weight"][:, :300].contiguous()),
    }
    inputs = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with substituted(model, narrow, {"0.weight": ["0"], "2.weight": ["2"]}):
            output = model(inputs)
        with substituted(model, narrow):
            expected = model(inputs)
    torch.testing.assert_close(output, expected)
    assert torch.equal(seen["in_use"], dense["0.weight"][:300])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, dense[name])
    assert not model[0]._forward_pre_hooks


def test_between_its_uses_a_large_tensor_is_no_number_of_the_right_shape():
    model, seen = nn.Sequential(nn.Linear(512, 600), nn.ReLU()), {}
    model[1].register_forward_hook(lambda *_: seen.update(weight=model[0].weight))
    narrow = {
        "0.weight": Substitute((300, 512), lambda: torch.zeros(300, 512)),
        "0.bias": Substitute((300,), lambda: torch.zeros(300)),
    }
    with torch.no_grad(), substituted(model, narrow, {"0.weight": ["0"]}):
        model(torch.zeros(2, 512))
        assert model[0].weight.shape == (300, 512)
        assert model[0].weight.isnan().all()


def test_a_failing_run_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Linear(512, 600), nn.Linear(600, 512))
    dense = model[0].weight.clone()
    narrow = {"0.weight": Substitute((300, 512), lambda: torch.zeros(300, 512))}
    with pytest.raises(RuntimeError, match=r"size|shape"), substituted(model, narrow, {"0.weight": ["0"]}):
        model(torch.zeros(2, 512))
    assert torch.equal(model[0].weight, dense)
    assert not model[0]._forward_hooks


class Branching(Net):
    """Takes the branch that the sign of its activations tells; with zeros it would take the other one."""

    def forward(self, x):
        x = self.a(x)
        return self.c(self.b(x)) if bool(x.abs().sum() > 0) else self.c(self.b(x.flip(1)))


class Picking(Net):
    """Counts how many activations are positive: a shape that depends on values."""

    def between(self, x):
        self.positive = len(x[x > 0])
        return x


@pytest.mark.parametrize("network", [Branching, Picking])
def test_networks_that_look_at_values_are_traced_with_them(network, tools):
    model = tools.randomise(network())
    with pytest.raises(ValuesNeeded), torch.no_grad(), SkippingMode():
        model(IMAGE)
    structure = trace_structure(model, IMAGE)
    assert [group.prunable for group in structure.groups] == [True, True, False]
    tools.check_costs(model, structure, IMAGE)
    if network is Picking:
        assert model.positive > 0


def test_looking_at_values_before_anything_is_skipped_is_no_matter():
    class Checked(Net):
        def forward(self, x):
            assert bool(torch.isfinite(x).all())
            return super().forward(x)

    with torch.no_grad(), SkippingMode():
        output = Checked()(IMAGE)
    assert torch.equal(output, torch.zeros(1, 2, 8, 8))


def test_skipped_operators_have_the_shapes_of_the_true_ones():
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 4)).eval()
    with torch.no_grad():
        expected = model(IMAGE)
        with SkippingMode():
            output = model(IMAGE)
    assert (output.shape, output.dtype, output.stride()) == (expected.shape, expected.dtype, expected.stride())


def test_what_is_wrong_is_told_in_the_words_of_the_true_run():
    with pytest.raises(StructureError, match=r"expected input.* to have 3 channels"):
        trace_structure(Net(), torch.randn(1, 4, 8, 8))


@pytest.mark.parametrize(
    ("values", "finite"),
    [([1.0, 2.0], True), ([3e38, 3e38], True), ([1.0, float("inf")], False), ([float("inf"), float("-inf")], False)],
)
def test_numbers_with_an_infinite_sum_are_finite(values, finite):
    assert all_finite(torch.tensor(values)) is finite
    assert not all_finite(torch.tensor([*values, float("nan")]))

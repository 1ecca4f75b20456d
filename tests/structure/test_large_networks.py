"""What tracing does to be fast on large networks must not change what it finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as zoo

from amc.errors import StructureError
from amc.runtime.finite import all_finite
from amc.structure import substitution
from amc.structure.substitution import Substitute, substituted
from amc.tracing import skipping
from amc.tracing.skipping import SkippingMode, ValuesNeeded, for_shapes, reading
from amc.tracing.trace import trace_structure

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


@pytest.fixture(autouse=True)
def treated_as_large(monkeypatch):
    monkeypatch.setattr(skipping, "WORTHWHILE", 0)


NETWORKS = [Net, ScaledByWidth, ScaledByWeight, Fixed, Called]


@pytest.mark.parametrize("network", NETWORKS)
def test_tensors_made_on_demand_find_the_same_structure(network, tools, monkeypatch):
    model = tools.randomise(network())
    all_in_place = trace_structure(model, IMAGE)
    monkeypatch.setattr(substitution, "LARGE", 1)
    assert trace_structure(model, IMAGE) == all_in_place


FAMILIES = {
    "ViT": (lambda: zoo.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5), 32),
    "Swin": (lambda: zoo.SwinTransformer([4, 4], 24, [2, 2], [3, 6], [7, 7], num_classes=5), 56),
    "GoogLeNet": (lambda: zoo.googlenet(num_classes=5, init_weights=False), 96),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_the_same_structure_with_tensors_on_demand(name, monkeypatch):
    build, size = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, image = build(), torch.randn(1, 3, size, size)
    monkeypatch.setattr(substitution, "LARGE", 1 << 10)
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


class Listing(Net):
    """Counts in Python how many activations are positive."""

    def between(self, x):
        self.positive = sum(value > 0 for value in x.flatten().tolist())
        return x * (1 + self.positive)


class Counting(Net):
    """Counts in NumPy how many activations are positive."""

    def between(self, x):
        self.positive = int((x > 0).sum().numpy())
        return x * (1 + self.positive)


class Splitting(Net):
    """Splits the image where the activations say; with zeros it would be at the first row."""

    def between(self, x):
        self.positive = int((x > 0).any())
        return torch.cat(torch.tensor_split(x, (x > 0).any().long().reshape(1) + 3, dim=2), 2)


class Packing(Net):
    """Drops boxes that overlap: a shape that depends on values, in an operator that is not tagged so."""

    def between(self, x):
        boxes = x.flatten()[:8].reshape(2, 4).sort(dim=1).values
        self.positive = len(torch.ops.torchvision.nms(boxes, boxes[:, 0], 0.5))
        return x


class Swallowing(Branching):
    """Looks at values, and hides what goes wrong with that."""

    def forward(self, x):
        try:
            return super().forward(x)
        except Exception:
            return self.c(self.b(self.a(x).flip(1)))


def run_for_shapes(model, image=IMAGE):
    with torch.no_grad(), for_shapes(model) as run_operator, reading(run_operator), SkippingMode(run_operator):
        return model(image)


@pytest.mark.parametrize("network", [Branching, Picking, Listing, Counting, Splitting, Packing])
def test_networks_that_look_at_values_are_traced_with_them(network, tools, monkeypatch):
    model = tools.randomise(network())
    with pytest.raises(ValuesNeeded, match=r"\w+"):
        run_for_shapes(model)
    structure = trace_structure(model, IMAGE)
    tools.check_costs(model, structure, IMAGE)
    monkeypatch.setattr(skipping, "WORTHWHILE", 1 << 60)
    assert structure == trace_structure(model, IMAGE)
    assert getattr(model, "positive", 1) > 0


def test_a_network_that_hides_its_errors_is_traced_with_values_too(tools):
    model = tools.randomise(Swallowing())
    assert [group.prunable for group in trace_structure(model, IMAGE).groups] == [True, True, False]


class Remembering(Net):
    """Keeps what it computes at its first call: as an attribute, in a container, and in a parameter."""

    def __init__(self):
        super().__init__()
        self.seen, self.table, self.scale = None, {}, nn.Parameter(torch.zeros(1), requires_grad=False)

    def between(self, x):
        if self.seen is None:
            self.seen = self.table["mean"] = x.mean()
            self.scale.copy_(1 / (x.std() + 1e-12))
        return x * self.scale + self.seen + self.table["mean"]


class RememberingElsewhere(Net):
    """Remembers what needs no parameter to be written."""

    def __init__(self):
        super().__init__()
        self.seen, self.table = None, {}

    def between(self, x):
        if self.seen is None:
            self.seen = self.table["mean"] = x.mean()
        return x + self.seen + self.table["mean"]


@pytest.mark.parametrize("network", [Remembering, RememberingElsewhere])
def test_a_network_remembers_nothing_of_the_zeros(network, tools):
    model, other = network(), network()
    other.load_state_dict(model.state_dict())
    trace_structure(model, IMAGE, verify="nothing")
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGE), other(IMAGE))


class Auxiliary(Net):
    """Has a head in training mode that cannot be run on zeros."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x)
        outputs = self.c(self.b(x).relu())
        if not self.training:
            return outputs
        features = x.flatten(2)[0]
        torch.linalg.cholesky(features @ features.mT + torch.eye(6) * features.abs().max())
        return outputs, self.head(x.mean((2, 3)))


def test_heads_that_cannot_be_run_on_zeros_are_coupled(tools):
    (group,) = (g for g in trace_structure(tools.randomise(Auxiliary()), IMAGE).groups if g.name == "a")
    assert ("head.weight", 1) in {(cut.tensor, cut.axis) for cut in group.cuts}


class Buffered(Net):
    """Multiplies into a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x):
        x = x.flatten(2)[0].mT
        hidden = x.new_empty(len(x), len(self.first.weight))
        torch.mm(x, self.first.weight.mT, out=hidden)
        return self.last(hidden.relu())


def test_what_is_written_elsewhere_is_coupled():
    group = trace_structure(Buffered(), IMAGE).groups[0]
    assert {(cut.tensor, cut.axis) for cut in group.cuts} == {("first.weight", 0), ("last.weight", 1)}


class PlainBias(Net):
    """Adds a bias that is no parameter, and so cannot be cut."""

    def __init__(self):
        super().__init__()
        self.norm, self.offset = nn.GroupNorm(2, 6), torch.ones(6)

    def between(self, x):
        return self.norm(nn.functional.conv2d(x, self.a.weight[:, :, :1, :1].repeat(1, 2, 1, 1), self.offset))


def test_a_bias_that_stays_long_is_noticed_where_only_shapes_count(tools, monkeypatch):
    monkeypatch.setattr(substitution, "LARGE", 1)
    groups = {group.name: group.reason for group in trace_structure(tools.randomise(PlainBias()), IMAGE).groups}
    assert groups["a"]


def test_inputs_of_another_precision_are_refused_in_the_words_of_the_true_run():
    with pytest.raises(StructureError, match=r"(?i)double|float64|dtype"):
        trace_structure(nn.Linear(5, 6, bias=False), torch.zeros(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_network_may_return_its_own_tensors(kind, tools):
    class Returning(Net):
        def __init__(self):
            super().__init__()
            scale = torch.ones(())
            if kind == "parameter":
                self.scale = nn.Parameter(scale)
            else:
                self.register_buffer("scale", scale)

        def forward(self, x):
            return super().forward(x), self.scale

    structure = trace_structure(tools.randomise(Returning()), IMAGE)
    assert [group.prunable for group in structure.groups] == [True, True, False]


SHALLOW = {name: FAMILIES[name][0] for name in ("ViT", "Swin")} | {
    "DenseNet": lambda: zoo.DenseNet(16, (2, 3, 2, 2), 32),
    "resnet18": zoo.resnet18,
    "mobilenet_v3_small": zoo.mobilenet_v3_small,
}


@pytest.mark.parametrize("name", SHALLOW)
def test_networks_that_look_at_no_values_run_without_them(name, tools, monkeypatch):
    refused = []
    monkeypatch.setattr(skipping.Skipping, "refuse", lambda self, name: refused.append(name) if self.skipped else None)
    with torch.random.fork_rng(devices=[]):
        trace_structure(SHALLOW[name](), torch.randn(1, 3, 32, 32), verify="nothing")
    assert not refused


def test_small_networks_run_as_they_are(tools, monkeypatch):
    monkeypatch.setattr(skipping, "WORTHWHILE", 10_000)
    monkeypatch.setattr(skipping, "for_shapes", None)
    trace_structure(tools.randomise(Net()), IMAGE)


def test_looking_at_values_before_anything_is_skipped_is_no_matter():
    class Checked(Net):
        def forward(self, x):
            assert bool(torch.isfinite(x).all())
            return super().forward(x)

    output = run_for_shapes(Checked())
    assert torch.equal(output, torch.zeros(1, 2, 8, 8))


def test_skipped_operators_have_the_shapes_of_the_true_ones():
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 4)).eval()
    with torch.no_grad():
        expected = model(IMAGE)
        output = run_for_shapes(model)
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


def test_floats_of_eight_bits_are_looked_at_one_by_one():
    assert all_finite(torch.ones(4).to(torch.float8_e5m2))
    assert not all_finite(torch.tensor([1.0, float("inf")]).to(torch.float8_e5m2))

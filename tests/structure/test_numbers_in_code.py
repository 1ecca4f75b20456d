"""Widths that are written into the code as numbers follow a cut, if the cut network then computes what it should."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.export import export_model
from amc.storage.architecture import describe, rebuild
from amc.storage.source import ModelSource
from amc.tracing.trace import trace_structure

GENERATOR = torch.Generator().manual_seed(1)
IMAGE = torch.randn(1, 3, 8, 8, generator=GENERATOR)
PHOTO = torch.randn(1, 3, 32, 32, generator=GENERATOR)
NOISE = torch.randn(1, 6, generator=GENERATOR)


class Tutorial(nn.Module):
    """The network of PyTorch's tutorial on CIFAR-10."""

    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return self.fc3(x)


class ByHelper(Tutorial):
    """Flattens in a method of its own, which names the parts of the product."""

    def forward(self, x):
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        return self.fc3(self.fc2(self.fc1(self._flat(x)).relu()).relu())

    def _flat(self, x):
        height, width = x.shape[2:]
        return x.view(len(x), 16 * height * width)


class OfParent(Tutorial):
    """Takes its code, and the number in it, from a parent."""

    def forward(self, x):
        return super().forward(x * 16) / 16


class Generator(nn.Module):
    """From noise to a map, as DCGAN does."""

    def __init__(self):
        super().__init__()
        self.project, self.norm = nn.Linear(6, 64 * 4 * 4), nn.BatchNorm2d(64)
        self.up, self.last = nn.ConvTranspose2d(64, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, z):
        x = self.project(z).view(-1, 64, 4, 4)
        return self.last(self.up(self.norm(x).relu()).relu()).tanh()


class Features(nn.Module):
    """Eight positions of 32 features each."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 256), nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.first(x).reshape(x.shape[0], 8, 32).relu().sum(1))


class Partial(nn.Module):
    """Convolves some of its channels; the lengths of the pieces are numbers in the code."""

    def __init__(self):
        super().__init__()
        self.first, self.some, self.rest = nn.Conv2d(3, 64, 1), nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(40, 4, 1)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        first, second = self.pieces(self.first(x).relu())
        return self.last(torch.cat([self.some(first), self.rest(second)], 1).relu())

    def pieces(self, x):
        return x.split((24, 40), 1)


class ByList(Partial):
    def pieces(self, x):
        sizes = [24, 40]
        return x.split(sizes, dim=1)


class BySlices(Partial):
    def pieces(self, x):
        return x[:, :24], x[:, 24:]


class FromTheEnd(Partial):
    def pieces(self, x):
        return x[:, :-40], x[:, -40:]


class Recurrent(nn.Module):
    """Starts from zeros."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.last = nn.Linear(6, 20), nn.Linear(20, 20), nn.Linear(20, 4)

    def forward(self, x):
        state = torch.zeros(len(x), 20)
        for _ in range(2):
            state = torch.tanh(self.inner(x) + self.outer(state))
        return self.last(state)


class Joined(nn.Module):
    """Views the channels of two layers together."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 10, 1), nn.Linear(16 * 4, 5)

    def forward(self, x):
        x = functional.avg_pool2d(torch.cat([self.left(x), self.right(x)], 1).relu(), 4)
        return self.last(x.view(-1, 64))


class ByPosition(nn.Module):
    """Has the number under the name of a variable of the function around it, and a call of `super()`."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        class Inner(nn.Module):
            def forward(self, x):
                scaled = x * (scale + len(super().extra_repr()))
                return scaled.flatten(2).view(len(x), 8, *x.shape[2:])

        self.between = Inner()

    def forward(self, x):
        return self.second(self.between(self.first(x).relu()))


CASES = {
    "tutorial": (Tutorial, PHOTO, {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}),
    "helper": (ByHelper, PHOTO, {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}),
    "parent": (OfParent, PHOTO, {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}),
    "generator": (Generator, NOISE, {"project": 64, "up": 8}),
    "features": (Features, NOISE, {"first": 32}),
    "by_split": (Partial, IMAGE, {"first": 24, "first#2": 40, "some": 8, "rest": 4}),
    "by_list": (ByList, IMAGE, {"first": 24, "first#2": 40, "some": 8, "rest": 4}),
    "by_slices": (BySlices, IMAGE, {"first": 24, "first#2": 40, "some": 8, "rest": 4}),
    "from_the_end": (FromTheEnd, IMAGE, {"first": 24, "first#2": 40, "some": 8, "rest": 4}),
    "recurrent": (Recurrent, NOISE, {"inner": 20}),
    "joined": (Joined, IMAGE, {"left": 6, "right": 10}),
    "closure": (ByPosition, IMAGE, {"first": 8}),
}


def prunable(structure):
    return {group.name: group.channels for group in structure.groups if group.prunable}


@pytest.mark.parametrize("case", CASES)
def test_groups_whose_width_is_in_the_code_are_cut(tools, case):
    network, example, groups = CASES[case]
    structure, small = tools.traced(network(), example)
    assert prunable(structure) == groups
    assert small(example.repeat(3, *[1] * (example.dim() - 1))).shape[0] == 3


@pytest.mark.parametrize("case", CASES)
def test_what_is_gone_may_as_well_have_been_ignored(tools, case):
    network, example, _ = CASES[case]
    model = tools.randomise(network())
    structure = trace_structure(model, example)
    small, kept = tools.cut_half(model, structure)
    for index, channels in kept.items():
        for entry in structure.groups[index].cuts:
            if entry.role == "read":
                gone = sorted(set(range(structure.groups[index].channels)) - set(channels.tolist()))
                places = torch.tensor([p for channel in gone for p in entry.positions[channel]])
                model.get_parameter(entry.tensor).data.index_fill_(entry.axis, places, 0.0)
    for found, expected in zip(tools.outputs_of(small, example), tools.outputs_of(model, example), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_tracing_leaves_the_network_what_it_is(tools):
    model = tools.randomise(OfParent())
    before = tools.outputs_of(model, PHOTO)
    trace_structure(model, PHOTO)
    assert type(model) is OfParent
    assert "numbers_in_code" not in vars(model)
    torch.testing.assert_close(tools.outputs_of(model, PHOTO), before, rtol=0, atol=0)


def small_of(tools, case):
    network, example, _ = CASES[case]
    model = tools.randomise(network())
    structure = trace_structure(model, example)
    small, kept = tools.cut_half(model, structure)
    return model, structure, small.eval(), kept, example


def reloaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "copy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": reloaded,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["tutorial", "helper", "parent", "by_slices"])
def test_copies_and_pickles_run_the_changed_code(tools, case, way):
    small, example = small_of(tools, case)[2::2]
    again = WAYS[way](small)
    assert isinstance(again, CASES[case][0])
    assert type(again).__qualname__ == type(small).__qualname__
    torch.testing.assert_close(tools.outputs_of(again, example), tools.outputs_of(small, example))


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_saved_with_the_architecture(tools, case):
    model, structure, small, kept, example = small_of(tools, case)
    record = describe(model, structure, kept, ModelSource.of(model))
    again = rebuild(record, CASES[case][0]())
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(tools.outputs_of(again, example), tools.outputs_of(small, example))


@pytest.mark.parametrize("case", ["tutorial", "parent", "by_split", "joined"])
def test_a_cut_network_is_cut_further(tools, case):
    model, structure, small, kept, example = small_of(tools, case)
    once = describe(model, structure, kept, ModelSource.of(model))
    further = trace_structure(small, example)
    assert len(prunable(further)) == len(prunable(structure))
    smaller, left = tools.cut_half(small, further)
    source = ModelSource("class", "a:b", earlier=once)
    again = rebuild(describe(small, further, left, source), CASES[case][0]())
    again.load_state_dict(smaller.state_dict())
    torch.testing.assert_close(tools.outputs_of(again, example), tools.outputs_of(smaller, example))
    tools.check_costs(small, further, example)


def test_a_network_is_trained_with_its_numbers(tools):
    small, example = small_of(tools, "tutorial")[2::2]
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    loss = small(example).square().sum()
    loss.backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in small.parameters())


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_traced_and_an_exported_network_keep_its_numbers(tools):
    small, example = small_of(tools, "parent")[2::2]
    expected = tools.outputs_of(small, example)[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(small, example)(example), expected)
        exported = torch.export.export(small, (example,)).module()
        torch.testing.assert_close(exported(example), expected)


def test_onnx_export_keeps_its_numbers(tools, tmp_path):
    small, example = small_of(tools, "tutorial")[2::2]
    export_model(small, tmp_path / "model.onnx", "onnx", example)  # compares the outputs at two batch sizes


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_torchscript_does_not_compile_the_old_numbers(tools):
    small, example = small_of(tools, "by_slices")[2::2]
    with pytest.raises(Exception, match=r"forward|by_slices"):
        torch.jit.script(small)(example)


class Fatal(Tutorial):
    """Fails behind its number, in a line of its own."""

    def forward(self, x):
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        x = self.fc1(x.view(-1, 16 * 5 * 5))
        if len(x) > 1:
            raise ValueError("too many")
        return self.fc3(self.fc2(x))


def test_lines_of_a_traceback_are_those_of_the_source(tools):
    _, small = tools.traced(Fatal(), PHOTO)
    with pytest.raises(ValueError, match="too many") as caught:
        small(PHOTO.repeat(2, 1, 1, 1))
    last = caught.traceback[-1]
    assert str(last.path) == __file__
    assert 'raise ValueError("too many")' in str(last.statement)


class Cancelling(Tutorial):
    """Multiplies with a number that equals a width, and divides by it again; between, values are bounded."""

    def forward(self, x):
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        x = (x.view(-1, 16 * 5 * 5) * 16).clamp(max=1000.0) / 16
        return self.fc3(self.fc2(self.fc1(x)))


def test_numbers_that_cancel_out_stay(tools):
    structure = trace_structure(tools.randomise(Cancelling()), PHOTO)
    in_code = [entry.attribute for entry in structure.attributes if "(" in entry.attribute]
    assert in_code == ["forward()[1]=400"]
    assert "conv2" in prunable(structure)

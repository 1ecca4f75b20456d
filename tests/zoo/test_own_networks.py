"""Networks that are not classifiers of images: they are traced, cut, saved and loaded all the same."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.fcn import FCN, FCNHead

import amc
from amc.costs.counting import count_flops, count_params
from amc.problem import filter_problem
from amc.pruning import FilterPruner, TableOptions, build_tables
from amc.runtime.call import call, tensors_in
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.zoo.cases import vary_constants

IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def segmentation(name):
    builder = getattr(torchvision.models.segmentation, name)
    return builder(weights=None, weights_backbone=None, num_classes=5)


def fully_convolutional():
    """The blocks of torchvision's `fcn_resnet50`, one in each stage."""
    body = ResNet(Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=[False, True, True])
    return FCN(IntermediateLayerGetter(body, {"layer4": "out"}), FCNHead(2048, 5))


class TextClassifier(nn.Module):
    """A small text transformer: words and places, encoder layers with a padding mask, the mean over the words."""

    def __init__(self, words=50, width=24, heads=4, layers=2, classes=3):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens, padding):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.encoder(x, src_key_padding_mask=padding)
        return self.head(x.masked_fill(padding[..., None], 0.0).mean(1))


def sentence():
    padding = torch.zeros(1, 7, dtype=torch.bool)
    padding[0, 5:] = True
    return {"tokens": torch.randint(0, 50, (1, 7), generator=torch.Generator().manual_seed(0)), "padding": padding}


CASES = {
    "fcn": (fully_convolutional, IMAGE),
    "lraspp_mobilenet_v3_large": (lambda: segmentation("lraspp_mobilenet_v3_large"), IMAGE),
    "deeplabv3_mobilenet_v3_large": (lambda: segmentation("deeplabv3_mobilenet_v3_large"), IMAGE),
    "text transformer": (TextClassifier, sentence()),
}


def outputs(model, example):
    with torch.no_grad():
        return tensors_in(call(model.eval(), example))


@pytest.mark.heavy
@pytest.mark.parametrize("name", CASES)
def test_half_of_the_flops_can_go(name, tmp_path):
    build, example = CASES[name]
    model = build().eval()
    vary_constants(model, 0)
    dense = copy.deepcopy(model)
    structure = amc.trace_structure(model, example)
    problem = filter_problem(structure, amc.Budget(flops=0.5))
    pruner = FilterPruner(model, structure, build_tables(model, structure, [], TableOptions("l1", refit=False)))
    for ratios in ([0.5] * len(problem.decisions), np.random.default_rng(0).uniform(0.1, 1, len(problem.decisions))):
        widths = problem.project(ratios)
        allocation = problem.allocation(widths)
        small = pruner.prune(allocation)
        flops = count_flops(small, example)
        assert 0.99 * problem.limit <= flops <= problem.limit
        assert (flops, count_params(small)) == (problem.cost(widths, "flops"), problem.cost(widths, "params"))
        record = describe(model, structure, pruner.kept(allocation), ModelSource.of(model))
        save_network(tmp_path, small, record)
        loaded = amc.load(tmp_path, model=build())
        for found, expected in zip(outputs(loaded, example), outputs(small, example), strict=True):
            torch.testing.assert_close(found, expected)
        call(small.train(), doubled(example))
    for found, expected in zip(outputs(model, example), outputs(dense, example), strict=True):
        torch.testing.assert_close(found, expected)  # tracing and pruning left the dense network alone


def doubled(example):
    """Returns two copies of an example in one batch."""
    if isinstance(example, dict):
        return {name: torch.cat([value, value]) for name, value in example.items()}
    return torch.cat([example, example])


def test_segmentation_networks_return_what_they_did():
    model = fully_convolutional()
    structure = amc.trace_structure(model, IMAGE)
    assert set(model.eval()(IMAGE)) == {"out"}
    assert [group.reason for group in structure.groups if not group.prunable] == ["the network's output"]


def test_the_text_transformer_loses_heads_and_hidden_units_and_keeps_its_words():
    model = TextClassifier()
    structure = amc.trace_structure(model, sentence())
    groups = {group.name: group for group in structure.groups}
    assert groups["encoder.layers.0.self_attn"].channels == 4
    assert groups["encoder.layers.1.linear1"].channels == 96
    stream = groups["words"]
    assert stream.channels == 24
    assert stream.residual
    assert {"words", "places", "encoder.layers.1.linear2"} <= set(stream.writers)
    assert "head" in stream.readers


def test_a_measure_and_a_fine_tuning_of_ones_own():
    """Any task: a function that says how good a network is, and one that trains it."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (64, 7), generator=generator)
    padding = torch.zeros(64, 7, dtype=torch.bool)
    classes = tokens.sum(1) % 3
    model = TextClassifier().eval()
    calls = []

    def evaluate(network):
        with torch.no_grad():
            return -nn.functional.cross_entropy(network.eval()(tokens, padding), classes).item()

    def finetune(network):
        optimizer = torch.optim.Adam(network.train().parameters(), 1e-3)
        nn.functional.cross_entropy(network(tokens, padding), classes).backward()
        optimizer.step()
        calls.append(network)

    result = amc.compress(
        model,
        amc.OwnTask(evaluate, example_input=sentence()),
        amc.Budget(flops=0.5),
        agent="random",
        episodes=3,
        finetune=finetune,
        device="cpu",
    )
    assert len(calls) == 1
    dense = count_flops(model, sentence())
    assert 0.49 * dense <= count_flops(result.model, sentence()) <= 0.5 * dense
    assert result.model(**sentence()).shape == (1, 3)


class Pixels(nn.Module):
    """A class for every pixel, as torchvision's segmentation networks tell it, by few layers."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1))
        self.head = nn.Conv2d(24, classes, 1)

    def forward(self, x):
        return {"out": nn.functional.interpolate(self.head(self.body(x).relu()), x.shape[-2:])}


@pytest.mark.heavy
def test_the_examples_of_the_documentation_run(capsys, monkeypatch):
    name = "lraspp_mobilenet_v3_large"  # the true one, which takes a while, is cut above
    monkeypatch.setattr(torchvision.models.segmentation, name, lambda num_classes, **_: Pixels(num_classes))
    text = (Path(__file__).parents[2] / "docs" / "own_networks.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    torch.manual_seed(0)
    exec(compile(code, "own_networks.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ of \d+ channel groups can be cut", lines[0])
    assert "'dense'" in lines[1]
    assert "'dense'" in lines[2]
    assert "encoder.layers.0.self_attn" in lines[3]

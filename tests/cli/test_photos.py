"""The common job: a folder of pictures in a few classes, and weights that were trained for others."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw

import amc
from amc.cli.main import main
from amc.data import DataConfig, load_data
from amc.data.reading.image_folder import list_images
from amc.models import create_model
from amc.models.cifar_resnet import resnet
from amc.models.factory import OWN_MODELS
from amc.utils.registry import Entry


def draw(kind, random):
    """Draws a shape at random on a picture of any size."""
    width, height = random.integers(20, 40, 2)
    image = Image.fromarray(random.integers(0, 90, (height, width, 3), dtype=numpy.uint8))
    x, y, half = width / 2, height / 2, min(width, height) / 4 + random.integers(3)
    colour = tuple(int(value) for value in random.integers(150, 255, 3))
    corners = {"round": 40, "square": 4, "triangle": 3}[kind]
    points = [
        (x + half * math.cos(2 * math.pi * (k + 0.5) / corners), y + half * math.sin(2 * math.pi * (k + 0.5) / corners))
        for k in range(corners)
    ]
    ImageDraw.Draw(image).polygon(points, fill=colour)
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("photos"), numpy.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for kind in ("round", "square", "triangle"):
            (root / part / kind).mkdir(parents=True)
            for index in range(count):
                draw(kind, random).save(root / part / kind / f"{index}.png")
    return root


@pytest.fixture
def words(photos, tmp_path, monkeypatch):
    """Options with a network of few layers, and weights for it that were made for ten classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(OWN_MODELS._entries, "resnet8", Entry("resnet8", partial(resnet, 8), "for this file alone"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.save({"model": create_model("resnet8", seed=3).state_dict()}, "pretrained.pth")
    config = {"name": "imagefolder", "root": str(photos), "image_size": 16}
    Path("data.json").write_text(json.dumps(config))
    data = ["--data.name", "imagefolder", "--data.root", str(photos), "--data.image_size", "16"]
    return ["--model", "resnet8", "--weights", "pretrained.pth", *data, "--train.epochs", "2", "--device", "cpu"]


def _check_file_that_ships(network, capsys):
    """Exports the run, and classifies pictures by the script of the documentation, with onnxruntime alone."""
    assert main(["export", "run", "--seconds", "0"]) == 0
    capsys.readouterr()
    record = json.loads(Path("run/preprocessing.json").read_text())
    assert record["class_names"] == ["round", "square", "triangle"]
    session = onnxruntime.InferenceSession("run/export/model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["preprocessing"]) == record
    assert json.loads(metadata["class_names"]) == record["class_names"]
    assert session.get_inputs()[0].shape[1:] == [3, 16, 16]
    assert isinstance(session.get_inputs()[0].shape[0], str)  # a batch axis of any length, by name
    script = (Path(amc.__file__).parents[1] / "docs" / "photos.md").read_text().split("```python\n")[1].split("```")[0]
    photos = load_data(DataConfig(**json.loads(Path("data.json").read_text()))).test
    files = list_images(Path(json.loads(Path("data.json").read_text())["root"]) / "test").paths
    path = Path(json.loads(Path("data.json").read_text())["root"]) / "test" / files[8]
    words = [sys.executable, "-c", script, "run/export/model.onnx", str(path)]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    with torch.no_grad():
        wanted = int(network(photos.take([8]).inputs()).argmax())
    assert found == record["class_names"][wanted]


@pytest.mark.heavy
def test_weights_for_other_classes_get_a_new_head_that_is_trained_first(words, capsys):
    more = ["--agent", "uniform", "--episodes", "1", "--compare", "none", "--out", "run", "--untrained", "true"]
    more += ["--pruning.criterion", "l2", "--pruning.recovery", "none"]  # quicker than the defaults
    assert main(["compress", *words, "--finetune.epochs", "1", "--train.head_epochs", "1", *more]) == 0
    shown = capsys.readouterr().err
    assert "the weights are for other classes than the data's 3: linear is new, trained alone for 1 epoch" in shown
    assert "train its new head: " in shown
    network = amc.load("run")
    assert network.linear.out_features == 3
    summary = json.loads(Path("run/summary.json").read_text())
    _check_file_that_ships(network, capsys)
    assert summary["costs"]["flops"]["pruned"] <= summary["costs"]["flops"]["dense"] / 2


def test_classes_of_ones_own_number_are_built_and_weights_that_fit_are_not_trained(words, capsys):
    options = [*words, "--classes", "10"]
    assert main(["evaluate", *[word for word in options if word not in ("--train.epochs", "2")]]) == 0
    assert "resnet8" in capsys.readouterr().out
    for command, split in (("compress", "test"), ("search", "search")):
        assert main([command, *options, "--episodes", "1", "--out", f"run-{command}"]) == 2
        shown = capsys.readouterr().err
        assert "must be better than chance, but reaches" in shown
        assert f"(top-1 on the {split} images, in percent)" in shown

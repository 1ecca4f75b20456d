"""The page on detection runs as it stands, on tiny images and without weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torchvision.models import detection

import amc

PAGE = (Path(__file__).parents[2] / "docs" / "detection.md").read_text(encoding="utf-8")
SETTING, SSDLITE, FASTER, YOLO = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def outcome_of(block):
    namespace = {"__name__": "detection"}
    for code in (SETTING, block):
        exec(compile(code, "docs/detection.md", "exec"), namespace)
    return namespace["result"], namespace["held_out"]


def check_half(result):
    flops = result.summary["costs"]["flops"]
    assert 0.99 * flops["dense"] <= 2 * flops["pruned"] <= flops["dense"]
    assert 0 <= result.summary["accuracy"]["finetuned"] <= 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ssdlite_is_cut_trained_and_loaded(tmp_path):
    result, held_out = outcome_of(SSDLITE)
    check_half(result)
    result.save(tmp_path / "saved")
    dense = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    loaded = amc.load(tmp_path / "saved", model=dense)
    images = [image for image, _ in held_out]
    with torch.no_grad():
        for found, expected in zip(loaded(images), result.model.eval()(images), strict=True):
            torch.testing.assert_close(found["scores"], expected["scores"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_faster_r_cnn_is_cut_and_trained():
    result, _ = outcome_of(FASTER)
    check_half(result)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_yolo_is_cut_trained_and_saved(tmp_path):
    pytest.importorskip("ultralytics")
    result, held_out = outcome_of(YOLO)
    check_half(result)
    result.save(tmp_path / "saved")
    from ultralytics.nn.tasks import DetectionModel

    dense = DetectionModel("yolo11n.yaml", nc=1, verbose=False)
    dense.model[-1].dynamic = True
    loaded = amc.load(tmp_path / "saved", model=dense)
    images = torch.stack([image for image, _ in held_out])
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(images)[0], result.model.eval()(images)[0])

"""Images that a network cannot read are told in one line."""

import pytest
from PIL import Image

from amc.cli.main import main


@pytest.fixture
def colour(tmp_path):
    """A folder of colour images of 32 x 32, two classes."""
    for split in ("train", "test"):
        for number in range(16):
            folder = tmp_path / "images" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    return ["--data.name", "imagefolder", "--data.root", str(tmp_path / "images"), "--data.cache", "false"]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    words = ["compress", "--model=digits_lenet", "--data.train_images=200", "--data.test_images=50"]
    words += ["--train.epochs", "0"]
    words += ["--agent", "uniform", "--episodes", "1", "--compare", "none", "--finetune.epochs", "0"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("words", [["evaluate"], ["finetune", "--finetune.epochs", "1"]])
def test_images_of_another_shape(words, run, colour, capsys):
    reset = ["--data.train_images", "null", "--data.test_images", "null"]
    assert main([words[0], str(run), *words[1:], *colour, *reset]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "amc: error: the network must read images of the data, but fails on one of shape (3, 32, 32)"
    )
    assert line.endswith("choose the data that it was trained on")
    assert not run.with_name("run-finetuned").exists()

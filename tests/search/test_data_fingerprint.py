"""Two machines with the same data agree on its digest, and one without a file says so."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amc.data import DataConfig, load_data
from amc.errors import DataError
from amc.pipeline.data_fingerprint import fingerprint


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 4)):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path


def streamed(root):
    return load_data(DataConfig(name="imagefolder", root=str(root), image_size=8, memory=0.0, workers=0), seed=0)


def test_of_data_in_memory_images_and_targets_count():
    data = load_data(DataConfig(train_images=60, test_images=20), seed=0)
    assert fingerprint(data) == fingerprint(load_data(DataConfig(train_images=60, test_images=20), seed=0))
    assert fingerprint(data) != fingerprint(load_data(DataConfig(train_images=60, test_images=20), seed=1))
    other = replace(data, search=replace(data.search, targets=data.search.targets.flip(0)))
    assert fingerprint(data) != fingerprint(other)


def test_of_images_that_stream_the_files_count(photos):
    before = fingerprint(streamed(photos))
    assert fingerprint(streamed(photos)) == before
    Image.new("RGB", (8, 8)).save(photos / "train" / "cat" / "3.png")
    assert fingerprint(streamed(photos)) != before


def test_files_that_are_missing_are_noticed(photos):
    data = streamed(photos)
    for file in (photos / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises((OSError, DataError)):
        fingerprint(data)

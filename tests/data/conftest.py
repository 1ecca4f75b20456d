"""The same images in folders, in tar shards and in folders of Hugging Face, with what loads and compares them."""

from __future__ import annotations

import io
import tarfile
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

from amc.data import DataConfig, load_data
from amc.data.preprocessing import preprocessing_record

CLASSES = ("cat", "dog")
COUNTS = {"train": 40, "test": 10}
"""Images a class."""


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Keeps the cache folder of the user out of it."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def encoded(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def images():
    """Encoded images and classes by split, sorted by class."""
    draw = numpy.random.default_rng(0)
    return {
        split: [
            (encoded(draw.integers(0, 256, (14, 20, 3), dtype=numpy.uint8)), label)
            for label in (0, 1)
            for _ in range(count)
        ]
        for split, count in COUNTS.items()
    }


def write_folder(root, images):
    for split, samples in images.items():
        for number, (content, label) in enumerate(samples):
            (root / split / CLASSES[label]).mkdir(parents=True, exist_ok=True)
            (root / split / CLASSES[label] / f"{number:03}.png").write_bytes(content)
    return root


def write_tar(path, members, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def sample(number, content, label):
    return [(f"{number:03}.png", content), (f"{number:03}.cls", str(label).encode())]


def write_shards(root, images, *, size=25, names="{split}/{shard:06}.tar", **options):
    for split, samples in images.items():
        for start in range(0, len(samples), size):
            part = [m for n, s in enumerate(samples[start : start + size]) for m in sample(start + n, *s)]
            write_tar(root / names.format(split=split, shard=start // size), part, **options)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def as_dataset(samples, *, named=True):
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=list(CLASSES)) if named else datasets.Value("int64")
    features = datasets.Features({"caption": datasets.Value("string"), "picture": datasets.Image(), "kind": label})
    rows = {
        "caption": ["a picture"] * len(samples),
        "picture": [{"bytes": content, "path": None} for content, _ in samples],
        "kind": [label for _, label in samples],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def write_saved(root, images):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({split: as_dataset(samples) for split, samples in images.items()}).save_to_disk(
        root, num_shards={"train": 3, "test": 1}
    )
    return root


def write_parquet(root, images):
    (root / "data").mkdir(parents=True)
    for split, samples in images.items():
        as_dataset(samples).to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    return root


def loaded(name, root, memory=0.0, **options):
    options = {"image_size": 8, "search_images": 12, "calibration_images": 20, "workers": 0} | options
    return load_data(DataConfig(name=name, root=str(root), memory=memory, **options))


def epoch(split, seed=3):
    return list(split.batches(16, generator=torch.Generator().manual_seed(seed)))


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def check_same_roles(found, wanted):
    """Checks that two data sets have the same images and classes in all roles, and that training shows the same."""
    for role in ("search", "calibration"):
        assert torch.equal(getattr(found, role).images, getattr(wanted, role).images)
        assert torch.equal(getattr(found, role).targets, getattr(wanted, role).targets)
    for role in ("train", "test"):
        assert same(list(getattr(found, role).batches(7)), list(getattr(wanted, role).batches(7)))
    assert same(epoch(found.train), epoch(wanted.train))
    assert preprocessing_record(found.test) == preprocessing_record(wanted.test)
    assert found.test.class_names == CLASSES


@pytest.fixture(scope="session")
def records():
    """Writes, loads and compares the images of `images`."""
    helpers = (
        write_folder, write_tar, sample, write_shards, as_dataset, write_saved, write_parquet,
        loaded, epoch, same, check_same_roles,
    )  # fmt: skip
    return SimpleNamespace(
        writers={"webdataset": write_shards, "huggingface": write_saved},
        pixel=encoded(numpy.zeros((4, 4, 3), dtype=numpy.uint8)),
        classes=CLASSES,
        **{helper.__name__: helper for helper in helpers},
    )

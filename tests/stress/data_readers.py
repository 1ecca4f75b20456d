"""Readers of data sets in tar, Arrow and Parquet files, and of the index that is kept of tar files."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import mutations
import numpy as np
from PIL import Image
from readers import Reader

from amc.data import DataConfig, load_data
from amc.data.reading.shard_index import SampleParts
from amc.data.reading.shard_index_cache import index_shards_cached

_BLOCK = 512
_TIME = 10**18
"""When files were changed last, in nanoseconds: the index of shards goes by it."""


def _images() -> list[tuple[bytes, int]]:
    draw, found = np.random.default_rng(0), []
    for number in range(20):
        stream = io.BytesIO()
        Image.fromarray(draw.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(stream, "PNG")
        found.append((stream.getvalue(), number % 2))
    return found


def _shard(folder: Path) -> Path:
    formats = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
    with tarfile.open(folder / "train.tar", "w") as tar:
        for number, (content, label) in enumerate(_images()):
            tar.format = formats[number % 2]
            long = "n" * 120 if number % 3 == 0 else ""  # in a header of its own
            for suffix, part in (("png", content), ("cls", b"%d" % label)):
                entry = tarfile.TarInfo(f"{long}{number:03}.{suffix}")
                entry.size = len(part)
                tar.addfile(entry, io.BytesIO(part))
    return folder / "train.tar"


def _mutate_shard(file: Path, draw: random.Random) -> None:
    """Changes bytes anywhere, or those of a header, with the sum that guards it put right."""
    if draw.random() < 0.3:
        mutations.mutate_bytes(file, draw)
        return
    content = bytearray(file.read_bytes())
    for _ in range(draw.randint(1, 3)):
        start = _BLOCK * draw.randrange(len(content) // _BLOCK)
        block = content[start : start + _BLOCK]
        for _ in range(draw.randint(1, 4)):
            place = draw.choice([0, 1, 3, 124, 125, 126, 130, 134, 135, 156, 157, 257, 345, draw.randrange(_BLOCK)])
            block[place] = draw.choice([0, 32, 45, 47, 48, 53, 55, 76, 83, 103, 120, 128, 255])
        block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
        content[start : start + _BLOCK] = block
    file.write_bytes(content)


def _rows(folder: Path, suffix: str) -> Path:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = _images()
    columns = {"image": [{"bytes": one, "path": None} for one, _ in images], "label": [label for _, label in images]}
    rows, file = datasets.Dataset.from_dict(columns, features=features), folder / f"train.{suffix}"
    if suffix == "parquet":
        rows.to_parquet(file)
        return file
    rows.save_to_disk(folder / "saved")
    (written,) = (folder / "saved").glob("*.arrow")
    return written.rename(file)


def _load(name: str, folder: Path) -> object:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    shapes = {"image_size": 8, "search_images": 4, "calibration_images": 4, "workers": 0, "memory": 0.0}
    roles = load_data(DataConfig(name=name, root=str(folder), **shapes))  # type: ignore[arg-type]
    return [list(split.batches(8)) for split in (roles.train, roles.test)]


def _index(folder: Path) -> Path:
    shard = _shard(folder)
    os.utime(shard, ns=(_TIME, _TIME))
    index_shards_cached([shard], SampleParts(), folder)
    (entry,) = folder.glob("shards-*.safetensors")
    return entry.rename(folder / "index.safetensors")


def _use_index(folder: Path) -> object:
    shard = folder / "train.tar"
    os.utime(shard, ns=(_TIME, _TIME))
    index_shards_cached([shard], SampleParts(), folder)
    (entry,) = folder.glob("shards-*.safetensors")  # whose name follows from the folder
    (folder / "index.safetensors").replace(entry)
    pictures, _ = index_shards_cached([shard], SampleParts(), folder)
    with pictures.opened(len(pictures.sizes) - 1) as image:
        return image.size, pictures.digest(range(len(pictures.sizes)))


DATA_READERS = (
    Reader("tar shard by data.root", _shard, _mutate_shard, lambda folder: _load("webdataset", folder)),
    Reader("index of shards in the cache", _index, mutations.mutate_safetensors, _use_index),
    Reader(
        "Arrow file by data.root",
        lambda folder: _rows(folder, "arrow"),
        mutations.mutate_bytes,
        lambda folder: _load("huggingface", folder),
    ),
    Reader(
        "Parquet file by data.root",
        lambda folder: _rows(folder, "parquet"),
        mutations.mutate_bytes,
        lambda folder: _load("huggingface", folder),
    ),
)

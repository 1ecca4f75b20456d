"""The index of tar shards: kept until a shard changes, and made of whole shards alone."""

from __future__ import annotations

import tarfile

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from amc.data.reading.shard_index import SampleParts, index_shards
from amc.data.reading.shard_index_cache import index_shards_cached
from amc.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("change", ["shrinks", "other order"])
def test_a_shard_that_changes_while_it_is_used_is_not_read(records, tmp_path, images, change):
    root = records.write_shards(tmp_path, images)
    shard = root / "train/000000.tar"
    roles, size = records.loaded("webdataset", root), shard.stat().st_size
    if change == "shrinks":
        shard.write_bytes(b"")
    else:
        records.write_tar(
            shard, [m for n, s in reversed(list(enumerate(images["train"][:25]))) for m in records.sample(n, *s)]
        )
        assert shard.stat().st_size == size
    with pytest.raises(DataError, match=r"that of 000000\.tar:\d+\.png has changed; put it back, or start another run"):
        list(roles.train.batches(8))


def test_an_index_of_shards_that_changed_meanwhile_is_not_kept(records, tmp_path, images, own_cache, monkeypatch):
    root = records.write_shards(tmp_path, images)
    shards = [root / "train/000000.tar"]

    def slowly(*given):
        records.write_tar(shards[0], records.sample(0, *images["train"][0]))
        return index_shards(*given)

    monkeypatch.setattr("amc.data.reading.shard_index_cache.index_shards", slowly)
    pictures, _ = index_shards_cached(shards, SampleParts(), own_cache)
    assert pictures.name(0) == "000000.tar:000.png"
    assert not list(own_cache.glob("shards-*"))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_shards_give_errors_of_the_project_alone(records, tmp_path, images, seed):
    draw = numpy.random.default_rng(seed)
    format = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[seed % 2]
    members = [
        ("n" * 120 + name, content)
        for n, s in enumerate(images["train"][20:60])
        for name, content in records.sample(n, *s)
    ]
    records.write_tar(tmp_path / "a.tar", members, format=format)
    whole, errors = (tmp_path / "a.tar").read_bytes(), 0
    for _ in range(25):
        content = bytearray(whole)
        if draw.random() < 0.3:
            del content[int(draw.integers(len(content))) :]
        else:
            # Most headers are small: bytes of theirs, with the sums that guard them put right.
            start = 512 * int(draw.integers(len(content) // 512))
            block = content[start : start + 512]
            for _ in range(int(draw.integers(1, 4))):
                block[int(draw.choice([124, 125, 126, 130, 134, 156, 0, 257, 300]))] = int(
                    draw.choice([0, 48, 55, 120, 128, 255])
                )
            block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
            content[start : start + 512] = block
        (tmp_path / "a.tar").write_bytes(content)
        try:
            pictures, targets = index_shards([tmp_path / "a.tar"], SampleParts())
            assert len(pictures.sizes) == len(targets) <= 40
            assert (pictures.offsets + pictures.sizes <= len(content)).all()
        except DataError:
            errors += 1
    assert errors > 8


def test_every_truncation_is_noticed(records, tmp_path, images):
    records.write_tar(tmp_path / "a.tar", [m for n, s in enumerate(images["train"]) for m in records.sample(n, *s)])
    whole = (tmp_path / "a.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in (0, 100, 511, 512, 1024, end // 2, end - 1, end + 1):
        (tmp_path / "a.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match="it is cut off"):
            records.loaded("webdataset", tmp_path)


def test_the_index_is_kept_until_a_shard_changes(records, tmp_path, images, own_cache, monkeypatch):
    root = records.write_shards(tmp_path, images)
    first = records.loaded("webdataset", root)
    entries = sorted((own_cache / "amc").glob("shards-*.safetensors"))
    assert len(entries) == 2
    passes = []
    monkeypatch.setattr(
        "amc.data.reading.shard_index_cache.index_shards", lambda *given: passes.append(given) or index_shards(*given)
    )
    records.check_same_roles(records.loaded("webdataset", root), first)
    assert not passes
    records.loaded("webdataset", root, cache=False)
    assert len(passes) == 2
    records.write_tar(root / "test/000000.tar", records.sample(0, images["test"][0][0], 1))
    assert records.loaded("webdataset", root).test.targets.tolist() == [1]
    assert len(passes) == 3


@pytest.mark.parametrize("name", ["shard", "offsets", "sizes", "ends", "targets", "names"])
@pytest.mark.parametrize("change", ["high", "low", "short", "gone", "type"])
def test_a_kept_index_that_does_not_fit_is_made_again(records, tmp_path, images, own_cache, name, change):
    root = records.write_shards(tmp_path, images)
    wanted = index_shards([root / "test/000000.tar"], SampleParts())
    index_shards_cached([root / "test/000000.tar"], SampleParts(), own_cache)
    (entry,) = own_cache.glob("shards-*.safetensors")
    tensors = load_file(entry)
    if change in ("high", "low") and name != "names":
        tensors[name][3] = 2**62 if change == "high" else -1
    elif change == "type":
        tensors[name] = tensors[name].to(torch.float32)
    elif change == "gone":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, entry)
    pictures, targets = index_shards_cached([root / "test/000000.tar"], SampleParts(), own_cache)
    assert targets.tolist() == wanted[1].tolist()
    assert pictures.digest(range(20)) == wanted[0].digest(range(20))
    assert load_file(entry).keys() == {"shard", "offsets", "sizes", "ends", "targets", "names"}

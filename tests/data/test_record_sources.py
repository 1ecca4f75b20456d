"""Tar shards and Hugging Face folders: the pixels, classes and splits of the same images in folders."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from amc.data import DataConfig, ImageSet, StreamedImages, load_data
from amc.data.preprocessing import preprocessing_record
from amc.data.shard_index import SampleParts, index_shards
from amc.data.shard_index_cache import index_shards_cached
from amc.errors import ConfigurationError, DataError

CLASSES = ("cat", "dog")
COUNTS = {"train": 40, "test": 10}
"""Images a class."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def encoded(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
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


WRITERS = {
    "webdataset": write_shards,
    "huggingface": write_saved,
}


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


@pytest.mark.parametrize("memory", [0.0, 0.25])
@pytest.mark.parametrize("name", WRITERS)
def test_roles_are_those_of_the_same_images_in_folders(tmp_path, images, name, memory):
    folder, root = write_folder(tmp_path / "folder", images), WRITERS[name](tmp_path / "other", images)
    found = loaded(name, root, memory)
    assert isinstance(found.train, StreamedImages if memory == 0 else ImageSet)
    check_same_roles(found, loaded("imagefolder", folder, memory))


def test_parquet_files_are_read_through_a_copy_in_the_cache_of_the_user(tmp_path, images, own_cache):
    folder, root = write_folder(tmp_path / "folder", images), write_parquet(tmp_path / "other", images)
    before = sorted(tmp_path.rglob("*"))
    check_same_roles(loaded("huggingface", root), loaded("imagefolder", folder))
    assert sorted(tmp_path.rglob("*")) == before
    assert list((own_cache / "amc/huggingface").rglob("*.arrow"))
    with pytest.raises(DataError, match=r"data\.cache false allows none; leave that out"):
        loaded("huggingface", root, cache=False)


def test_parquet_files_that_change_are_copied_again(tmp_path, images):
    root = write_parquet(tmp_path / "data", images)
    first = loaded("huggingface", root)
    (root / "data/train-00000-of-00001.parquet").unlink()
    as_dataset(images["test"] * 4).to_parquet(root / "data/train-00000-of-00001.parquet")
    second = loaded("huggingface", root)
    assert len(first.train) == len(second.train)
    assert not torch.equal(first.search.images, second.search.images)


@pytest.mark.parametrize("name", WRITERS)
def test_workers_change_nothing_and_an_epoch_depends_on_its_generator_alone(tmp_path, images, name):
    root = WRITERS[name](tmp_path / "data", images)
    one, two = (loaded(name, root, augment="resized_crop", workers=workers).train for workers in (0, 2))
    assert same(epoch(one), epoch(two))
    assert not same(epoch(one), epoch(one, seed=4))


@pytest.mark.parametrize("name", WRITERS)
def test_splits_travel_to_other_processes_without_their_pixels(tmp_path, images, name):
    split = loaded(name, WRITERS[name](tmp_path / "data", images)).train
    packed = pickle.dumps(split)
    assert len(packed) < 20_000
    assert same(epoch(pickle.loads(packed)), epoch(split))


@pytest.mark.parametrize("name", WRITERS)
def test_images_of_one_size_need_no_image_size(tmp_path, images, name):
    assert loaded(name, WRITERS[name](tmp_path, images), image_size=None).input_shape == (3, 14, 20)


@pytest.mark.parametrize("name", WRITERS)
def test_broken_images_are_refused_or_left_out_by_name(tmp_path, images, name):
    broken = {"train": [(b"no image", 0), *images["train"][1:]], "test": images["test"]}
    root = WRITERS[name](tmp_path, broken)
    called = {"webdataset": r"000000\.tar:000\.png", "huggingface": "row 0 of the training split"}[name]
    with pytest.raises(DataError, match=f"cannot decode the image {called}: it is damaged, or in no known format; "):
        loaded(name, root, memory=0.25)
    with pytest.warns(RuntimeWarning, match=f"1 broken image is left out: {called}"):
        roles = loaded(name, root, memory=0.25, broken="skip")
    assert len(roles.train) + len(roles.search) == 79


@pytest.mark.parametrize("name", WRITERS)
def test_limits_keep_the_shares_of_the_classes(tmp_path, images, name):
    roles = loaded(name, WRITERS[name](tmp_path, images), train_images=30, test_images=4)
    assert sorted(torch.cat([roles.train.targets, roles.search.targets]).tolist()) == [0] * 15 + [1] * 15
    assert sorted(roles.test.targets.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize("name", WRITERS)
def test_digests_know_the_split_and_the_files(tmp_path, images, name):
    first = loaded(name, WRITERS[name](tmp_path / "one", images))
    again = loaded(name, WRITERS[name](tmp_path / "two", images))
    fewer = loaded(name, WRITERS[name](tmp_path / "three", images | {"train": images["train"][:-1]}))
    assert first.train.digest() == again.train.digest() != first.test.digest()
    assert first.train.digest() != fewer.train.digest()


@pytest.mark.parametrize("name", WRITERS)
def test_without_a_test_split_every_fifth_image_is_kept_for_it(tmp_path, images, name):
    roles = loaded(name, WRITERS[name](tmp_path, images))
    shutil.rmtree(tmp_path / "test")
    halved = loaded(name, tmp_path)
    assert len(halved.test) == 16
    assert len(halved.train) + len(halved.search) == 64
    assert len(roles.test) == 20
    assert len(loaded(name, tmp_path / "train").test) == 16


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("root", "message"), [(None, r"needs a folder; set data\.root"), ("nowhere", "no folder at")])
def test_a_folder_is_needed(tmp_path, name, root, message):
    with pytest.raises(DataError, match=message):
        load_data(DataConfig(name=name, root=root and str(tmp_path / root)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["readme.txt"], "it holds none"),
        (["test/0.{}"], "files for the test alone"),
        (["my-val-0.{}"], "files for the test alone"),
        (["x-train-0.{}", "x-test-0.{}", "extra.{}"], r"extra\.\w+ has none; rename"),
        (["x-train-test.{}"], "has several; rename"),
    ],
)
@pytest.mark.parametrize(("name", "suffix"), [("webdataset", "tar"), ("huggingface", "parquet")])
def test_folders_without_the_layout_are_refused(tmp_path, name, suffix, names, message):
    pytest.importorskip("datasets")
    for entry in names:
        file = tmp_path / entry.format(suffix)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    with pytest.raises(DataError, match=message):
        loaded(name, tmp_path)


@pytest.mark.parametrize("option", ["image_column", "label_column"])
def test_columns_are_for_data_that_has_them(option):
    with pytest.raises(ConfigurationError, match=f"data.{option} is for webdataset and huggingface"):
        DataConfig(**{option: "label"})


# What only shards have.


@pytest.mark.parametrize("names", ["{split}-{shard:04}.tar", "data/my.set-{split}-{shard:04}.tar"])
def test_shards_may_be_named_by_their_split(tmp_path, images, names):
    (tmp_path / "other").mkdir()
    folder, root = write_folder(tmp_path / "folder", images), write_shards(tmp_path / "other", images, names=names)
    check_same_roles(loaded("webdataset", root), loaded("imagefolder", folder))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_are_read_in_every_format(tmp_path, images, format):
    long = "folder/" * (12 if format == tarfile.USTAR_FORMAT else 40)
    members = [(long + name, content) for n, s in enumerate(images["train"]) for name, content in sample(n, *s)]
    write_tar(tmp_path / "a.tar", [*members, ("bär/0.png", images["test"][0][0]), ("bär/0.cls", b"1")], format=format)
    roles = loaded("webdataset", tmp_path)
    names = {roles.train.pictures.name(index) for index in range(81)}
    assert {f"a.tar:{long}000.png", "a.tar:bär/0.png"} <= names


def test_shards_of_webdataset_itself_are_read_as_it_reads_them(tmp_path, images):
    webdataset, tars = pytest.importorskip("webdataset"), pytest.importorskip("webdataset.tariterators")
    with webdataset.ShardWriter(str(tmp_path / "train-%04d.tar"), maxcount=30, verbose=0) as writer:
        for number, (content, label) in enumerate(images["train"]):
            writer.write({"__key__": f"{number:03}", "png": content, "cls": label, "json": {"caption": "a picture"}})
    theirs = []
    for shard in sorted(tmp_path.iterdir()):
        with shard.open("rb") as stream:
            theirs += tars.group_by_keys(tars.tar_file_expander([{"url": str(shard), "stream": stream}]))
    roles = loaded("webdataset", tmp_path)
    found = {}
    for split in (roles.train, roles.test):
        for place, target in zip(split.positions.tolist(), split.targets.tolist(), strict=True):
            found[place] = target
    assert {place: int(theirs[place]["cls"]) for place in found} == found
    with roles.train.pictures.opened(3) as image:
        assert image.tobytes() == Image.open(io.BytesIO(theirs[3]["png"])).tobytes()


@pytest.mark.parametrize(
    ("label", "member", "column"),
    [
        ("label", ("json", b'{"label": %d}'), None),
        ("kind", ("json", b'{"kind": "%d", "label": 9}'), "kind"),
        ("text", ("answer.txt", b" %d\n"), "answer.txt"),
    ],
)
def test_classes_are_found_in_a_file_or_a_field(tmp_path, images, label, member, column):
    suffix, text = member
    members = [
        part
        for number, (content, target) in enumerate(images["train"])
        for part in [(f"{number}.png", content), (f"{number}.{suffix}", text % target), (f"{number}.txt", b"a picture")]
    ]
    write_tar(tmp_path / "a.tar", [*members, ("__info__.json", b"{}"), ("._0.png", b""), ("notes.json", b"{}")])
    roles = loaded("webdataset", tmp_path, label_column=column)
    assert roles.train.class_names == ("0", "1")
    assert sum(map(len, (roles.train, roles.search, roles.test))) == 80


def test_one_of_several_images_is_chosen_by_its_suffix(tmp_path, images):
    members = [
        part
        for number, (content, target) in enumerate(images["train"])
        for part in [*sample(number, content, target), (f"{number:03}.mask.png", images["test"][0][0])]
    ]
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=r"two images, '000\.png' and '000\.mask\.png'.*data\.image_column"):
        loaded("webdataset", tmp_path)
    assert loaded("webdataset", tmp_path, image_column=".PNG").train.pictures.name(0) == "a.tar:000.png"


PIXEL = encoded(numpy.zeros((4, 4, 3), dtype=numpy.uint8))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("0.png", PIXEL)],
            r"'0' of .*a\.tar has no class: the class is in 0\.cls, or in the field 'label' of 0\.json",
        ),
        ([("0.png", PIXEL), ("0.json", b"{}")], "has no class"),
        ([("0.cls", b"1")], "'0' of .* has no image"),
        ([("0.png", PIXEL), ("0.cls", b"cat")], "the class in '0.cls' must be a whole number from 0 .* is 'cat'"),
        ([("0.png", PIXEL), ("0.cls", b"1.5")], "must be a whole number"),
        ([("0.png", PIXEL), ("0.cls", b"-1")], "must be a whole number"),
        ([("0.png", PIXEL), ("0.cls", b"9" * 40)], "must be a whole number"),
        ([("0.png", PIXEL), ("0.cls", b"1" * 99)], "must have at most 64 bytes"),
        ([("0.png", PIXEL), ("0.json", b'{"label": true}')], "must be a whole number"),
        ([("0.png", PIXEL), ("0.json", b'{"label": ')], "'0.json' is no valid JSON"),
        ([("0.png", PIXEL), ("0.json", b"[" * 99999)], "'0.json' is no valid JSON"),
        ([("0.png", PIXEL), ("0.cls", b"1"), ("0.png", PIXEL)], "it holds '0.png' twice"),
        ([("0.png", PIXEL), ("0.cls", b"1"), ("0.cls", b"1")], "it holds '0.cls' twice"),
        ([("notes.txt", b"none")], "hold no image; images end in"),
    ],
)
def test_samples_that_are_not_labelled_images_are_refused(tmp_path, members, message):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message):
        loaded("webdataset", tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "'1.png' is a link, which is not followed"),
        (tarfile.LNKTYPE, "'1.png' is a link, which is not followed"),
        (tarfile.FIFOTYPE, "'1.png' is no ordinary file"),
        (tarfile.CHRTYPE, "'1.png' is no ordinary file"),
    ],
)
def test_links_and_devices_in_shards_are_refused(tmp_path, images, kind, message):
    write_tar(tmp_path / "a.tar", sample(0, *images["train"][0]))
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        entry = tarfile.TarInfo("1.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(DataError, match=message):
        loaded("webdataset", tmp_path)


def test_compressed_shards_are_refused(tmp_path, images):
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match=r"it is compressed, .*; decompress it"):
        loaded("webdataset", tmp_path)


def test_classes_beyond_those_that_are_named_or_trained_are_refused(tmp_path, images):
    root = write_shards(tmp_path, images)
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match="have a class 1, and there are 1 classes"):
        loaded("webdataset", root)
    (root / "classes.txt").unlink()
    write_tar(root / "test/000000.tar", sample(0, images["test"][0][0], 2))
    with pytest.raises(DataError, match="have a class 2, and there are 2 classes"):
        loaded("webdataset", root)


@pytest.mark.parametrize("name", ["webdataset", "huggingface"])
def test_one_wrong_label_makes_no_network_of_a_million_outputs(tmp_path, images, name):
    wrong = [(images["train"][0][0], 999_999), *images["train"]]
    if name == "webdataset":
        root, options = write_shards(tmp_path, {**images, "train": wrong}), {}
        (root / "classes.txt").unlink()
    else:
        options = {"label_column": "kind"}
        datasets, root = pytest.importorskip("datasets"), tmp_path / "data"
        rows = {"picture": [{"bytes": content, "path": None} for content, _ in wrong], "kind": [c for _, c in wrong]}
        features = datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("int64")})
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(root)
    with pytest.raises(DataError, match=f"one of {len(wrong)} training images is of 999,999; correct the labels, or"):
        loaded(name, root, **options)


@pytest.mark.parametrize("change", ["shrinks", "other order"])
def test_a_shard_that_changes_while_it_is_used_is_not_read(tmp_path, images, change):
    root = write_shards(tmp_path, images)
    shard = root / "train/000000.tar"
    roles, size = loaded("webdataset", root), shard.stat().st_size
    if change == "shrinks":
        shard.write_bytes(b"")
    else:
        write_tar(shard, [m for n, s in reversed(list(enumerate(images["train"][:25]))) for m in sample(n, *s)])
        assert shard.stat().st_size == size
    with pytest.raises(DataError, match=r"that of 000000\.tar:\d+\.png has changed; put it back, or start another run"):
        list(roles.train.batches(8))


def test_an_index_of_shards_that_changed_meanwhile_is_not_kept(tmp_path, images, own_cache, monkeypatch):
    root = write_shards(tmp_path, images)
    shards = [root / "train/000000.tar"]

    def slowly(*given):
        write_tar(shards[0], sample(0, *images["train"][0]))
        return index_shards(*given)

    monkeypatch.setattr("amc.data.shard_index_cache.index_shards", slowly)
    pictures, _ = index_shards_cached(shards, SampleParts(), own_cache)
    assert pictures.name(0) == "000000.tar:000.png"
    assert not list(own_cache.glob("shards-*"))


@pytest.mark.parametrize("name", WRITERS)
def test_links_that_lead_nowhere_are_refused(tmp_path, images, name):
    root = WRITERS[name](tmp_path, images)
    suffix = next(file.suffix for file in (root / "train").iterdir() if file.suffix in (".tar", ".arrow"))
    (root / "train" / f"more{suffix}").symlink_to(root / "gone")
    with pytest.raises(DataError, match=rf"more\{suffix} is a link that leads nowhere; remove it, or fetch it"):
        loaded(name, root)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_shards_give_errors_of_the_project_alone(tmp_path, images, seed):
    draw = numpy.random.default_rng(seed)
    format = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[seed % 2]
    members = [
        ("n" * 120 + name, content) for n, s in enumerate(images["train"][20:60]) for name, content in sample(n, *s)
    ]
    write_tar(tmp_path / "a.tar", members, format=format)
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


def test_every_truncation_is_noticed(tmp_path, images):
    write_tar(tmp_path / "a.tar", [m for n, s in enumerate(images["train"]) for m in sample(n, *s)])
    whole = (tmp_path / "a.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in (0, 100, 511, 512, 1024, end // 2, end - 1, end + 1):
        (tmp_path / "a.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match="it is cut off"):
            loaded("webdataset", tmp_path)


def test_the_index_is_kept_until_a_shard_changes(tmp_path, images, own_cache, monkeypatch):
    root = write_shards(tmp_path, images)
    first = loaded("webdataset", root)
    entries = sorted((own_cache / "amc").glob("shards-*.safetensors"))
    assert len(entries) == 2
    passes = []
    monkeypatch.setattr(
        "amc.data.shard_index_cache.index_shards", lambda *given: passes.append(given) or index_shards(*given)
    )
    check_same_roles(loaded("webdataset", root), first)
    assert not passes
    loaded("webdataset", root, cache=False)
    assert len(passes) == 2
    write_tar(root / "test/000000.tar", sample(0, images["test"][0][0], 1))
    assert loaded("webdataset", root).test.targets.tolist() == [1]
    assert len(passes) == 3


@pytest.mark.parametrize("name", ["shard", "offsets", "sizes", "ends", "targets", "names"])
@pytest.mark.parametrize("change", ["high", "low", "short", "gone", "type"])
def test_a_kept_index_that_does_not_fit_is_made_again(tmp_path, images, own_cache, name, change):
    root = write_shards(tmp_path, images)
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


# What only Hugging Face folders have.


def test_a_single_data_set_is_split_and_its_columns_may_be_named(tmp_path, images):
    dataset = as_dataset(images["train"], named=False)
    dataset.save_to_disk(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"one column of type ClassLabel, and has 0; name .*'caption', 'picture', 'kind'"
    ):
        loaded("huggingface", tmp_path / "data")
    roles = loaded("huggingface", tmp_path / "data", label_column="kind", image_column="picture")
    assert roles.train.class_names == ("0", "1")
    assert len(roles.test) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "label"}, "'label' is none; it has 'caption', 'picture', 'kind'"),
        ({"label_column": "caption"}, r"holds string; make a ClassLabel of it with class_encode_column\('caption'\)"),
        ({"label_column": "picture"}, "must be two columns, and both are 'picture'"),
        ({"image_column": "caption"}, "the bytes of every image must be in the data set's own files"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, images, options, message):
    as_dataset(images["train"]).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        loaded("huggingface", tmp_path / "data", **options)


def test_encoded_images_without_the_type_are_read_where_their_column_is_named(tmp_path, images):
    datasets = pytest.importorskip("datasets")
    rows = {"raw": [content for content, _ in images["train"]], "kind": [label for _, label in images["train"]]}
    features = datasets.Features({"raw": datasets.Value("binary"), "kind": datasets.ClassLabel(names=list(CLASSES))})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "data")
    assert len(loaded("huggingface", tmp_path / "data", image_column="raw").test) == 16


@pytest.mark.parametrize("label", [None, -1])
def test_rows_without_a_class_are_refused(tmp_path, images, label):
    as_dataset([(images["train"][0][0], label), *images["train"]]).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match="1 rows of the training split have none" if label is None else "one is -1"):
        loaded("huggingface", tmp_path / "data")


def test_splits_with_other_classes_are_refused(tmp_path, images):
    datasets = pytest.importorskip("datasets")
    other = as_dataset(images["test"]).cast_column("kind", datasets.ClassLabel(names=["cat", "cow"]))
    datasets.DatasetDict({"train": as_dataset(images["train"]), "test": other}).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match="must have the same classes; they differ in 'cow'"):
        loaded("huggingface", tmp_path / "data")


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/picture.png", "{folder}/secret.png"])
def test_paths_and_addresses_in_place_of_images_are_not_followed(tmp_path, images, path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "secret.png").write_bytes(PIXEL)
    feature = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(CLASSES))})
    written = tmp_path / "data/a.parquet"
    written.parent.mkdir()
    rows = {"picture": [{"bytes": None, "path": path.format(folder=tmp_path)}] * 10, "kind": [0, 1] * 5}
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pydict(rows, schema=feature.arrow_schema), written)
    with pytest.raises(
        DataError, match=r"must be in the data set's own files, and row \d of the training split has none"
    ):
        loaded("huggingface", written.parent, search_images=2)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_more_rows_than_bytes_are_refused_before_they_are_copied(tmp_path, own_cache, suffix):
    pytest.importorskip("datasets")
    import pyarrow
    from pyarrow import parquet

    rows = pyarrow.table({"picture": pyarrow.nulls(20_000, pyarrow.binary()), "kind": [0] * 20_000})
    if suffix == "parquet":
        parquet.write_table(rows, tmp_path / "train.parquet")
    else:
        options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
        with pyarrow.ipc.new_stream(tmp_path / "train.arrow", rows.schema, options=options) as stream:
            stream.write_table(rows)
    with pytest.raises(DataError, match=r"has 20,000 rows in [\d,]+ bytes of files, which cannot hold as many images"):
        loaded("huggingface", tmp_path, image_column="picture", label_column="kind")
    assert not list(own_cache.rglob("*.arrow"))


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (["picture", "picture", "kind"], 2, r"cannot read the training split from .*: .*picture.*; write or fetch"),
        (["picture", "caption", "kind"], 0, "must hold images; it has no rows"),
    ],
)
def test_what_is_wrong_with_parquet_files_is_said_once_and_nothing_is_logged(tmp_path, capfd, names, count, message):
    pytest.importorskip("datasets")
    import pyarrow
    from pyarrow import parquet

    columns = [pyarrow.array([PIXEL] * count, pyarrow.binary())] * 2 + [pyarrow.array([0] * count, pyarrow.int64())]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message) as error:
        loaded("huggingface", tmp_path, image_column="picture", label_column="kind")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_scripts_and_settings_beside_the_data_are_not_run(tmp_path, images):
    root = write_saved(tmp_path / "data", images)
    for folder in (root, root / "train"):
        for name in ("data.py", f"{folder.name}.py", "dataset_infos.py"):
            (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (root / "train/state.json").write_text(
        json.dumps({"_data_files": [{"filename": "/dev/zero"}], "_format_type": "x"})
    )
    (root / "train/cache-1.arrow").write_bytes(b"what map() left")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert len(loaded("huggingface", root).test) == 20
    assert not (tmp_path / "ran").exists()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_damaged_data_files_give_errors_of_the_project_alone(tmp_path, images, suffix):
    root = (write_saved if suffix == "arrow" else write_parquet)(tmp_path / "data", images)
    file = min(path for path in root.rglob(f"*.{suffix}") if "train" in str(path))
    whole = file.read_bytes()
    for length in (0, 8, 100, len(whole) // 2, len(whole) - 300):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot read the training split from .*; write or fetch its files again"):
            loaded("huggingface", root)


def test_without_the_package_one_line_says_what_to_install(tmp_path, images, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'amc-compress\[huggingface\]'"):
        loaded("huggingface", tmp_path)

"""Tar shards and Hugging Face folders: the pixels, classes and splits of the same images in folders."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch

from amc.data import DataConfig, ImageSet, StreamedImages, load_data
from amc.errors import ConfigurationError, DataError

pytestmark = pytest.mark.usefixtures("own_cache")
NAMES = ("webdataset", "huggingface")


@pytest.mark.parametrize("memory", [0.0, 0.25])
@pytest.mark.parametrize("name", NAMES)
def test_roles_are_those_of_the_same_images_in_folders(records, tmp_path, images, name, memory):
    folder, root = records.write_folder(tmp_path / "folder", images), records.writers[name](tmp_path / "other", images)
    found = records.loaded(name, root, memory)
    assert isinstance(found.train, StreamedImages if memory == 0 else ImageSet)
    records.check_same_roles(found, records.loaded("imagefolder", folder, memory))


@pytest.mark.parametrize("name", NAMES)
def test_workers_change_nothing_and_an_epoch_depends_on_its_generator_alone(records, tmp_path, images, name):
    root = records.writers[name](tmp_path / "data", images)
    one, two = (records.loaded(name, root, augment="resized_crop", workers=workers).train for workers in (0, 2))
    assert records.same(records.epoch(one), records.epoch(two))
    assert not records.same(records.epoch(one), records.epoch(one, seed=4))


@pytest.mark.parametrize("name", NAMES)
def test_splits_travel_to_other_processes_without_their_pixels(records, tmp_path, images, name):
    split = records.loaded(name, records.writers[name](tmp_path / "data", images)).train
    packed = pickle.dumps(split)
    assert len(packed) < 20_000
    assert records.same(records.epoch(pickle.loads(packed)), records.epoch(split))


@pytest.mark.parametrize("name", NAMES)
def test_images_of_one_size_need_no_image_size(records, tmp_path, images, name):
    assert records.loaded(name, records.writers[name](tmp_path, images), image_size=None).input_shape == (3, 14, 20)


@pytest.mark.parametrize("name", NAMES)
def test_broken_images_are_refused_or_left_out_by_name(records, tmp_path, images, name):
    broken = {"train": [(b"no image", 0), *images["train"][1:]], "test": images["test"]}
    root = records.writers[name](tmp_path, broken)
    called = {"webdataset": r"000000\.tar:000\.png", "huggingface": "row 0 of the training split"}[name]
    with pytest.raises(DataError, match=f"cannot decode the image {called}: it is damaged, or in no known format; "):
        records.loaded(name, root, memory=0.25)
    with pytest.warns(RuntimeWarning, match=f"1 broken image is left out: {called}"):
        roles = records.loaded(name, root, memory=0.25, broken="skip")
    assert len(roles.train) + len(roles.search) == 79


@pytest.mark.parametrize("name", NAMES)
def test_limits_keep_the_shares_of_the_classes(records, tmp_path, images, name):
    roles = records.loaded(name, records.writers[name](tmp_path, images), train_images=30, test_images=4)
    assert sorted(torch.cat([roles.train.targets, roles.search.targets]).tolist()) == [0] * 15 + [1] * 15
    assert sorted(roles.test.targets.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_digests_know_the_split_and_the_files(records, tmp_path, images, name):
    first = records.loaded(name, records.writers[name](tmp_path / "one", images))
    again = records.loaded(name, records.writers[name](tmp_path / "two", images))
    fewer = records.loaded(name, records.writers[name](tmp_path / "three", images | {"train": images["train"][:-1]}))
    assert first.train.digest() == again.train.digest() != first.test.digest()
    assert first.train.digest() != fewer.train.digest()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_test_split_every_fifth_image_is_kept_for_it(records, tmp_path, images, name):
    roles = records.loaded(name, records.writers[name](tmp_path, images))
    shutil.rmtree(tmp_path / "test")
    halved = records.loaded(name, tmp_path)
    assert len(halved.test) == 16
    assert len(halved.train) + len(halved.search) == 64
    assert len(roles.test) == 20
    assert len(records.loaded(name, tmp_path / "train").test) == 16


@pytest.mark.parametrize("name", NAMES)
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
def test_folders_without_the_layout_are_refused(records, tmp_path, name, suffix, names, message):
    pytest.importorskip("datasets")
    for entry in names:
        file = tmp_path / entry.format(suffix)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    with pytest.raises(DataError, match=message):
        records.loaded(name, tmp_path)


@pytest.mark.parametrize("option", ["image_column", "label_column"])
def test_columns_are_for_data_that_has_them(option):
    with pytest.raises(ConfigurationError, match=f"data.{option} is for webdataset and huggingface"):
        DataConfig(**{option: "label"})


@pytest.mark.parametrize("name", ["webdataset", "huggingface"])
def test_one_wrong_label_makes_no_network_of_a_million_outputs(records, tmp_path, images, name):
    wrong = [(images["train"][0][0], 999_999), *images["train"]]
    if name == "webdataset":
        root, options = records.write_shards(tmp_path, {**images, "train": wrong}), {}
        (root / "classes.txt").unlink()
    else:
        options = {"label_column": "kind"}
        datasets, root = pytest.importorskip("datasets"), tmp_path / "data"
        rows = {"picture": [{"bytes": content, "path": None} for content, _ in wrong], "kind": [c for _, c in wrong]}
        features = datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("int64")})
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(root)
    with pytest.raises(DataError, match=f"one of {len(wrong)} training images is of 999,999; correct the labels, or"):
        records.loaded(name, root, **options)


@pytest.mark.parametrize("name", NAMES)
def test_links_that_lead_nowhere_are_refused(records, tmp_path, images, name):
    root = records.writers[name](tmp_path, images)
    suffix = next(file.suffix for file in (root / "train").iterdir() if file.suffix in (".tar", ".arrow"))
    (root / "train" / f"more{suffix}").symlink_to(root / "gone")
    with pytest.raises(DataError, match=rf"more\{suffix} is a link that leads nowhere; remove it, or fetch it"):
        records.loaded(name, root)

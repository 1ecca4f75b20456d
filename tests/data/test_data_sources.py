"""Data sets by name, and folders of images."""

from __future__ import annotations

import gzip
import os
import struct
import time

import numpy
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from amc.data import DataConfig, load_data
from amc.data.reading.decoding import fit_size
from amc.data.reading.image_folder import list_images
from amc.errors import ConfigurationError, DataError, UnknownNameError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "amc"


def write_images(folder, count, size=(6, 6), classes=("cat", "dog"), start=0):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (start + index, label, 7)).save(folder / name / f"{index:03}.png")


def folder_config(root, **options):
    return DataConfig(name="imagefolder", root=str(root), **options)


def test_digits_need_nothing():
    roles = load_data(DataConfig())
    sizes = (len(roles.train), len(roles.calibration), len(roles.search), len(roles.test))
    assert sizes == (1151, 1000, 287, 359)
    assert (roles.input_shape, roles.num_classes) == ((1, 8, 8), 10)
    assert abs(float(roles.train.inputs().mean())) < 0.01
    assert abs(float(roles.train.inputs().std()) - 1) < 0.01


def test_seed_changes_the_search_split_and_never_the_test_split():
    first, second = (load_data(DataConfig(), seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.images, second.test.images)
    assert not torch.equal(first.search.images, second.search.images)


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_folder_with_train_and_test(tmp_path, test_name):
    write_images(tmp_path / "data/train", 10)
    write_images(tmp_path / f"data/{test_name}", 3, start=100)
    roles = load_data(folder_config(tmp_path / "data", search_images=4))
    assert (len(roles.train), len(roles.search), len(roles.test)) == (16, 4, 6)
    assert roles.name == "data"
    assert roles.test.class_names == ("cat", "dog")
    expected = torch.tensor([[100 + index, label, 7] for label in range(2) for index in range(3)])
    assert torch.equal(roles.test.images[:, :, 0, 0], expected.to(torch.uint8))
    assert roles.test.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert roles.train.mean == (0.485, 0.456, 0.406)
    assert roles.train.augment == "crop_flip"


def test_folder_of_classes_alone_gives_a_fifth_to_the_test_whatever_the_seed(tmp_path):
    write_images(tmp_path / "data", 20)
    splits = [load_data(folder_config(tmp_path / "data"), seed=seed) for seed in (0, 1)]
    assert torch.equal(splits[0].test.images, splits[1].test.images)
    assert splits[0].test.targets.bincount().tolist() == [4, 4]
    assert len(splits[0].train) + len(splits[0].search) == 32


def write_grey(folder, values, suffix, name="cat"):
    (folder / name).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(values).save(folder / name / f"{index}{suffix}")


@pytest.mark.parametrize(("dtype", "suffix"), [("<u2", ".png"), (">u2", ".tif"), ("int32", ".pgm"), ("int32", ".tif")])
def test_grey_images_of_16_bits_keep_their_shades(tmp_path, dtype, suffix):
    shades = numpy.array([[0, 128, 129, 32768], [257 * 7, 257 * 200, 65406, 65535]], dtype=dtype)
    write_grey(tmp_path / "data", shades, suffix)
    images = load_data(folder_config(tmp_path / "data", search_images=2)).train.images
    expected = torch.tensor([[0, 0, 1, 128], [7, 200, 254, 255]], dtype=torch.uint8)
    assert torch.equal(images[0], expected.expand(3, 2, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (numpy.zeros((2, 2), dtype="float32"), r"whole numbers: .*0.tif holds floating-point ones; scale it"),
        (numpy.array([[0, 65536]], dtype="int32"), r"0 to 65535: those of .*0.tif go from 0 to 65536; scale it"),
        (numpy.array([[-1, 9]], dtype="int32"), r"0 to 65535: those of .*0.tif go from -1 to 9; scale it"),
    ],
)
def test_images_without_a_defined_white_are_refused(tmp_path, values, message):
    write_grey(tmp_path / "data", values, ".tif")
    with pytest.raises(DataError, match=message):
        load_data(folder_config(tmp_path / "data"))


def test_decoded_images_are_cached_until_a_file_changes(tmp_path, own_cache):
    write_images(tmp_path / "data", 10)
    calls = []

    def load():
        calls.clear()
        roles = load_data(folder_config(tmp_path / "data"), advance=lambda share, *note: calls.append(share))
        return roles.train.images

    first = load()
    assert calls == sorted(calls)
    assert calls[-1] == 1.0
    assert torch.equal(load(), first)
    assert calls == []
    Image.new("RGB", (6, 6), (255, 255, 255)).save(tmp_path / "data/cat/000.png")
    load()
    assert calls
    for entry in own_cache.iterdir():
        entry.write_bytes(b"damaged")
    load()
    assert calls


def test_what_a_killed_process_left_in_the_cache_is_removed(tmp_path, own_cache):
    write_images(tmp_path / "data", 10)
    own_cache.mkdir(parents=True)
    for name, age_s in (("images-1.safetensors.11.part", 90_000), ("images-2.safetensors.12.part", 60)):
        (own_cache / name).write_bytes(b"half")
        os.utime(own_cache / name, (time.time() - age_s,) * 2)
    load_data(folder_config(tmp_path / "data"))
    assert [file.name for file in own_cache.glob("*.part")] == ["images-2.safetensors.12.part"]


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path, own_cache, monkeypatch):
    def full(*arguments):
        raise SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    write_images(tmp_path / "data", 10)
    roles = load_data(folder_config(tmp_path / "data"))
    assert len(roles.train) > 0
    assert not list(own_cache.iterdir())


def test_a_link_to_nothing_is_named(tmp_path, own_cache):
    write_images(tmp_path / "data", 10)
    (tmp_path / "data" / "cat" / "lost.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"cannot read the image .*lost\.png"):
        load_data(folder_config(tmp_path / "data"))


def test_cache_can_be_left_out(tmp_path, own_cache):
    write_images(tmp_path / "data", 10)
    load_data(folder_config(tmp_path / "data", cache=False))
    assert not own_cache.exists()


def test_limits_are_stratified(tmp_path):
    write_images(tmp_path / "data/train", 10)
    write_images(tmp_path / "data/test", 10)
    roles = load_data(folder_config(tmp_path / "data", train_images=8, test_images=4, search_images=2))
    assert len(roles.train) + len(roles.search) == 8
    assert roles.test.targets.bincount().tolist() == [2, 2]


def test_images_of_several_sizes_need_a_size(tmp_path):
    write_images(tmp_path / "data", 5, classes=("cat",))
    write_images(tmp_path / "data", 5, size=(20, 10), classes=("dog",))
    with pytest.raises(DataError, match=r"share a size.*(6x6|20x10).*set data\.image_size"):
        load_data(folder_config(tmp_path / "data"))
    assert load_data(folder_config(tmp_path / "data", image_size=8)).input_shape == (3, 8, 8)


def test_larger_images_are_cropped_at_the_centre_and_fitting_ones_are_untouched():
    wide = numpy.zeros((64, 128, 3), dtype=numpy.uint8)
    wide[:, 48:80] = 200
    fitted = numpy.asarray(fit_size(Image.fromarray(wide), 28))
    assert fitted.shape == (28, 28, 3)
    assert (fitted[:, 8:20] == 200).all()
    assert (fitted[:, :4] == 0).all()
    exact = Image.fromarray(wide[:, :64])
    assert fit_size(exact, 64) is exact
    assert fit_size(Image.fromarray(wide), 100).size == (100, 100)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, r"no folder at .*check data\.root"),
        (lambda root: root.mkdir(), "one folder a class"),
        (lambda root: write_images(root / "train", 2), "must have a folder test or val"),
        (lambda root: (write_images(root, 3), (root / "owl").mkdir()), "folder .*owl holds none"),
        (
            lambda root: (write_images(root / "train", 2), write_images(root / "test", 2, classes=("cat", "cow"))),
            "same classes; only one has 'cow'",
        ),
        (lambda root: (write_images(root, 9), (root / "cat/000.png").write_bytes(b"?")), r"decode .*000\.png"),
        (lambda root: root.write_text("a file"), "no folder at"),
    ],
)
def test_unusable_folders_are_named_with_the_remedy(tmp_path, prepare, message):
    prepare(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        load_data(folder_config(tmp_path / "data"))


def test_images_in_folders_within_a_class_count_as_torchvision_counts_them(tmp_path):
    root = tmp_path / "data"
    write_images(root, 5)
    for index in range(4):
        (root / "cat/s2/s3").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (90 + index, 0, 0)).save(root / "cat/s2/s3" / f"{index}.png")
    from torchvision.datasets import ImageFolder

    found, theirs = list_images(root), ImageFolder(root)
    assert [(str(root / path), int(label)) for path, label in zip(found.paths, found.targets, strict=True)] == (
        theirs.samples
    )
    assert len(found.paths) == 14


def test_hidden_files_and_links_in_a_circle_are_passed_over(tmp_path):
    root = tmp_path / "data"
    write_images(root, 5)
    (root / "__MACOSX/cat").mkdir(parents=True)
    (root / "__MACOSX/cat/._000.png").write_bytes(b"no image")
    (root / "cat/._000.png").write_bytes(b"no image")
    (root / "cat/again").symlink_to(root / "cat")
    found = list_images(root)
    assert (found.class_names, len(found.paths)) == (("cat", "dog"), 10)


@pytest.mark.parametrize(
    ("link", "target"), [("disk", "/"), ("all", "."), ("cat/all", ".."), ("far", "FAR/cat"), ("bird", "OUTSIDE")]
)
def test_a_link_to_a_folder_that_it_lies_in_is_refused(tmp_path, link, target):
    write_images(tmp_path / "far", 5)
    write_images(tmp_path / "data", 5)
    (tmp_path / "far/cat/up").symlink_to("..")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/back").symlink_to("../data")
    places = {"FAR/cat": tmp_path / "far/cat", "OUTSIDE": tmp_path / "outside"}
    (tmp_path / "data" / link).symlink_to(places.get(target, target))
    with pytest.raises(DataError, match=rf"must not lead to a folder that it lies in, as .*/data/{link}.* does, to /"):
        list_images(tmp_path / "data")


def test_a_class_that_is_a_link_elsewhere_is_followed(tmp_path):
    write_images(tmp_path / "far", 5)
    write_images(tmp_path / "data", 4)
    (tmp_path / "data/bird").symlink_to(tmp_path / "far/cat")
    (tmp_path / "data/dog/more").symlink_to("../../far/dog")
    found = list_images(tmp_path / "data")
    assert found.class_names == ("bird", "cat", "dog")
    assert found.targets.bincount().tolist() == [5, 4, 9]


@pytest.mark.parametrize("target", ["gone", "bird"])
def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path, target):
    write_images(tmp_path / "data", 5)
    (tmp_path / "data/bird").symlink_to(target)
    with pytest.raises(DataError, match=r"must lead somewhere, and .*/data/bird leads nowhere"):
        list_images(tmp_path / "data")


def test_names_that_are_no_text_are_data_too(tmp_path, own_cache):
    root = tmp_path / "data"
    write_images(root, 9)
    (root / "cat/000.png").rename(os.fsdecode(os.fsencode(root) + b"/cat/caf\xe9.png"))
    (root / "dog").rename(os.fsdecode(os.fsencode(root) + b"/d\xf6g"))
    roles = load_data(folder_config(root))
    assert roles.test.class_names == ("cat", "d\N{REPLACEMENT CHARACTER}g")
    assert len(list(own_cache.iterdir())) == 2


def test_images_above_pillows_limit_are_named(tmp_path, monkeypatch):
    write_images(tmp_path / "data", 9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)  # 36 pixels are more than twice that
    with pytest.raises(DataError, match=r"at most 34 pixels, and .*\.png has more; scale it down"):
        load_data(folder_config(tmp_path / "data"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow would warn of the file without naming it
    assert len(load_data(folder_config(tmp_path / "data")).test) == 3


@pytest.mark.parametrize("error", [EOFError, struct.error, KeyError, MemoryError])
def test_whatever_pillow_meets_the_file_is_named(tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error("broken")

    write_images(tmp_path / "data", 9)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"cannot decode the image .*\.png"):
        load_data(folder_config(tmp_path / "data"))


def test_a_folder_must_be_given():
    with pytest.raises(DataError, match=r"set data\.root"):
        load_data(DataConfig(name="imagefolder"))


def write_mnist(root, count):
    """Writes MNIST's file format with `count` images a split, image i filled with the value i."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = numpy.repeat(numpy.arange(count, dtype=numpy.uint8), 28 * 28)
        labels = (numpy.arange(count) % 10).astype(numpy.uint8)
        files = {"images-idx3": struct.pack(">4i", 2051, count, 28, 28) + images.tobytes()}
        files["labels-idx1"] = struct.pack(">2i", 2049, count) + labels.tobytes()
        for kind, content in files.items():
            (raw / f"{split}-{kind}-ubyte").write_bytes(content)
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


def test_torchvision_data_sets_are_read_by_name(tmp_path):
    write_mnist(tmp_path, 40)
    roles = load_data(DataConfig(name="mnist", root=str(tmp_path)))
    assert (roles.input_shape, roles.num_classes, len(roles.test)) == ((1, 28, 28), 10, 40)
    assert roles.test.images[:, 0, 0, 0].tolist() == list(range(40))
    assert roles.train.augment == "shift"
    larger = load_data(DataConfig(name="mnist", root=str(tmp_path), image_size=32, test_images=20))
    assert (larger.input_shape, len(larger.test)) == ((1, 32, 32), 20)
    assert torch.equal(larger.test.images[:, 0, 0, 0] % 10, larger.test.targets.to(torch.uint8))


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", "damaged"),
        ("mnist", "MNIST/raw/train-labels-idx1-ubyte", "\0\0\x08\x01\x7f\x7f\x7f\x7f"),
        ("food101", "food-101/meta/train.json", "{"),
        ("food101", "food-101/meta/train.json", "[]"),
        ("oxfordiiitpet", "oxford-iiit-pet/annotations/trainval.txt", "cat 1\n"),
    ],
)
def test_torchvision_data_sets_that_are_damaged_are_one_line(tmp_path, name, file, content):
    write_mnist(tmp_path, 40)
    for folder in ("food-101/meta", "food-101/images", "oxford-iiit-pet/annotations", "oxford-iiit-pet/images"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=rf"^cannot read data set {name} at .*: .*; fetch it again$"):
        load_data(DataConfig(name=name, root=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10", "mnist", "flowers102"])
def test_nothing_is_downloaded_unless_asked(tmp_path, name):
    with pytest.raises(DataError, match=r"set data\.root, or data\.download"):
        load_data(DataConfig(name=name, root=str(tmp_path / "absent")))


def test_fake_data_are_the_same_each_time():
    first, second = (load_data(DataConfig(name="fake", image_size=4, train_images=50)) for _ in range(2))
    assert torch.equal(first.test.images, second.test.images)
    assert (first.input_shape, first.num_classes) == ((3, 4, 4), 10)


def test_user_statistics_and_augmentation_win():
    roles = load_data(DataConfig(mean=(0.0,), std=(0.5,), augment="none"))
    assert (roles.test.mean, roles.search.std, roles.train.augment) == ((0.0,), (0.5,), "none")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "cifar"}, UnknownNameError, "'cifar10'"),
        ({"augment": "crop_flp"}, UnknownNameError, "'crop_flip'"),
        ({"train_images": 0}, ConfigurationError, r"data\.train_images must be at least 1, not 0"),
        ({"std": (0.0,)}, ConfigurationError, r"data\.std must be positive"),
        ({"image_size": 16}, DataError, "8x8"),
    ],
)
def test_unusable_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        load_data(DataConfig(**options))

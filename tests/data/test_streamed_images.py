"""Images that stay on disk: the same splits and pixels as in memory, whatever the number of worker processes."""

from __future__ import annotations

import os
import pickle
import warnings

import numpy
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import resized_crop

from amc.data import DataConfig, ImageSet, StreamedImages, load_data
from amc.data.preprocessing import preprocessing_record
from amc.data.reading.pictures import PackedNames
from amc.data.resized_crop import ResizedCrop
from amc.data.stream_reader import StreamReader
from amc.errors import ConfigurationError, DataError

COUNT = 48
"""Images a class; more than a worker reads at a time."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_noise(folder, count, size=(20, 14), seed=0, suffix=".png"):
    """Writes `count` noisy images of two classes; returns their paths."""
    pixels = numpy.random.default_rng(seed)
    written = []
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            written.append(folder / name / f"{index:03}{suffix}")
            Image.fromarray(pixels.integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)).save(written[-1])
    return written


@pytest.fixture
def folder(tmp_path):
    write_noise(tmp_path / "data/train", COUNT)
    write_noise(tmp_path / "data/test", 20, seed=1)
    return tmp_path / "data"


def loaded(folder, memory=0.0, **options):
    options = {"image_size": 8, "search_images": 12, "calibration_images": 20, "workers": 0} | options
    return load_data(DataConfig(name="imagefolder", root=str(folder), memory=memory, **options))


def epoch(split, size=16, seed=3):
    return list(split.batches(size, generator=torch.Generator().manual_seed(seed)))


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_splits_and_pixels_are_those_of_images_in_memory(folder):
    held, streamed = loaded(folder, memory=0.25), loaded(folder)
    assert not isinstance(held.train, StreamedImages)
    assert isinstance(streamed.train, StreamedImages)
    assert isinstance(streamed.test, StreamedImages)
    for role in ("search", "calibration"):
        assert getattr(streamed, role).images.dtype == torch.uint8
        assert torch.equal(getattr(streamed, role).images, getattr(held, role).images)
        assert torch.equal(getattr(streamed, role).targets, getattr(held, role).targets)
    for role in ("train", "test"):
        assert same(list(getattr(streamed, role).batches(7)), list(getattr(held, role).batches(7)))
    assert preprocessing_record(streamed.test) == preprocessing_record(held.test)


def test_the_four_roles_share_no_image_but_calibration_and_train(folder):
    roles = loaded(folder)
    images = {
        role: {bytes(image.numpy()) for image in getattr(roles, role).images} for role in ("search", "calibration")
    }
    images |= {role: {bytes(i.numpy()) for i in getattr(roles, role).in_memory().images} for role in ("train", "test")}
    assert [len(images[role]) for role in ("train", "search", "test")] == [84, 12, 40]
    assert images["calibration"] < images["train"]
    assert not images["search"] & images["train"]
    assert not images["test"] & (images["train"] | images["search"])


@pytest.mark.parametrize("augment", ["crop_flip", "none"])
def test_augmented_epochs_are_those_of_images_in_memory_to_the_bit(folder, augment):
    held, streamed = loaded(folder, memory=0.25, augment=augment), loaded(folder, augment=augment, workers=2)
    assert same(epoch(streamed.train), epoch(held.train))


def test_the_number_of_workers_changes_nothing(folder):
    one, two = (loaded(folder, augment="resized_crop", workers=workers).train for workers in (0, 2))
    before = torch.get_rng_state()
    first = epoch(one, size=40)
    assert [len(images) for images, _ in first] == [40, 40]
    assert same(first, epoch(two, size=40))
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(first, epoch(one, size=40, seed=4))


def test_epochs_differ_and_depend_on_the_generator_alone(folder):
    split, generator = loaded(folder, augment="resized_crop").train, torch.Generator().manual_seed(1)
    first = list(split.batches(16, generator=generator))
    state = generator.get_state()
    second = list(split.batches(16, generator=generator))
    assert not same(first, second)
    assert same(list(split.batches(16, generator=torch.Generator().set_state(state))), second)


def test_images_stream_above_a_share_of_the_memory(folder, monkeypatch):
    needed = 2 * (COUNT + 20) * 3 * 8 * 8
    monkeypatch.setattr("amc.data.memory_share.total_memory", lambda: 4 * needed)
    assert not isinstance(loaded(folder, memory=0.25).train, StreamedImages)
    monkeypatch.setattr("amc.data.memory_share.total_memory", lambda: 4 * needed - 1)
    assert isinstance(loaded(folder, memory=0.25).train, StreamedImages)


def test_large_natural_images_are_cut_out_of_the_whole_picture(folder):
    assert loaded(folder).train.augment == "crop_flip"
    assert loaded(folder, image_size=96).train.augment == "resized_crop"
    assert loaded(folder, image_size=96, memory=0.25).train.augment == "crop_flip"
    assert loaded(folder, image_size=96, augment="none").train.augment == "none"


def test_torchvision_sets_stream_too(tmp_path, monkeypatch):
    class Pets:
        classes = ("cat", "dog")

        def __init__(self, root, download, split):
            self.targets = [0, 1] * 20
            self.start = 100 if split == "test" else 0

        def __len__(self):
            return len(self.targets)

        def __getitem__(self, index):
            return Image.new("RGB", (12, 9), (self.start + index, 1, 2)), self.targets[index]

    monkeypatch.setattr("torchvision.datasets.OxfordIIITPet", Pets)
    options = {"name": "oxfordiiitpet", "image_size": 6, "search_images": 8, "workers": 0}
    held, streamed = (load_data(DataConfig(memory=memory, **options)) for memory in (0.25, 0.0))
    assert isinstance(streamed.train, StreamedImages)
    assert torch.equal(streamed.search.images, held.search.images)
    assert same(list(streamed.test.batches(9)), list(held.test.batches(9)))
    assert streamed.test.in_memory().images[:, 0, 0, 0].tolist() == list(range(100, 140))
    assert streamed.train.digest() != streamed.test.digest()


def test_a_digest_knows_names_and_sizes_and_reads_no_image(folder):
    first = loaded(folder).test.digest()
    file = folder / "test/cat/000.png"
    content = file.read_bytes()
    file.write_bytes(b"?" * len(content))
    assert loaded(folder).test.digest() == first
    file.write_bytes(content + b"?")
    longer = loaded(folder).test.digest()
    file.write_bytes(content)
    file.rename(folder / "test/cat/0000.png")
    assert len({first, longer, loaded(folder).test.digest()}) == 3


def test_names_are_packed_and_travel(tmp_path):
    names = ["cat/a.png", "", os.fsdecode(b"d\xf6g/caf\xe9.png"), "owl/\N{SNOWMAN}.png"]
    packed = pickle.loads(pickle.dumps(PackedNames.of(names)))
    assert [packed[index] for index in range(4)] == names


class TestBroken:
    """Images that cannot be decoded."""

    @pytest.fixture
    def damaged(self, folder):
        for place in ("train/cat/007.png", "test/dog/003.png"):
            (folder / place).write_bytes(b"no image")
        return folder

    def all_of(self, roles):
        for split in (roles.train, roles.test):
            list(split.batches(16))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_they_are_refused_by_name(self, damaged, workers):
        with pytest.raises(DataError, match=r"cannot decode the image .*(007|003)\.png: .*data\.broken skip") as error:
            self.all_of(loaded(damaged, workers=workers))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_they_are_skipped_named_and_counted(self, damaged, workers):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            roles = loaded(damaged, workers=workers, broken="skip")
            found = [sum(len(targets) for _, targets in split.batches(16)) for split in (roles.test, roles.test)]
            self.all_of(roles)
        assert found == [39, 39]
        texts = sorted(str(warning.message) for warning in caught)
        assert len(texts) == 2
        assert any("1 broken image is left out" in text and "cat/007.png" in text for text in texts)
        assert any("dog/003.png" in text for text in texts)

    def test_in_training_the_next_image_takes_the_place(self, damaged):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            train = loaded(damaged, broken="skip", augment="none", search_images=2, calibration_images=1).train
            batches = epoch(train, size=len(train) // 2)
        assert [len(targets) for _, targets in batches] == [47, 47]
        shown = torch.cat([images for images, _ in batches]).flatten(1)
        assert len(torch.unique(shown, dim=0)) == 93

    def test_more_than_a_tenth_is_too_many(self, folder):
        for index in range(5):
            (folder / f"test/cat/{index:03}.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"at most a tenth .*, and 5 of 40 are so far \(cat/000\.png, .*look at"):
            self.all_of(loaded(folder, broken="skip"))

    @pytest.mark.parametrize("cache", [True, False])
    def test_images_in_memory_are_skipped_too(self, damaged, cache):
        for _ in range(2):  # the second time from the cache
            with pytest.warns(RuntimeWarning, match=r"2 broken images are left out: cat/007\.png, dog/003\.png"):
                roles = loaded(damaged, memory=0.25, broken="skip", cache=cache)
            assert (len(roles.train) + len(roles.search), len(roles.test)) == (95, 39)
            assert len(roles.test.targets) == 39
        with pytest.raises(DataError, match=r"cannot decode the image .*007\.png"):
            loaded(damaged, memory=0.25, cache=cache)

    def test_an_image_of_another_size_is_refused_all_the_same(self, folder):
        Image.new("RGB", (30, 14)).save(folder / "test/dog/003.png")
        roles = loaded(folder, image_size=None, broken="skip")
        with pytest.raises(DataError, match=r"dog/003\.png is 30x14, and others are 20x14; set data\.image_size"):
            list(roles.test.batches(16))


def test_a_folder_without_train_is_named(tmp_path):
    write_noise(tmp_path / "val", 2)
    with pytest.raises(DataError, match="has a folder val, so it must have a folder train beside it"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0.7}, r"data\.memory must be a share of the memory, 0 to 0\.5, not 0\.7"),
        ({"workers": -1}, r"data\.workers must be at least 0, not -1"),
        ({"broken": "ignore"}, r"data\.broken"),
        ({"augment": "resized_crop:least=0"}, r"least must be a share of the area, in \(0, 1\], not 0"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DataConfig(**options)


def test_splits_that_must_be_in_memory_are_refused_above_half_of_it(folder, monkeypatch):
    monkeypatch.setattr("amc.data.memory_share.total_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"more than half of the memory; give a smaller data\.search_images"):
        loaded(folder)


class TestResizedCrop:
    """Random parts of pictures."""

    def parts(self, crop, width, height, count=2000):
        generator = torch.Generator().manual_seed(0)
        return [crop.part(width, height, generator) for _ in range(count)]

    def test_areas_and_ratios_are_those_of_the_paper(self):
        parts = self.parts(ResizedCrop(), 500, 400)
        areas = numpy.array([wide * tall / 200_000 for (_, _, wide, tall), _ in parts])
        ratios = numpy.array([wide / tall for (_, _, wide, tall), _ in parts])
        assert all(left >= 0 and left + wide <= 500 for (left, _, wide, _), _ in parts)
        assert all(top >= 0 and top + tall <= 400 for (_, top, _, tall), _ in parts)
        assert 0.078 < areas.min() < 0.1 < 0.95 < areas.max() <= 1
        assert 0.74 < ratios.min() < 0.77 < 1.3 < ratios.max() < 1.35
        assert 0.47 < numpy.mean([mirrored for _, mirrored in parts]) < 0.53

    def test_a_narrow_picture_gives_its_middle(self):
        (left, top, wide, tall), _ = ResizedCrop(least=1.0).part(300, 30, torch.Generator().manual_seed(0))
        assert (left, top, wide, tall) == (130, 0, 40, 30)

    def test_it_need_not_mirror(self):
        assert not any(mirrored for _, mirrored in self.parts(ResizedCrop(mirror=False), 8, 8, 50))

    @pytest.mark.parametrize("seed", range(6))
    def test_a_stream_shows_what_torchvision_cuts_there(self, folder, seed):
        split = loaded(folder, image_size=8).train
        reader = StreamReader(split.pictures, split.positions.numpy(), (3, 8, 8), 8, ResizedCrop())
        shown = reader._pixels(5, seed)
        (left, top, wide, tall), mirrored = ResizedCrop().part(20, 14, torch.Generator().manual_seed(seed))
        with split.pictures.opened(int(split.positions[5])) as image:
            theirs = numpy.asarray(resized_crop(image, top, left, tall, wide, (8, 8))).transpose(2, 0, 1)
        assert numpy.array_equal(shown, theirs[..., ::-1] if mirrored else theirs)

    def test_large_jpegs_are_decoded_small_and_look_the_same(self, tmp_path):
        across, down = numpy.meshgrid(numpy.linspace(0, 255, 1200), numpy.linspace(0, 255, 900))
        picture = numpy.stack([across, down, 255 - across], axis=2).astype(numpy.uint8)
        (tmp_path / "cat").mkdir()
        for name in ("a.jpg", "a.png"):
            Image.fromarray(picture).save(tmp_path / "cat" / name)
        reader = StreamReader(
            loaded_pictures(tmp_path, ["cat/a.jpg", "cat/a.png"]), numpy.arange(2), (3, 32, 32), 32, ResizedCrop()
        )
        for seed in range(5):
            small, exact = (reader._pixels(place, seed).astype(int) for place in (0, 1))
            assert abs(small - exact).max() < 12

    def test_images_in_memory_are_cut_each_by_itself(self):
        images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(4, 3, 16, 16).contiguous()
        changed = ResizedCrop()(images, torch.Generator().manual_seed(0))
        assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
        assert len(torch.unique(changed.flatten(1), dim=0)) == 4
        whole = ResizedCrop(least=1.0, mirror=False)(images, torch.Generator().manual_seed(0))
        assert torch.equal(whole, images)


def loaded_pictures(root, names):
    from amc.data.reading.pictures import FilePictures

    return FilePictures(root, PackedNames.of(names))


@pytest.mark.parametrize("augment", ["resized_crop", "crop_flip", "none"])
def test_parts_of_batches_make_the_whole_batches(folder, augment):
    split = loaded(folder, augment=augment).train
    parts = [epoch(split.shard(rank, 3), size=15) for rank in range(3)]
    joined = [tuple(torch.cat(pieces) for pieces in zip(*batch, strict=True)) for batch in zip(*parts, strict=True)]
    assert len(parts[0][0][0]) == 5
    assert same(joined, epoch(split, size=15))


def test_parts_share_the_processes_that_decode(folder):
    split = loaded(folder, workers=5).train
    assert [split.shard(0, size).workers for size in (2, 8)] == [3, 1]
    assert loaded(folder).train.shard(0, 2).workers == 0


class TestMixing:
    """Batches whose images and labels are mixed."""

    @pytest.mark.parametrize("name", ["mixup", "cutmix"])
    def test_images_and_labels_are_mixed_alike(self, name):
        colours = torch.eye(3)[torch.arange(8) % 3]  # of class k, channel k is 1 and the others 0
        images = ImageSet(
            colours.view(8, 3, 1, 1).expand(8, 3, 16, 16), torch.arange(8) % 3, augment=f"{name}:first=none;alpha=2"
        )
        ((mixed, shares),) = images.batches(8, generator=torch.Generator().manual_seed(0))
        assert shares.shape == (8, 3)
        assert torch.allclose(mixed.mean((2, 3)), shares, atol=1e-6)
        assert ((shares > 0).sum(1) == 2).any()

    def test_streams_mix_as_memory_does(self, folder):
        options = {"augment": "mixup:first=crop_flip"}
        held, streamed = loaded(folder, memory=0.25, **options), loaded(folder, **options)
        before = torch.get_rng_state()
        assert same(epoch(streamed.train), epoch(held.train))
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_network_with_more_outputs_than_classes_says_so(self, folder):
        split = loaded(folder, augment="cutmix:first=none;classes=5").train
        assert next(split.batches(4, generator=torch.Generator().manual_seed(0)))[1].shape == (4, 5)

    def test_other_targets_than_classes_are_refused(self):
        images = ImageSet(torch.rand(4, 3, 8, 8), torch.rand(4), augment="mixup:first=none")
        with pytest.raises(DataError, match=r"one class, \(N,\), not .*another data\.augment"):
            list(images.batches(2, generator=torch.Generator().manual_seed(0)))

    @pytest.mark.parametrize("chosen", ["mixup:alpha=0", "mixup:first=mixup", "rand_augment:magnitude=31"])
    def test_unusable_options_are_named(self, chosen):
        with pytest.raises(ConfigurationError, match=r"alpha|first|magnitude"):
            DataConfig(augment=chosen)

    def test_rand_augment_depends_on_the_seed_alone(self, folder):
        one, two = (loaded(folder, image_size=24, augment="rand_augment", workers=w).train for w in (0, 2))
        crop = loaded(folder, image_size=24, augment="rand_augment:count=0").train
        before = torch.get_rng_state()
        assert same(epoch(one, size=20), epoch(two, size=20))
        assert torch.equal(torch.get_rng_state(), before)
        assert not same(epoch(one, size=20), epoch(crop, size=20))


def test_parts_are_not_mixed(folder):
    split = loaded(folder, augment="mixup").train
    assert split.shard(0, 1).part == (0, 1)
    with pytest.raises(DataError, match=r"mixed within one process, and data\.augment mixup.*devices 1"):
        split.shard(0, 2)

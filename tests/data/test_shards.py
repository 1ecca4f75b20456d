"""What only tar shards have: their names, the files of a sample, and what is refused in them."""

from __future__ import annotations

import io
import tarfile

import pytest
from PIL import Image

from amc.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")
IMAGE = None  # where the bytes of an image are put


@pytest.mark.parametrize("names", ["{split}-{shard:04}.tar", "data/my.set-{split}-{shard:04}.tar"])
def test_shards_may_be_named_by_their_split(records, tmp_path, images, names):
    (tmp_path / "other").mkdir()
    folder, root = (
        records.write_folder(tmp_path / "folder", images),
        records.write_shards(tmp_path / "other", images, names=names),
    )
    records.check_same_roles(records.loaded("webdataset", root), records.loaded("imagefolder", folder))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_are_read_in_every_format(records, tmp_path, images, format):
    long = "folder/" * (12 if format == tarfile.USTAR_FORMAT else 40)
    members = [(long + name, content) for n, s in enumerate(images["train"]) for name, content in records.sample(n, *s)]
    records.write_tar(
        tmp_path / "a.tar", [*members, ("bär/0.png", images["test"][0][0]), ("bär/0.cls", b"1")], format=format
    )
    roles = records.loaded("webdataset", tmp_path)
    names = {roles.train.pictures.name(index) for index in range(81)}
    assert {f"a.tar:{long}000.png", "a.tar:bär/0.png"} <= names


def test_shards_of_webdataset_itself_are_read_as_it_reads_them(records, tmp_path, images):
    webdataset, tars = pytest.importorskip("webdataset"), pytest.importorskip("webdataset.tariterators")
    with webdataset.ShardWriter(str(tmp_path / "train-%04d.tar"), maxcount=30, verbose=0) as writer:
        for number, (content, label) in enumerate(images["train"]):
            writer.write({"__key__": f"{number:03}", "png": content, "cls": label, "json": {"caption": "a picture"}})
    theirs = []
    for shard in sorted(tmp_path.iterdir()):
        with shard.open("rb") as stream:
            theirs += tars.group_by_keys(tars.tar_file_expander([{"url": str(shard), "stream": stream}]))
    roles = records.loaded("webdataset", tmp_path)
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
def test_classes_are_found_in_a_file_or_a_field(records, tmp_path, images, label, member, column):
    suffix, text = member
    members = [
        part
        for number, (content, target) in enumerate(images["train"])
        for part in [(f"{number}.png", content), (f"{number}.{suffix}", text % target), (f"{number}.txt", b"a picture")]
    ]
    records.write_tar(tmp_path / "a.tar", [*members, ("__info__.json", b"{}"), ("._0.png", b""), ("notes.json", b"{}")])
    roles = records.loaded("webdataset", tmp_path, label_column=column)
    assert roles.train.class_names == ("0", "1")
    assert sum(map(len, (roles.train, roles.search, roles.test))) == 80


def test_one_of_several_images_is_chosen_by_its_suffix(records, tmp_path, images):
    members = [
        part
        for number, (content, target) in enumerate(images["train"])
        for part in [*records.sample(number, content, target), (f"{number:03}.mask.png", images["test"][0][0])]
    ]
    records.write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=r"two images, '000\.png' and '000\.mask\.png'.*data\.image_column"):
        records.loaded("webdataset", tmp_path)
    assert records.loaded("webdataset", tmp_path, image_column=".PNG").train.pictures.name(0) == "a.tar:000.png"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("0.png", IMAGE)],
            r"'0' of .*a\.tar has no class: the class is in 0\.cls, or in the field 'label' of 0\.json",
        ),
        ([("0.png", IMAGE), ("0.json", b"{}")], "has no class"),
        ([("0.cls", b"1")], "'0' of .* has no image"),
        ([("0.png", IMAGE), ("0.cls", b"cat")], "the class in '0.cls' must be a whole number from 0 .* is 'cat'"),
        ([("0.png", IMAGE), ("0.cls", b"1.5")], "must be a whole number"),
        ([("0.png", IMAGE), ("0.cls", b"-1")], "must be a whole number"),
        ([("0.png", IMAGE), ("0.cls", b"9" * 40)], "must be a whole number"),
        ([("0.png", IMAGE), ("0.cls", b"1" * 99)], "must have at most 64 bytes"),
        ([("0.png", IMAGE), ("0.json", b'{"label": true}')], "must be a whole number"),
        ([("0.png", IMAGE), ("0.json", b'{"label": ')], "'0.json' is no valid JSON"),
        ([("0.png", IMAGE), ("0.json", b"[" * 99999)], "'0.json' is no valid JSON"),
        ([("0.png", IMAGE), ("0.cls", b"1"), ("0.png", IMAGE)], "it holds '0.png' twice"),
        ([("0.png", IMAGE), ("0.cls", b"1"), ("0.cls", b"1")], "it holds '0.cls' twice"),
        ([("notes.txt", b"none")], "hold no image; images end in"),
    ],
)
def test_samples_that_are_not_labelled_images_are_refused(records, tmp_path, members, message):
    members = [(name, records.pixel if content is IMAGE else content) for name, content in members]
    records.write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message):
        records.loaded("webdataset", tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "'1.png' is a link, which is not followed"),
        (tarfile.LNKTYPE, "'1.png' is a link, which is not followed"),
        (tarfile.FIFOTYPE, "'1.png' is no ordinary file"),
        (tarfile.CHRTYPE, "'1.png' is no ordinary file"),
    ],
)
def test_links_and_devices_in_shards_are_refused(records, tmp_path, images, kind, message):
    records.write_tar(tmp_path / "a.tar", records.sample(0, *images["train"][0]))
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        entry = tarfile.TarInfo("1.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(DataError, match=message):
        records.loaded("webdataset", tmp_path)


def test_compressed_shards_are_refused(records, tmp_path, images):
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match=r"it is compressed, .*; decompress it"):
        records.loaded("webdataset", tmp_path)


def test_classes_beyond_those_that_are_named_or_trained_are_refused(records, tmp_path, images):
    root = records.write_shards(tmp_path, images)
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match="have a class 1, and there are 1 classes"):
        records.loaded("webdataset", root)
    (root / "classes.txt").unlink()
    records.write_tar(root / "test/000000.tar", records.sample(0, images["test"][0][0], 2))
    with pytest.raises(DataError, match="have a class 2, and there are 2 classes"):
        records.loaded("webdataset", root)

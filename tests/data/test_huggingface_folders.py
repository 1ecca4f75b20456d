"""What only Hugging Face folders have: columns, copies of Parquet files, and what is refused in them."""

from __future__ import annotations

import json

import pytest
import torch

from amc.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_parquet_files_are_read_through_a_copy_in_the_cache_of_the_user(records, tmp_path, images, own_cache):
    folder, root = records.write_folder(tmp_path / "folder", images), records.write_parquet(tmp_path / "other", images)
    before = sorted(tmp_path.rglob("*"))
    records.check_same_roles(records.loaded("huggingface", root), records.loaded("imagefolder", folder))
    assert sorted(tmp_path.rglob("*")) == before
    assert list((own_cache / "amc/huggingface").rglob("*.arrow"))
    with pytest.raises(DataError, match=r"data\.cache false allows none; leave that out"):
        records.loaded("huggingface", root, cache=False)


def test_parquet_files_that_change_are_copied_again(records, tmp_path, images):
    root = records.write_parquet(tmp_path / "data", images)
    first = records.loaded("huggingface", root)
    (root / "data/train-00000-of-00001.parquet").unlink()
    records.as_dataset(images["test"] * 4).to_parquet(root / "data/train-00000-of-00001.parquet")
    second = records.loaded("huggingface", root)
    assert len(first.train) == len(second.train)
    assert not torch.equal(first.search.images, second.search.images)


def test_a_single_data_set_is_split_and_its_columns_may_be_named(records, tmp_path, images):
    dataset = records.as_dataset(images["train"], named=False)
    dataset.save_to_disk(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"one column of type ClassLabel, and has 0; name .*'caption', 'picture', 'kind'"
    ):
        records.loaded("huggingface", tmp_path / "data")
    roles = records.loaded("huggingface", tmp_path / "data", label_column="kind", image_column="picture")
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
def test_columns_that_do_not_fit_are_refused(records, tmp_path, images, options, message):
    records.as_dataset(images["train"]).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        records.loaded("huggingface", tmp_path / "data", **options)


def test_encoded_images_without_the_type_are_read_where_their_column_is_named(records, tmp_path, images):
    datasets = pytest.importorskip("datasets")
    rows = {"raw": [content for content, _ in images["train"]], "kind": [label for _, label in images["train"]]}
    features = datasets.Features(
        {"raw": datasets.Value("binary"), "kind": datasets.ClassLabel(names=list(records.classes))}
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "data")
    assert len(records.loaded("huggingface", tmp_path / "data", image_column="raw").test) == 16


@pytest.mark.parametrize("label", [None, -1])
def test_rows_without_a_class_are_refused(records, tmp_path, images, label):
    records.as_dataset([(images["train"][0][0], label), *images["train"]]).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match="1 rows of the training split have none" if label is None else "one is -1"):
        records.loaded("huggingface", tmp_path / "data")


def test_splits_with_other_classes_are_refused(records, tmp_path, images):
    datasets = pytest.importorskip("datasets")
    other = records.as_dataset(images["test"]).cast_column("kind", datasets.ClassLabel(names=["cat", "cow"]))
    datasets.DatasetDict({"train": records.as_dataset(images["train"]), "test": other}).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match="must have the same classes; they differ in 'cow'"):
        records.loaded("huggingface", tmp_path / "data")


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/picture.png", "{folder}/secret.png"])
def test_paths_and_addresses_in_place_of_images_are_not_followed(records, tmp_path, images, path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "secret.png").write_bytes(records.pixel)
    feature = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(records.classes))})
    written = tmp_path / "data/a.parquet"
    written.parent.mkdir()
    rows = {"picture": [{"bytes": None, "path": path.format(folder=tmp_path)}] * 10, "kind": [0, 1] * 5}
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pydict(rows, schema=feature.arrow_schema), written)
    with pytest.raises(
        DataError, match=r"must be in the data set's own files, and row \d of the training split has none"
    ):
        records.loaded("huggingface", written.parent, search_images=2)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_more_rows_than_bytes_are_refused_before_they_are_copied(records, tmp_path, own_cache, suffix):
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
        records.loaded("huggingface", tmp_path, image_column="picture", label_column="kind")
    assert not list(own_cache.rglob("*.arrow"))


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (["picture", "picture", "kind"], 2, r"cannot read the training split from .*: .*picture.*; write or fetch"),
        (["picture", "caption", "kind"], 0, "must hold images; it has no rows"),
    ],
)
def test_what_is_wrong_with_parquet_files_is_said_once_and_nothing_is_logged(
    records, tmp_path, capfd, names, count, message
):
    pytest.importorskip("datasets")
    import pyarrow
    from pyarrow import parquet

    columns = [pyarrow.array([records.pixel] * count, pyarrow.binary())] * 2 + [
        pyarrow.array([0] * count, pyarrow.int64())
    ]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message) as error:
        records.loaded("huggingface", tmp_path, image_column="picture", label_column="kind")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_scripts_and_settings_beside_the_data_are_not_run(records, tmp_path, images):
    root = records.write_saved(tmp_path / "data", images)
    for folder in (root, root / "train"):
        for name in ("data.py", f"{folder.name}.py", "dataset_infos.py"):
            (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (root / "train/state.json").write_text(
        json.dumps({"_data_files": [{"filename": "/dev/zero"}], "_format_type": "x"})
    )
    (root / "train/cache-1.arrow").write_bytes(b"what map() left")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert len(records.loaded("huggingface", root).test) == 20
    assert not (tmp_path / "ran").exists()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_damaged_data_files_give_errors_of_the_project_alone(records, tmp_path, images, suffix):
    root = (records.write_saved if suffix == "arrow" else records.write_parquet)(tmp_path / "data", images)
    file = min(path for path in root.rglob(f"*.{suffix}") if "train" in str(path))
    whole = file.read_bytes()
    for length in (0, 8, 100, len(whole) // 2, len(whole) - 300):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot read the training split from .*; write or fetch its files again"):
            records.loaded("huggingface", root)


def test_without_the_package_one_line_says_what_to_install(records, tmp_path, images, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'amc-compress\[huggingface\]'"):
        records.loaded("huggingface", tmp_path)

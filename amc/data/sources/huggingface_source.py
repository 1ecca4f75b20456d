"""Folders of Arrow or Parquet files, as Hugging Face's `datasets` writes them, as splits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from amc.data.reading.cache_entries import default_cache_folder
from amc.data.reading.row_pictures import RowPictures
from amc.data.reading.shard_index import MOST_CLASSES
from amc.data.sources.picture_splits import LabelledPictures, numbered_classes, own_splits
from amc.data.sources.source_options import SourceOptions, Splits
from amc.data.sources.split_files import data_folder, split_files
from amc.errors import DataError
from amc.runtime.call import first_line

EXTRA = "pip install 'amc-compress[huggingface]'"


def load_huggingface(options: SourceOptions) -> Splits:
    """Loads what `save_to_disk` wrote, or Arrow or Parquet files in `root/train` and `root/test`, or named by split.

    Only the data files are read, not the JSON files and scripts beside them. Arrow files stay where they are; Parquet
    files, whose rows cannot be read one by one, are copied once into the user's cache folder as Arrow.

    Raises:
        DataError: If `datasets` is not installed, the folder is not given or not laid out like this, or its columns are
            not those of labelled images.
    """
    if importlib.util.find_spec("datasets") is None:
        raise DataError(f"data set huggingface needs the package datasets; install it with: {EXTRA}")
    files = split_files(data_folder(options), (".arrow", ".parquet"))
    train = _split("the training split", files[0], options)
    return own_splits(train, _split("the test split", files[1], options) if files[1] else None, options)


def _split(title: str, files: Sequence[Path], options: SourceOptions) -> LabelledPictures:
    """Reads one split.

    Raises:
        DataError: As `load_huggingface` does.
    """
    try:
        with _quiet():
            features = _features(files[0])
            image, label = _columns(features, options)
            rows = _rows(title, files, [image, label], options).with_format("arrow")
            rows.data.validate(full=True)
            labels = rows.select_columns([label])[:].column(0)
            pictures = RowPictures(title, rows.select_columns([image]))
    except DataError:
        raise
    except Exception as error:  # of datasets and pyarrow, which raise many kinds on files that are damaged or differ
        cause = error.__cause__ or error  # `datasets` says only that an error occurred, and has it from another
        raise DataError(
            f"cannot read {title} from {files[0].parent}: {first_line(cause)}; write or fetch its files again"
        ) from error
    names = getattr(features[label], "names", None)
    targets = _targets(labels, label, title, None if names is None else len(names))
    if not names:
        names = numbered_classes(targets, f"make a ClassLabel of the column {label!r}")
    return LabelledPictures.every(pictures, targets, tuple(str(name) for name in names))


def _features(file: Path) -> Any:
    """Reads which columns a file has, and what they are."""
    import datasets
    from pyarrow import parquet

    if file.suffix.lower() == ".arrow":
        return datasets.Dataset.from_file(str(file)).features
    return datasets.Features.from_arrow_schema(parquet.read_schema(file))


def _rows(title: str, files: Sequence[Path], columns: list[str], options: SourceOptions) -> Any:
    """Opens some columns of the files as one `datasets.Dataset`."""
    import datasets
    from pyarrow import parquet

    paths = [str(file) for file in files]
    if files[0].suffix.lower() == ".arrow":
        rows = datasets.concatenate_datasets(
            [datasets.Dataset.from_file(path).select_columns(columns) for path in paths]
        )
        _check_count(title, len(rows), files)
        return rows
    _check_count(title, sum(parquet.read_metadata(file).num_rows for file in files), files)
    if not options.cache:
        raise DataError(
            "Parquet files are read through a copy in the user's cache folder, and data.cache false allows none; leave "
            "that out, or write Arrow files with save_to_disk of datasets"
        )
    cache = str(default_cache_folder() / "huggingface")
    return datasets.Dataset.from_parquet(paths, cache_dir=cache, columns=columns)


def _check_count(title: str, count: int, files: Sequence[Path]) -> None:
    """Refuses more rows than bytes: encoded well, billions of empty rows are a small file.

    Raises:
        DataError: If there are more, or none.
    """
    if not count:
        raise DataError(f"{title} in {files[0].parent} must hold images; it has no rows")
    size = sum(file.stat().st_size for file in files)
    if count > size:
        raise DataError(
            f"{title} in {files[0].parent} has {count:,} rows in {size:,} bytes of files, which cannot hold as many "
            "images; write or fetch its files again"
        )


def _columns(features: Any, options: SourceOptions) -> tuple[str, str]:
    """Finds the columns of the images and of the classes: by their types, unless they are named.

    Raises:
        DataError: If they cannot be found.
    """
    import datasets

    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    image = _column("image", "Image", options.image_column, images, features)
    label = _column("label", "ClassLabel", options.label_column, labels, features)
    if image == label:
        raise DataError(f"data.image_column and data.label_column must be two columns, and both are {image!r}")
    return image, label


def _column(role: str, kind: str, named: str | None, found: list[str], features: Any) -> str:
    """Returns the column that the user names, or the only one of a type."""
    listed = ", ".join(map(repr, features)) or "none"
    if named is not None and named not in features:
        raise DataError(f"data.{role}_column must be a column of the data set, and {named!r} is none; it has {listed}")
    if named is None and len(found) != 1:
        raise DataError(
            f"the data set must have one column of type {kind}, and has {len(found)}; name the column with "
            f"data.{role}_column (it has {listed})"
        )
    return found[0] if named is None else named


def _targets(labels: Any, column: str, title: str, classes: int | None) -> torch.Tensor:
    """Returns the classes of all rows, `(N,)`, int64.

    Args:
        labels: The column, a `pyarrow.ChunkedArray`.
        column: Its name.
        title: What messages call the split.
        classes: How many classes have names; None if unknown.

    Raises:
        DataError: If one is missing, or no whole number in the range.
    """
    import pyarrow

    if not pyarrow.types.is_integer(labels.type):
        raise DataError(
            f"classes must be whole numbers, and the column {column!r} holds {labels.type}; make a ClassLabel of it "
            f"with class_encode_column({column!r}) of datasets, or name another with data.label_column"
        )
    if labels.null_count:
        raise DataError(f"every image needs a class, and {labels.null_count} rows of {title} have none; remove them")
    targets = torch.from_numpy(labels.to_numpy().astype("int64"))
    lowest, highest, most = int(targets.min()), int(targets.max()), classes or MOST_CLASSES
    if lowest < 0 or highest >= most:
        wrong = lowest if lowest < 0 else highest
        raise DataError(
            f"the classes in column {column!r} of {title} must lie in 0 to {most - 1}, and one is {wrong} (-1 often "
            "stands for a split without classes); use a split that has them, or name another column with "
            "data.label_column"
        )
    return targets


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps `datasets` from drawing progress bars into those of this project, and from logging what is raised too."""
    import datasets

    shown, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()

"""WebDataset's tar shards as splits, in memory or streamed from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from amc.data.reading.cache_entries import default_cache_folder
from amc.data.reading.shard_index import SampleParts
from amc.data.reading.shard_index_cache import index_shards_cached
from amc.data.sources.picture_splits import LabelledPictures, numbered_classes, own_splits
from amc.data.sources.source_options import SourceOptions, Splits
from amc.data.sources.split_files import data_folder, split_files
from amc.errors import DataError
from amc.utils.bounded_files import DamagedFileError, read_text
from amc.utils.progress import spanning

_NAME_FILES = ("classes.txt", "classnames.txt")
_MOST_NAME_BYTES = 1 << 24


def load_webdataset(options: SourceOptions) -> Splits:
    """Loads shards from `root/train/*.tar` and `root/test/*.tar`, or named by split, as `name-train-000000.tar` is.

    Without shards for the test or for validation every fifth image is kept for the test. The names of the classes are
    the lines of `root/classes.txt` (or `classnames.txt`), the first for class 0; without that file they are numbers.

    Raises:
        DataError: If the folder is not given or not laid out like this, or a shard is damaged.
    """
    root = data_folder(options)
    files = split_files(root, (".tar",))
    suffix = None if options.image_column is None else options.image_column.lower().lstrip(".")
    parts = SampleParts(suffix, options.label_column)
    cache = default_cache_folder() if options.cache else None
    share = len(files[0]) / sum(map(len, files))
    pictures, targets = index_shards_cached(files[0], parts, cache, spanning(options.advance, 0.0, share))
    names = _class_names(root) or numbered_classes(targets, f"name all classes in {_NAME_FILES[0]}, one a line")
    _check_classes(targets, names, files[0])
    train = LabelledPictures.every(pictures, targets, names)
    if not files[1]:
        return own_splits(train, None, options)
    pictures, targets = index_shards_cached(files[1], parts, cache, spanning(options.advance, share, 1.0))
    _check_classes(targets, names, files[1])
    return own_splits(train, LabelledPictures.every(pictures, targets, names), options)


def _class_names(root: Path) -> tuple[str, ...]:
    """Reads the names of the classes, one a line; none where there is no such file.

    Raises:
        DataError: If there are such files and the first cannot be read.
    """
    for file in (root / name for name in _NAME_FILES):
        if file.exists():
            try:
                return tuple(line.strip() for line in read_text(file, _MOST_NAME_BYTES).splitlines() if line.strip())
            except (OSError, DamagedFileError) as error:
                raise DataError(f"the names of the classes cannot be read: {error}; repair or remove {file}") from error
    return ()


def _check_classes(targets: Tensor, names: tuple[str, ...], shards: Sequence[Path]) -> None:
    """Checks that every class has a name.

    Raises:
        DataError: If one has not.
    """
    highest = int(targets.max())
    if highest >= len(names):
        raise DataError(
            f"the shards beside {shards[0]} have a class {highest}, and there are {len(names)} classes, from 0: those "
            f"of {' or '.join(_NAME_FILES)} in data.root, else those of the training shards; correct one or the "
            "other"
        )

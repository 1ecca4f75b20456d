"""Pictures in the rows of a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from amc.data.reading.decoding import image_in
from amc.data.reading.pictures import digest_of_files
from amc.errors import DataError


@dataclass(frozen=True)
class RowPictures:
    """Encoded images in a column of an Arrow table on disk.

    Attributes:
        title: What messages call the data set.
        rows: A `datasets.Dataset` of that column alone, which yields Arrow tables: it decodes and opens nothing itself.
    """

    title: str
    rows: Any

    def name(self, index: int) -> str:
        """Returns the number of the row with the data set's name."""
        return f"row {index} of {self.title}"

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """Opens an image; see `Pictures.opened`."""
        return image_in(self._content(index), self.name(index))

    @contextmanager
    def _content(self, index: int) -> Iterator[BinaryIO]:
        """Yields the bytes of an image. A path or an address in their place is not followed."""
        value = self.rows[index].column(0)[0].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(
                f"the bytes of every image must be in the data set's own files, and {self.name(index)} has none; "
                "save_to_disk and to_parquet of datasets put them there"
            )
        yield BytesIO(content)

    def digest(self, indices: Iterable[int]) -> str:
        """Identifies rows by the names and sizes of the Arrow files, and their numbers."""
        files = (Path(entry["filename"]) for entry in self.rows.cache_files)
        digest = digest_of_files(files, "data file", self.title)
        digest.update(str(list(indices)).encode())
        return digest.hexdigest()

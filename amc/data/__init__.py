"""The four roles of data: folders, data sets, loaders, splits, augmentation."""

from amc.data.adapters import DataLike, as_source, roles_from_loaders, roles_of_pair
from amc.data.image_set import BatchSource, ImageSet
from amc.data.load import DataConfig, load_data
from amc.data.splits import DataRoles, split_roles
from amc.data.streamed_images import StreamedImages

__all__ = [
    "BatchSource",
    "DataConfig",
    "DataLike",
    "DataRoles",
    "ImageSet",
    "StreamedImages",
    "as_source",
    "load_data",
    "roles_from_loaders",
    "roles_of_pair",
    "split_roles",
]

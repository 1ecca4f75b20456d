"""The states that a run's folder passes through: before every file operation, and after half of every write."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
from pathlib import Path

from amc.utils.durable_files import is_unfinished

Tree = dict[str, bytes]
"""The content of a folder's files, by their path in it."""


def tree_of(folder: Path) -> Tree:
    """Reads a folder; TensorBoard's files and the name of the lock's holder left out."""
    if not folder.is_dir():
        return {}
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = [(str(file.relative_to(folder)), file) for file in files]
    return {name: file.read_bytes() for name, file in names if not name.startswith((".lock.json", "tensorboard"))}


def restore(tree: Tree, folder: Path) -> None:
    """Makes a folder that holds just these files; none where there are no files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


class Recorder:
    """Keeps the different states of a folder, on disk, while this process works in it.

    Attributes:
        operations: File operations so far.
        writes: Those that are writes.
        states: Different states so far.
    """

    def __init__(self, library: Path, folder: Path, kept: Path) -> None:
        """Listens to a library that is preloaded.

        Args:
            library: The compiled `file_operations.c`.
            folder: The folder to watch.
            kept: Where the states are kept.
        """
        self.operations = self.writes = self.states = 0
        self._folder, self._kept, self._seen = folder, kept, set[str]()
        signature = ctypes.CFUNCTYPE(
            None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long
        )
        self._listener = signature(self._on_operation)  # lives as long as the library may call it
        ctypes.CDLL(str(library)).watch(str(folder).encode(), self._listener)

    def _on_operation(self, name: bytes, path: bytes, data: int, size: int, offset: int) -> None:
        self.operations += 1
        tree = tree_of(self._folder)
        self._keep(tree)
        if name != b"write":
            return
        self.writes += 1
        file = str(Path(path.decode()).relative_to(self._folder))
        if file in tree:
            half = ctypes.string_at(data, size // 2)
            content = tree[file].ljust(offset, b"\0")
            self._keep({**tree, file: content[:offset] + half + content[offset + len(half) :]})

    def _keep(self, tree: Tree) -> None:
        digest = hashlib.sha256()
        for name, content in sorted(tree.items()):
            if is_unfinished(name):  # deleted unread, as a test shows: what it holds makes no other state
                content = content[:1]
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        if digest.hexdigest() in self._seen:
            return
        self._seen.add(digest.hexdigest())
        restore(tree, self._kept / f"{self.states:05d}")
        (self._kept / f"{self.states:05d}").mkdir(parents=True, exist_ok=True)
        self.states += 1

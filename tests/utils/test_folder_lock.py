"""Two processes never work in one folder."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from amc.errors import RunFolderError
from amc.utils.folder_lock import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from amc.utils.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that works in a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_by_the_name_of_the_first(holder, tmp_path):
    with pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on {socket.gethostname()}; wait"):
        FolderLock(tmp_path).acquire()
    assert json.loads((tmp_path / ".lock.json").read_text())["process"] == holder.pid


def test_a_dead_holders_lock_is_taken_over(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert json.loads((tmp_path / ".lock.json").read_text())["process"] == os.getpid()
    lock.release()
    assert not (tmp_path / ".lock.json").exists()
    FolderLock(tmp_path).acquire()


@pytest.mark.parametrize("name", [".lock", "checkpoints", "tensorboard"])
def test_a_folder_whose_parts_are_links_is_refused(tmp_path, name):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(RunFolderError, match=f"{name} must lie in the folder itself, and is a link"):
        FolderLock(folder, inner=("checkpoints", "tensorboard")).acquire()
    assert not list(elsewhere.iterdir())


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(lock):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("amc.utils.folder_lock.FileLock.acquire", refuse)
    with pytest.warns(RuntimeWarning, match=r"has no locks .*let no second process work there"):
        FolderLock(tmp_path).acquire()

"""Two processes never work in one folder."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from amc.errors import RunFolderError
from amc.utils.folder_lock import FolderLock, sole_writer

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


def test_a_file_has_one_writer_at_a_time(tmp_path):
    file = tmp_path / "new" / "profile.json"
    with sole_writer(file), sole_writer(tmp_path / "new" / "other.json"):
        file.write_text("done")
        with (
            pytest.raises(RunFolderError, match=rf"profile\.json is in use by process {os.getpid()}.*another file"),
            sole_writer(file),
        ):
            pytest.fail("two write")
    with sole_writer(file):
        assert file.read_text() == "done"


def test_what_a_killed_writer_left_of_a_file_is_deleted_and_nothing_else(tmp_path):
    kept = ["p.json", "p.json.part", "p.json.7.part.txt", "other-p.json.7.part", "p.jsonl.7.part"]
    for name in [*kept, "p.json.7.part"]:
        (tmp_path / name).write_text("")
    with sole_writer(tmp_path / "p.json"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".p.json.lock"}


def test_a_file_below_another_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with (
        pytest.raises(RunFolderError, match=r"the folder of .*p\.json must be writable"),
        sole_writer(tmp_path / "taken" / "p.json"),
    ):
        pytest.fail("worked")


def test_the_longest_name_has_a_lock_too(tmp_path):
    with sole_writer(tmp_path / ("a" * 255)):
        assert [path.suffix for path in tmp_path.iterdir() if not path.name.endswith(".json")] == [".lock"]

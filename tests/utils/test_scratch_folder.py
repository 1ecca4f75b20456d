"""Folders for unfinished files: gone afterwards, and after a kill as soon as the next one is made."""

import os
import signal
import subprocess
import sys

import pytest

from amc.utils.scratch_folder import scratch_folder

WORKS = """
import sys, time
from pathlib import Path
from amc.utils.scratch_folder import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".amc-test-") as folder:
    (folder / "half").write_text("half")
    print("working", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that works in a scratch folder."""
    process = subprocess.Popen([sys.executable, "-c", WORKS, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    yield process
    process.kill()
    process.communicate()


def test_it_is_gone_afterwards(tmp_path):
    with scratch_folder(tmp_path, ".amc-test-") as folder:
        (folder / "file").write_text("text")
        assert [file.name for file in folder.iterdir()] == ["file"]
    assert not list(tmp_path.iterdir())


def test_that_of_a_killed_process_is_removed_and_that_of_a_working_one_is_not(tmp_path, other):
    with scratch_folder(tmp_path, ".amc-test-"):
        assert len(list(tmp_path.iterdir())) == 2
    (left,) = tmp_path.iterdir()
    assert (left / "files/half").read_text() == "half"
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert left.exists()
    with scratch_folder(tmp_path, ".amc-test-"):
        assert not left.exists()


def test_what_is_not_its_own_stays(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").write_text("cat")
    (tmp_path / ".amc-test-link").symlink_to("photos")
    (tmp_path / ".amc-test-new").mkdir()
    (tmp_path / ".amc-test-old").mkdir()
    os.utime(tmp_path / ".amc-test-old", (0, 0))
    with scratch_folder(tmp_path, ".amc-test-"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [".amc-test-link", ".amc-test-new", "photos"]
    assert (tmp_path / "photos/cat.png").exists()

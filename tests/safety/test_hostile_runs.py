"""A run's folder from elsewhere: it is read and written as one's own, and leads nowhere else."""

import json
import os

import pytest

from amc.errors import RunFolderError
from amc.pipeline.folder_recorder import FolderRecorder
from amc.report.curves import Curves
from amc.utils.durable_files import Appender
from amc.utils.folder_lock import FolderLock
from amc.utils.json_lines import line_of

SPECIAL = {
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "threads without end": lambda path: path.write_text(json.dumps({"device": "cpu", "threads": 10**9})),
    "no threads": lambda path: path.write_text(json.dumps({"device": "cpu", "threads": 0})),
    "a list": lambda path: path.write_text("[]"),
    "numbers without end": lambda path: path.write_text('{"device": "cpu", "threads": ' + "9" * 5000 + "}"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_an_environment_that_is_none_is_as_good_as_none(tmp_path, kind):
    SPECIAL[kind](tmp_path / "environment.json")
    assert FolderRecorder(tmp_path).environment() is None


def test_lines_are_not_added_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("")
    (tmp_path / "episodes.jsonl").symlink_to("precious")
    with pytest.raises(OSError, match=r"episodes\.jsonl"):
        Appender(tmp_path / "episodes.jsonl").add(line_of({"episode": 0}))
    assert (tmp_path / "precious").read_text() == ""


def test_curves_are_not_added_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("")
    (tmp_path / "learning.jsonl").symlink_to("precious")
    with pytest.raises(OSError, match=r"learning\.jsonl"):
        Curves(tmp_path / "learning.jsonl").append({"episode": 0})
    assert (tmp_path / "precious").read_text() == ""


def test_no_file_behind_a_link_is_locked(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(RunFolderError, match=r"\.lock must lie in the folder itself, and is a link"):
        FolderLock(tmp_path).acquire()
    assert (tmp_path / "precious").read_text() == "kept"

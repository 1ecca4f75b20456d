"""Stages as others see them: as they begin, every two seconds, and gone when they end."""

from __future__ import annotations

import io
import json

import pytest

from amc.errors import RunFolderError
from amc.utils.folder_lock import FolderLock
from amc.utils.progress_display import ProgressDisplay


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("shows", [True, False])
def test_stages_within_stages_are_told_as_they_begin_and_every_two_seconds(shows):
    clock, told = Clock(), []
    display = ProgressDisplay(io.StringIO(), live=False, shows=shows, clock=clock)
    display.tell(told.append)
    with display.stage("study", 4, "searches") as outer, display.stage("search", 10, "episodes") as inner:
        assert told == [("study",), ("study", "search")]
        clock.now += 1
        inner(0.1)
        assert len(told) == 2
        clock.now += 1
        inner(0.2, "reward 0.9")
        assert told[-1] == ("study", "search: 2 of 10 episodes, 8.0 s left, reward 0.9")
        clock.now += 2
        outer(0.25)
        assert told[-1][0] == "study: 1 of 4 searches, 12.0 s left"
    assert told[-1] == ()
    display.tell(None)
    with display.stage("report", 1):
        assert told[-1] == ()


def test_a_stage_that_fails_is_gone():
    told = []
    display = ProgressDisplay(io.StringIO(), live=False)
    display.tell(told.append)
    with pytest.raises(ValueError, match="broken"), display.stage("study"), display.stage("search"):
        raise ValueError("broken")
    assert told[-1] == ()


def test_a_lock_says_what_is_done_and_nothing_once_it_is_given_back(tmp_path):
    lock, holder = FolderLock(tmp_path), tmp_path / ".lock.json"
    lock.tell(["before"])
    assert not holder.exists()
    lock.acquire()
    lock.tell(["fine-tune: 3 of 9 steps"])
    assert json.loads(holder.read_text())["stages"] == ["fine-tune: 3 of 9 steps"]
    lock.release()
    lock.tell(["after"])
    assert not holder.exists()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def lock(folder):
    lock = FolderLock(folder)
    lock.acquire()
    yield lock
    lock.release()


def test_a_folder_that_is_gone_ends_the_work_and_is_not_made_again(lock, folder, tmp_path):
    folder.rename(tmp_path / "moved")
    with pytest.raises(RunFolderError, match=r"run was deleted, moved or emptied while it was worked in$"):
        lock.tell(["search"])
    folder.mkdir()
    with pytest.raises(RunFolderError, match="was deleted, moved or emptied"):
        lock.tell(["search"])
    assert not list(folder.iterdir())


def test_a_folder_that_another_process_has_taken_is_left_to_it(lock, folder, tmp_path):
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / ".lock.json").write_text('{"host": "desk", "process": 7}')
    with pytest.raises(RunFolderError, match="worked in, and process 7 on desk works there now"):
        lock.tell(["search"])
    lock.release()
    assert json.loads((folder / ".lock.json").read_text())["process"] == 7


def test_a_lock_file_that_is_tidied_away_ends_no_work(lock, folder):
    (folder / "config.yaml").touch()
    (folder / ".lock").unlink()
    lock.tell(["search"])
    assert json.loads((folder / ".lock.json").read_text())["stages"] == ["search"]


def test_what_ends_the_work_is_told_and_not_that_the_folder_is_gone_too(lock, folder, tmp_path):
    display = ProgressDisplay(io.StringIO(), live=False)
    display.tell(lock.tell)
    stage = display.stage("search")
    stage.__enter__()
    folder.rename(tmp_path / "moved")
    assert not stage.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

"""Stages as others see them: as they begin, every two seconds, and gone when they end."""

from __future__ import annotations

import io
import json

import pytest

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


def test_a_folder_that_is_gone_stops_no_work(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = FolderLock(folder)
    lock.acquire()
    folder.rename(tmp_path / "moved")
    lock.tell(["search"])
    lock.release()
    assert not folder.exists()

"""Files are replaced at once, lines are added whole, and both are on the disk when it is said so."""

import errno
import os
import time

import pytest

from amc.utils import durable_files
from amc.utils.durable_files import (
    Appender,
    put_in_place,
    remove_abandoned,
    remove_unfinished,
    replacing,
    write_text,
)


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that the disk was asked to confirm, and the names that it was given between."""
    events, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])

    def replace(source, target):
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    return events


def test_the_content_is_on_the_disk_before_the_name_and_then_the_name(tmp_path, synced):
    write_text(tmp_path / "figures.json", "new")
    partial = f"{tmp_path / 'figures.json'}.{os.getpid()}.part"
    assert synced == [partial, "rename", str(tmp_path)]
    assert (tmp_path / "figures.json").read_text() == "new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "figures.json", "old")

    def write():
        with replacing(tmp_path / "figures.json") as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]
    assert (tmp_path / "figures.json").read_text() == "old"


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_text(tmp_path / ("n" * 255), "text")
    assert (tmp_path / ("n" * 255)).read_text() == "text"


def test_a_finished_file_is_put_in_place(tmp_path, synced):
    (tmp_path / "made").write_text("text")
    put_in_place(tmp_path / "made", tmp_path / "put")
    assert synced == [str(tmp_path / "made"), "rename", str(tmp_path)]


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "films").mkdir()
    left = ["figures.json.123.part", "checkpoints/dense.pt.12.part"]
    kept = ["part", "checkpoints/dense.pt", "checkpoints/x.part.pt"]
    kept += ["film.part", "net.pt.100", "films/a.1.part"]  # of the user's: downloads, weights by step, other folders
    for name in left + kept:
        (tmp_path / name).write_text("")
    assert {str(file.relative_to(tmp_path)) for file in remove_unfinished(tmp_path, ["checkpoints"])} == set(left)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == set(kept)


def test_what_others_may_still_write_is_removed_when_nobody_has_for_a_day(tmp_path):
    for name, age_s in (("a.1.part", 90_000), ("b.2.part", 3_600), ("c", 90_000)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    assert remove_abandoned(tmp_path) == [tmp_path / "a.1.part"]
    assert {file.name for file in tmp_path.iterdir()} == {"b.2.part", "c"}


class Clock:
    """A disk that takes `cost_s` to confirm, and its time."""

    def __init__(self, monkeypatch, cost_s):
        self.now, self.syncs, self._cost_s = 0.0, [], cost_s
        monkeypatch.setattr(durable_files.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, descriptor):
        self.syncs.append(self.now)
        self.now += self._cost_s


@pytest.mark.parametrize(("cost_s", "expected"), [(0.0, 100), (0.001, 25), (0.1, 10)])
def test_the_disk_confirms_lines_at_once_where_that_is_cheap_and_once_a_second_at_least(
    tmp_path, monkeypatch, cost_s, expected
):
    file = tmp_path / "lines"
    file.touch()
    clock, appender = Clock(monkeypatch, cost_s), Appender(file)
    for number in range(100):
        appender.add(f"{number}\n")
        clock.now += 0.1 if cost_s != 0.001 else 0.026
    assert len(clock.syncs) == pytest.approx(expected, abs=1)
    assert max(later - sooner for sooner, later in zip(clock.syncs, clock.syncs[1:], strict=False)) < 1.3
    appender.add("last\n")
    syncs = len(clock.syncs)
    appender.finish()
    appender.finish()
    assert len(clock.syncs) - syncs <= 1
    assert file.read_text().splitlines() == [*map(str, range(100)), "last"]


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path, monkeypatch):
    file, room = tmp_path / "lines", [0]
    appender = Appender(file)
    appender.add("first\n")

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def write(self, data):
            if room.pop(0) == 0 and not room:
                room.append(1)
                return self.stream.write(data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(*words, **options):
        return Full(open(*words, **options))

    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "open", full, raising=False)
        with pytest.raises(OSError, match="No space left"):
            appender.add("second\n")
    assert file.read_text() == "first\n"
    appender.add("second\n")
    assert file.read_text() == "first\nsecond\n"


def test_a_folder_that_was_deleted_is_noticed(tmp_path):
    (tmp_path / "run").mkdir()
    appender = Appender(tmp_path / "run" / "lines")
    appender.add("first\n")
    (tmp_path / "run" / "lines").unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(FileNotFoundError, match="run/lines"):
        appender.add("second\n")
    appender.finish()

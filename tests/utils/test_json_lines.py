"""Lines of records survive damage: what is whole is kept, what is not is found, and nothing is thrown away."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import RunFolderError
from amc.utils.json_lines import Lines, line_of, read_lines

RECORDS = [{"name": "a", "value": 1.5}, {"name": "b", "value": [1, 2]}, {"name": "c", "value": None}]


def write(path, lines):
    path.write_text("".join(lines))
    return path


def test_records_come_back_without_their_checksum(tmp_path):
    lines = Lines(tmp_path / "lines", ("name",))
    for record in RECORDS:
        lines.add(record)
    assert Lines(tmp_path / "lines", ("name",)).records == RECORDS
    assert lines.add({"name": "d", "value": math.nan}) == {"name": "d", "value": None}
    assert all("crc32" in json.loads(line) for line in (tmp_path / "lines").read_text().splitlines())


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_changed_byte_goes_unnoticed(tmp_path_factory, position, change):
    file = tmp_path_factory.mktemp("damage") / "lines"
    content = bytearray("".join(map(line_of, RECORDS)).encode())
    content[position % len(content)] ^= change
    file.write_bytes(content)
    reading = read_lines(file)
    whole = [record for record in RECORDS if record in reading.records]
    assert reading.records == whole
    assert len(whole) < len(RECORDS)


def test_a_torn_last_line_goes_and_the_others_stay(tmp_path):
    file = write(tmp_path / "lines", [*map(line_of, RECORDS[:2]), line_of(RECORDS[2])[:20]])
    assert Lines(file).records == RECORDS[:2]
    assert file.read_text() == "".join(map(line_of, RECORDS[:2]))
    assert [each.name for each in tmp_path.iterdir()] == ["lines"]


def test_a_kill_while_a_torn_line_is_removed_loses_nothing(tmp_path, monkeypatch):
    file = write(tmp_path / "lines", [*map(line_of, RECORDS[:2]), line_of(RECORDS[2])[:20]])

    def kill(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.utils.durable_files.put_in_place", kill)
        with pytest.raises(KeyboardInterrupt):
            Lines(file)
    assert Lines(file).records == RECORDS[:2]


def test_damage_in_the_middle_costs_one_line_and_the_file_is_kept(tmp_path):
    damaged = [line_of(RECORDS[0]), line_of(RECORDS[1]).replace("1, 2", "1, 3"), line_of(RECORDS[2])]
    file = write(tmp_path / "lines", damaged)
    with pytest.warns(RuntimeWarning, match=r"2 of 3 lines are kept \(line 2 is damaged\).*it was is lines\.damaged$"):
        lines = Lines(file, ("name",))
    assert lines.records == [RECORDS[0], RECORDS[2]]
    assert (tmp_path / "lines.damaged").read_text() == "".join(damaged)
    lines.add(RECORDS[1])
    assert Lines(file, ("name",)).records == [RECORDS[0], RECORDS[2], RECORDS[1]]


def test_a_line_that_stands_twice_is_no_second_measurement(tmp_path):
    file = write(tmp_path / "lines", map(line_of, [*RECORDS, {**RECORDS[0], "value": 7}]))
    with pytest.warns(RuntimeWarning, match=r"3 of 4 lines are kept \(1 stands twice\)"):
        assert Lines(file, ("name",)).records == RECORDS


def test_lines_of_an_earlier_version_are_taken_as_they_are_and_sealed(tmp_path):
    file = write(tmp_path / "lines", [json.dumps(record) + "\n" for record in RECORDS])
    assert Lines(file).records == RECORDS
    assert file.read_text() == "".join(map(line_of, RECORDS))


@pytest.mark.parametrize("content", ["hello\n", "hello", "[1]\n[2]\n", "a: 1\nb: 2\n"])
def test_another_kind_of_file_is_refused_and_left_alone(tmp_path, content):
    file = write(tmp_path / "notes", [content])
    with pytest.raises(RunFolderError, match="must hold one JSON record per line, and holds none"):
        Lines(file)
    assert file.read_text() == content


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_what_a_power_cut_leaves_of_a_new_file_is_no_record(tmp_path, content):
    (tmp_path / "lines").write_bytes(content)
    assert Lines(tmp_path / "lines").records == []
    Lines(tmp_path / "lines").add(RECORDS[0])
    assert Lines(tmp_path / "lines").records == RECORDS[:1]

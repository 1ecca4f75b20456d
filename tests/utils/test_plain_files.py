"""Files are read up to a bound, as plain values, and of the types that are expected."""

import json
import math
import os
import tracemalloc

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amc.utils.bounded_files import DamagedFileError, read_bytes, read_text
from amc.utils.plain_json import as_type, parse_json, read_json
from amc.utils.plain_yaml import parse_yaml, read_yaml

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_come_back_from_json(value):
    assert parse_json(json.dumps(value)) == value


@given(PLAIN)
def test_plain_values_come_back_from_yaml(value):
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


@given(st.text(alphabet='[]{}",:&*!<>-?|#%\n 01aeE.~x', max_size=40))
def test_any_text_is_read_as_usual_or_refused(text):
    for ours, usual, failures in (
        (parse_json, json.loads, ValueError),
        (parse_yaml, yaml.safe_load, Exception),
    ):
        try:
            found = ours(text)
        except DamagedFileError:
            continue
        try:
            expected = usual(text)
        except failures:
            pytest.fail(f"{text!r} was read")
        assert found == expected or found != found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "a": 2}', "given once"),
        ('{"a": [{"b": 1, "b": 1}]}', "given once"),
        ("9" * 5000, "at most 19 digits"),
        ("NaN", "must be finite"),
        ("[-Infinity]", "must be finite"),
        ("1e999", "must be finite"),
        ("[" * 100 + "]" * 100, "no deeper than 64"),
        ("[" * 100_000, "nested so deeply|not JSON"),
        ('{"a":' * 100_000, "nested so deeply|not JSON"),
        ('["\\ud800"]', "whole characters"),
        ("", "not JSON"),
        ("{", "not JSON"),
    ],
)
def test_json_that_is_not_plain_is_refused(text, expected):
    with pytest.raises(DamagedFileError, match=expected):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: 1\na: 2", "given once"),
        ("a: {b: 1, b: 2}", "given once"),
        ("a: " + "9" * 5000, "at most 100 digits"),
        ("[" * 50 + "]" * 50, "no deeper than 32"),
        ("[" * 50_000, "no deeper than 32|not valid YAML|not plain YAML"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
        ("a: 2001-99-99", "not plain YAML"),
        ("a: !!timestamp x", "not plain YAML"),
        ("? [1, 2]\n: 3", "not valid YAML"),
        ("a: [", "not valid YAML"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(text, expected):
    with pytest.raises(DamagedFileError, match=expected):
        parse_yaml(text)


def test_no_more_is_read_than_allowed(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "large", 11) == b"x" * 11
    with pytest.raises(DamagedFileError, match="at most 10 bytes"):
        read_bytes(tmp_path / "large", 10)
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(DamagedFileError, match="text in UTF-8"):
        read_text(tmp_path / "latin", 10)


def test_no_more_memory_is_taken_than_a_file_has(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 10)
    tracemalloc.start()
    try:
        assert read_bytes(tmp_path / "small", 1 << 28) == b"x" * 10
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_pipes_and_devices_are_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with pytest.raises(OSError, match=r"not an ordinary file|directory"):
            read(tmp_path / name)
        assert not before or len(os.listdir("/proc/self/fd")) == before, "nothing is left open"


class Point(msgspec.Struct):
    """A record."""

    x: int
    y: float | None


@pytest.mark.parametrize("value", [{"x": 1}, {"x": "1", "y": 2}, {"x": True, "y": 2}, {"x": 1.5, "y": 2}, [], None])
def test_records_of_other_types_are_refused(value):
    with pytest.raises(DamagedFileError, match=r"Expected|missing"):
        as_type(value, Point)


def test_records_become_typed():
    point = as_type({"x": 1, "y": 2, "more": 3}, Point)
    assert (point.x, point.y) == (1, 2.0)
    assert math.isclose(point.y, 2)

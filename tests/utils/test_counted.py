"""Numbers with their nouns."""

import pytest

from amc.utils.counted import counted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, "round"), "1 round"),
        ((0, "round"), "0 rounds"),
        ((1, "search", "searches"), "1 search"),
        ((2000, "search", "searches"), "2,000 searches"),
    ],
)
def test_one_is_singular(arguments, words):
    assert counted(*arguments) == words

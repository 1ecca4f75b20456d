"""Places as differences: the paper's figure, and any places back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.packing.sparse_index import gaps_of, places_of
from amc.utils.bounded_files import DamagedFileError


def test_the_figure_of_the_paper():
    """Places 1, 4 and 15 in three bits: the difference of 11 takes a filler of 8 and then 3; d is stored as d - 1."""
    gaps, ends = gaps_of(np.array([1, 4, 15]), 3)
    assert gaps.tolist() == [1, 2, 7, 2]
    assert ends.tolist() == [0, 1, 3]
    assert places_of(gaps, 16).tolist() == [1, 4, 12, 15]


@given(st.sets(st.integers(0, 2000), max_size=50), st.integers(0, 8))
def test_places_come_back(places, bits):
    places = np.array(sorted(places), np.int64)
    gaps, ends = gaps_of(places, bits)
    assert places_of(gaps, 2001)[ends].tolist() == places.tolist()
    assert ((gaps >= 0) & (gaps < 1 << bits)).all()


def test_places_beyond_the_tensor_are_refused():
    with pytest.raises(DamagedFileError, match="below its length of 15"):
        places_of(np.array([1, 2, 7, 2]), 15)

"""Places of nonzero elements, as differences in few bits (Han et al. 2016, arXiv:1510.00149, section 2, Figure 2)."""

from __future__ import annotations

import numpy as np

from amc.packing.huffman import Integers
from amc.utils.bounded_files import DamagedFileError


def gaps_of(places: Integers, bits: int) -> tuple[Integers, Integers]:
    """Returns rising places as differences.

    A difference d is stored as d - 1, so that `bits` bits reach 2^bits. Where one is longer, the largest is stored
    with a zero for its value, as often as needed; the first place counts from -1.

    Args:
        places: The places, rising, from 0.
        bits: Bits of a stored difference.

    Returns:
        The stored differences, and where among them those of the places stand; the others are the fillers.
    """
    reach = 1 << bits
    steps = np.diff(places, prepend=-1) - 1
    ends = np.cumsum(steps // reach + 1) - 1
    gaps = np.full(int(ends[-1]) + 1 if len(ends) else 0, reach - 1, np.int64)
    gaps[ends] = steps % reach
    return gaps, ends


def places_of(gaps: Integers, length: int) -> Integers:
    """Returns the place that each stored difference leads to, those of fillers included.

    Args:
        gaps: The stored differences.
        length: No place is at or beyond it.

    Raises:
        DamagedFileError: If one is.
    """
    places = np.cumsum(gaps + 1) - 1
    if len(places) and int(places[-1]) >= length:
        raise DamagedFileError(f"the places of a sparse tensor must lie below its length of {length:,}")
    return places

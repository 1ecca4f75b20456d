"""Huffman codes: they decode to the same, within a bit of the entropy, and as short as any."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.packing.huffman import BLOCK, LONGEST, code_lengths, decode, encode, packed_lengths, unpacked_lengths
from amc.utils.bounded_files import DamagedFileError

counts_of = st.lists(st.integers(0, 10**6), min_size=2, max_size=60).filter(lambda counts: sum(map(bool, counts)) > 1)


def mean_length(counts, lengths):
    return float((counts * lengths.astype(float)).sum() / counts.sum())


def entropy(counts):
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def huffman_bits(counts):
    """The total of Huffman's own algorithm: the sum of all weights that are merged."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def test_lengths_by_hand():
    """Shares of 1/2, 1/4, 1/8 and 1/8 take 1, 2, 3 and 3 bits: 1.75 in the mean."""
    lengths = code_lengths(np.array([8, 4, 2, 2]))
    assert lengths.tolist() == [1, 2, 3, 3]
    assert mean_length(np.array([8, 4, 2, 2]), lengths) == 1.75


@given(counts_of)
def test_a_code_is_within_one_bit_of_the_entropy_and_its_words_fill_the_tree(counts):
    counts = np.array(counts)
    lengths = code_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    assert sum(2.0 ** -float(length) for length in lengths if length) == 1.0
    assert entropy(counts) <= mean_length(counts, lengths) + 1e-9
    assert mean_length(counts, lengths) < entropy(counts) + 1 + 1e-9


@given(st.lists(st.integers(1, 100), min_size=2, max_size=12))
def test_no_code_is_shorter(counts):
    counts = np.array(counts)
    assert int((counts * code_lengths(counts)).sum()) == huffman_bits(counts)


def test_words_are_never_longer_than_the_table():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:  # Huffman's own words would have 39 bits
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() == LONGEST
    assert sum(2.0 ** -float(length) for length in lengths) == 1.0


@pytest.mark.parametrize("count", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
@pytest.mark.parametrize("alphabet", [1, 2, 5, 257])
def test_what_is_written_is_read(count, alphabet):
    drawn = np.random.default_rng(count).geometric(0.2, count) % alphabet
    lengths = code_lengths(np.bincount(drawn, minlength=alphabet))
    bits, blocks = encode(drawn, lengths)
    assert decode(bits, blocks, lengths, count).tolist() == drawn.tolist()
    if alphabet > 1 and len(np.unique(drawn)) > 1:
        assert len(bits) == -(-int(lengths.astype(int)[drawn].sum()) // 8)


@given(st.lists(st.integers(0, 30), max_size=300))
def test_any_symbols_are_read_back(symbols):
    symbols = np.array(symbols, np.int64)
    lengths = code_lengths(np.bincount(symbols, minlength=31))
    assert unpacked_lengths(np.frombuffer(packed_lengths(lengths), np.uint8), 31).tolist() == lengths.tolist()
    assert decode(*encode(symbols, lengths), lengths, len(symbols)).tolist() == symbols.tolist()


def test_a_symbol_that_is_alone_takes_no_bits():
    lengths = code_lengths(np.array([0, 0, 9]))
    bits, blocks = encode(np.full(9, 2), lengths)
    assert len(bits) == 0
    assert decode(bits, blocks, lengths, 9).tolist() == [2] * 9


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2, 0], [15, 15, 0], [2, 2, 2]])
def test_lengths_of_no_code_are_refused(lengths):
    with pytest.raises(DamagedFileError, match="lengths of a code's words must fit"):
        decode(np.zeros(1, np.uint8), np.array([8], np.uint16), np.array(lengths, np.uint8), 3)


def test_streams_that_do_not_fit_are_refused():
    symbols = np.arange(4).repeat(5)
    lengths = code_lengths(np.bincount(symbols))
    bits, blocks = encode(symbols, lengths)
    with pytest.raises(DamagedFileError, match="as long as its blocks say"):
        decode(bits[:-1], blocks, lengths, 20)
    with pytest.raises(DamagedFileError, match="as long as its blocks say"):
        decode(bits, np.append(blocks, np.uint16(0)), lengths, 20)
    with pytest.raises(DamagedFileError, match="as many words as it should hold"):
        decode(bits, blocks, lengths, 19)
    with pytest.raises(DamagedFileError, match="must have words"):
        decode(np.zeros(0, np.uint8), np.zeros(1, np.uint16), np.zeros(4, np.uint8), 3)

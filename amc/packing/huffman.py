"""Canonical Huffman codes of bounded length, whose blocks are decoded in parallel.

A code is known by the lengths of its words: words of one length are numbers that follow each other, in the order of the
symbols, those of a longer one begin where the shorter ones end. So a file needs only the lengths, four bits per symbol.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from amc.utils.bounded_files import DamagedFileError

LONGEST = 15
"""Bits of the longest word."""
BLOCK = 4096
"""Symbols of a block; its bits fit into 16 bits."""
MOST_SYMBOLS = 1 << 9
"""Symbols of an alphabet, at most; far fewer than words of `LONGEST` bits."""

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def code_lengths(counts: Integers) -> Bytes:
    """Returns the lengths of the words of a Huffman code, none longer than `LONGEST`; 0 for symbols that do not occur.

    No code under that bound is shorter. A single symbol has the length 1, and takes no bits in `encode`.

    Args:
        counts: How often each symbol occurs.
    """
    symbols = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.uint8)
    if len(symbols) < 2:
        lengths[symbols] = 1
        return lengths
    found = _depths(counts[symbols])
    lengths[symbols] = found if found.max() <= LONGEST else _bounded_depths(counts[symbols])
    return lengths


def encode(symbols: Integers, lengths: Bytes) -> tuple[Bytes, NDArray[np.uint16]]:
    """Writes symbols by a code.

    Args:
        symbols: What to write.
        lengths: Of the code's words, by symbol.

    Returns:
        The bits, the first in the highest place of the first byte, and the number of bits of each block.
    """
    own = lengths.astype(np.int64) if np.count_nonzero(lengths) > 1 else np.zeros(len(lengths), np.int64)
    widths, words = own[symbols], _words(lengths)[symbols]
    starts = np.cumsum(widths) - widths
    bits = np.zeros(int(widths.sum()), np.uint8)
    for place in range(int(widths.max(initial=0))):
        has = widths > place
        bits[starts[has] + place] = (words[has] >> (widths[has] - 1 - place)) & 1
    blocks = np.add.reduceat(widths, np.arange(0, len(widths), BLOCK)) if len(widths) else widths
    return np.packbits(bits), blocks.astype(np.uint16)


def decode(bits: Bytes, blocks: NDArray[np.uint16], lengths: Bytes, count: int) -> Integers:
    """Reads what `encode` wrote.

    Args:
        bits: The bits.
        blocks: The number of bits of each block.
        lengths: Of the code's words, by symbol.
        count: How many symbols there are.

    Raises:
        DamagedFileError: If the lengths do not form a code, or the bits do not hold the expected number of words.
    """
    if len(blocks) != -(-count // BLOCK) or len(bits) != -(-int(blocks.sum(dtype=np.int64)) // 8):
        raise DamagedFileError("a stream of codes must be as long as its blocks say")
    known = np.flatnonzero(lengths)
    if len(known) < 2:
        if count and (len(known) == 0 or blocks.any()):
            raise DamagedFileError("a code must have words for what it writes")
        return np.full(count, known[0] if len(known) else 0, np.int64)
    table_symbols, table_lengths = _table(lengths)
    ends = np.cumsum(blocks, dtype=np.int64)
    places = ends - blocks
    whole = np.concatenate([bits, np.zeros(3, np.uint8)]).astype(np.int64)
    found = np.zeros((min(count, BLOCK), len(blocks)), np.int64)
    rest = count - (len(blocks) - 1) * BLOCK  # symbols of the last block
    for step in range(len(found)):
        at = np.minimum(places >> 3, len(bits))
        window = whole[at] << 16 | whole[at + 1] << 8 | whole[at + 2]
        window = (window >> (24 - LONGEST - (places & 7))) & ((1 << LONGEST) - 1)
        found[step] = table_symbols[window]
        moved = table_lengths[window]
        if step >= rest:
            moved[-1] = 0
        places = places + moved
    if not np.array_equal(places, ends):
        raise DamagedFileError("a stream of codes must be as many words as it should hold")
    return found.T.ravel()[:count]


def packed_lengths(lengths: Bytes) -> bytes:
    """Returns lengths of words in four bits each."""
    even = np.append(lengths, np.uint8(0)) if len(lengths) % 2 else lengths
    return bytes((even[::2] << 4 | even[1::2]).astype(np.uint8))


def unpacked_lengths(held: Bytes, count: int) -> Bytes:
    """Returns what `packed_lengths` packed."""
    return np.stack([held >> 4, held & 15], 1).reshape(-1)[:count]


def _depths(counts: Integers) -> Integers:
    """Returns the depths of the leaves of Huffman's tree; there are at least two leaves."""
    heap = [(int(count), leaf) for leaf, count in enumerate(counts)]
    heapq.heapify(heap)
    parents = np.zeros(2 * len(counts) - 1, np.int64)
    for node in range(len(counts), len(parents)):
        (first, one), (second, other) = heapq.heappop(heap), heapq.heappop(heap)
        parents[[one, other]] = node
        heapq.heappush(heap, (first + second, node))
    depths = np.zeros(len(parents), np.int64)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[: len(counts)]


def _bounded_depths(counts: Integers) -> Integers:
    """Returns the best depths of leaves among trees no deeper than `LONGEST`: package-merge (Larmore 1990)."""
    coins = [(int(counts[leaf]), np.eye(1, len(counts), leaf, dtype=np.int64)[0]) for leaf in np.argsort(counts)]
    packages: list[tuple[int, Integers]] = []
    for _ in range(LONGEST):
        pairs = zip(packages[::2], packages[1::2], strict=False)
        merged = [(first + second, one + other) for (first, one), (second, other) in pairs]
        packages = sorted([*coins, *merged], key=lambda package: package[0])
    taken: Integers = np.stack([leaves for _, leaves in packages[: 2 * len(counts) - 2]]).sum(0)
    return taken


def _words(lengths: Bytes) -> Integers:
    """Returns the words of the canonical code, by symbol."""
    words, word, before = np.zeros(len(lengths), np.int64), 0, 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda symbol: (lengths[symbol], symbol)):
        word <<= int(lengths[symbol]) - before
        words[symbol], before = word, int(lengths[symbol])
        word += 1
    return words


def _table(lengths: Bytes) -> tuple[Integers, Integers]:
    """Returns which symbol the next `LONGEST` bits begin with, and how many of them are its word.

    Raises:
        DamagedFileError: If the words do not fill the table exactly.
    """
    known = sorted(np.flatnonzero(lengths), key=lambda symbol: (lengths[symbol], symbol))
    widths = np.array([int(lengths[symbol]) for symbol in known], np.int64)
    if int((1 << (LONGEST - widths)).sum()) != 1 << LONGEST:
        raise DamagedFileError("the lengths of a code's words must fit each other")
    shares = 1 << (LONGEST - widths)
    return np.repeat(np.array(known, np.int64), shares), np.repeat(widths, shares)

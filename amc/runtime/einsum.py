"""What an `einsum` equation says."""

from __future__ import annotations


def sums_over_shared(equation: str) -> bool:
    """Returns whether an `einsum` sums over an index that several operands share, as matrix products do.

    Args:
        equation: For example `"bnc,cd->bnd"`; without an arrow, the result has the indices that occur once.
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    shared = {index for index in left if index.isalpha() and sum(index in operand for operand in operands) > 1}
    return bool(shared - set(result)) if arrow else bool(shared)

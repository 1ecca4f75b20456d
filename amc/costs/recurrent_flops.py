"""FLOPs of recurrent layers, which fvcore counts as zero. It counts cells as the products that they run.

A step multiplies every weight matrix once for every sequence, in all gates, layers and directions: the FLOPs are the
number of steps times the elements of the weight matrices. The element-wise arithmetic of the gates counts as zero, as
elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

_LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

Rule = Callable[[list[Any], list[Any]], int]


def recurrent_rules(counted: Counter[str]) -> dict[str, Rule]:
    """Returns what counts the FLOPs of each recurrent operator of a traced graph, by its name as fvcore knows it.

    Args:
        counted: Collects how often each operator was counted this way.
    """
    return {f"aten::{name}": partial(_count, counted, f"aten::{name}") for name in _LAYERS}


def _count(counted: Counter[str], name: str, inputs: list[Any], outputs: list[Any]) -> int:
    """Counts one call; `inputs` and `outputs` are nodes of a traced graph.

    The sequence `(N, T, C)` or `(T, N, C)`, of packed sequences all steps `(steps, C)`, comes first. Of the other
    operands weights alone are matrices: states have three axes.
    """
    counted[name] += 1
    matrices = [sizes for value in inputs[1:] for sizes in _sizes(value) if len(sizes) == 2]
    *steps, _ = inputs[0].type().sizes()
    return int(prod(steps) * sum(map(prod, matrices)))


def _sizes(value: Any) -> list[list[int]]:
    """Returns the shapes of the tensors that an operand is, or is a list of."""
    if value.node().kind() == "prim::ListConstruct":
        return [sizes for each in value.node().inputs() for sizes in _sizes(each)]
    sizes = value.type().sizes() if value.isCompleteTensor() else None
    return [] if sizes is None else [sizes]

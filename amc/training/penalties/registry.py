"""The names of the penalties.

One of your own is a `Term`, whose options are its fields or the arguments of its constructor:

    class Pull(Term):
        def __init__(self, strength: float = 1e-3): ...

    PENALTIES.register("pull", Pull, "pulls weights towards zero")
"""

from __future__ import annotations

from collections.abc import Callable

from amc.training.terms import Term
from amc.utils.registry import Registry

PENALTIES: Registry[Callable[..., Term]] = Registry("penalty", "amc.penalties", method="attach")
"""Every penalty's factory by name; see `amc.utils.options`."""

_HERE = "amc.training.penalties"
for _name, _target, _summary in (
    ("slimming", "slimming:BatchNormL1", "L1 on the scales of batch norms (Network Slimming)"),
    ("sss", "structure_selection:StructureSelection", "scaling factors by accelerated proximal gradient"),
    ("l1", "decay:L1Decay", "sum of the absolute weights"),
    ("l2", "decay:L2Decay", "half the sum of the squared weights"),
    ("l0", "hard_concrete:HardConcrete", "expected number of weights behind hard concrete gates on channels"),
    ("variational_dropout", "variational_dropout:VariationalDropout", "a learnt dropout rate for every weight"),
    ("autopruner", "auto_pruner:AutoPruner", "codes of 0 or 1 for channels, computed from their activations"),
):
    PENALTIES.register(_name, f"{_HERE}.{_target}", _summary)

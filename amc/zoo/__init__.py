"""Which networks can be pruned: the contracts that every one has to keep, and the table of how they fare."""

from amc.zoo.cases import Case, Cut, cuts_of, open_case
from amc.zoo.contracts import CONTRACTS, ContractError
from amc.zoo.sweep import Examination, examine

__all__ = ["CONTRACTS", "Case", "ContractError", "Cut", "Examination", "cuts_of", "examine", "open_case"]

"""Which networks can be pruned: the contracts that each must satisfy, and the table of results."""

from amc.zoo.cases import Case, Cut, cuts_of, open_case
from amc.zoo.contracts import CONTRACTS, ContractError
from amc.zoo.sweep import Examination, examine

__all__ = ["CONTRACTS", "Case", "ContractError", "Cut", "Examination", "cuts_of", "examine", "open_case"]

"""Pruning: importance criteria, elimination and refit, surgery, sequential reconstruction, masks."""

from amc.pruning.candidate import CandidateNetwork
from amc.pruning.candidate_scorer import CandidateScorer
from amc.pruning.config import PruningConfig
from amc.pruning.criteria.base import CRITERIA, FILTER_CRITERIA, WEIGHT_CRITERIA, FilterCriterion, WeightCriterion
from amc.pruning.criteria.evidence import Evidence, EvidenceOptions
from amc.pruning.filter_pruner import FilterPruner
from amc.pruning.masks import apply_masks, masks_of_zeros
from amc.pruning.plan import PrunePlan, Pruner
from amc.pruning.recovery.reconstruction import ReconstructionOptions, reconstruct
from amc.pruning.recovery.sparse_solver import SparseSolver
from amc.pruning.regression.statistics import SamplingOptions
from amc.pruning.tables import RefitTable, TableOptions, build_tables
from amc.pruning.weight_pruner import WeightPruner
from amc.pruning.weight_tables import WeightTable, WeightTableOptions, build_weight_tables

__all__ = [
    "CRITERIA",
    "FILTER_CRITERIA",
    "WEIGHT_CRITERIA",
    "CandidateNetwork",
    "CandidateScorer",
    "Evidence",
    "EvidenceOptions",
    "FilterCriterion",
    "FilterPruner",
    "PrunePlan",
    "Pruner",
    "PruningConfig",
    "ReconstructionOptions",
    "RefitTable",
    "SamplingOptions",
    "SparseSolver",
    "TableOptions",
    "WeightCriterion",
    "WeightPruner",
    "WeightTable",
    "WeightTableOptions",
    "apply_masks",
    "build_tables",
    "build_weight_tables",
    "masks_of_zeros",
    "reconstruct",
]

"""Pruning: importance criteria, elimination and refit, surgery, sequential reconstruction, masks."""

from amc.pruning.candidate import CandidateNetwork, CandidateScorer
from amc.pruning.config import PruningConfig
from amc.pruning.criteria.norms import CRITERIA
from amc.pruning.filter_pruner import FilterPruner, PrunePlan
from amc.pruning.masks import apply_masks
from amc.pruning.recovery.reconstruction import ReconstructionOptions, reconstruct
from amc.pruning.regression.statistics import SamplingOptions
from amc.pruning.tables import RefitTable, TableOptions, build_tables
from amc.pruning.weight_pruner import WeightPruner

__all__ = [
    "CRITERIA",
    "CandidateNetwork",
    "CandidateScorer",
    "FilterPruner",
    "PrunePlan",
    "PruningConfig",
    "ReconstructionOptions",
    "RefitTable",
    "SamplingOptions",
    "TableOptions",
    "WeightPruner",
    "apply_masks",
    "build_tables",
    "reconstruct",
]

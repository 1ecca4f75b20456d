"""Pruning: importance criteria, elimination and refit, surgery, sequential reconstruction, masks."""

from amc.pruning.candidate import CandidateNetwork, CandidateScorer
from amc.pruning.config import PruningConfig
from amc.pruning.criteria.base import CRITERIA, FILTER_CRITERIA, WEIGHT_CRITERIA, FilterCriterion, WeightCriterion
from amc.pruning.criteria.evidence import Evidence, EvidenceOptions
from amc.pruning.filter_pruner import FilterPruner, PrunePlan
from amc.pruning.masks import apply_masks
from amc.pruning.recovery.reconstruction import ReconstructionOptions, reconstruct
from amc.pruning.regression.statistics import SamplingOptions
from amc.pruning.tables import RefitTable, TableOptions, build_tables
from amc.pruning.weight_pruner import WeightPruner

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
    "PruningConfig",
    "ReconstructionOptions",
    "RefitTable",
    "SamplingOptions",
    "TableOptions",
    "WeightCriterion",
    "WeightPruner",
    "apply_masks",
    "build_tables",
    "reconstruct",
]

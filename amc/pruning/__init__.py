"""Pruning: importance criteria, elimination and refit, surgery, sequential reconstruction, masks."""

from amc.pruning.candidate import CandidateNetwork, CandidateScorer
from amc.pruning.filter_pruner import FilterPruner, PrunePlan
from amc.pruning.importance import CRITERIA
from amc.pruning.magnitude_pruner import WeightPruner
from amc.pruning.masks import apply_masks
from amc.pruning.reconstruction import ReconstructionOptions, reconstruct
from amc.pruning.statistics import SamplingOptions
from amc.pruning.tables import RefitTable, TableOptions, build_tables
from amc.structure.slicing import cut

__all__ = [
    "CRITERIA",
    "CandidateNetwork",
    "CandidateScorer",
    "FilterPruner",
    "PrunePlan",
    "ReconstructionOptions",
    "RefitTable",
    "SamplingOptions",
    "TableOptions",
    "WeightPruner",
    "apply_masks",
    "build_tables",
    "cut",
    "reconstruct",
]

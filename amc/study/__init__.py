"""Studies: agents under the same rules over budgets, seeds and numbers of episodes; rewards against what counts."""

"""Recovery: makes up for a cut without training."""

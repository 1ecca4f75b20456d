"""Recovery: what makes up for what was cut without a training step."""

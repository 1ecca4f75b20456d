"""Penalties: terms of the training loss that drive channels or weights to zero."""

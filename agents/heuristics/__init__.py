"""Agents that follow a rule: they work out one allocation, or measure a few, and learn nothing from it."""

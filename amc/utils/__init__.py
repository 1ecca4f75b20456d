"""Helpers for every part: registry, conversion, random state, JSON files, progress."""

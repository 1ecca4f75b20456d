"""Criteria: what ranks channels and weights."""

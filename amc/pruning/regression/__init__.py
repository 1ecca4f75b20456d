"""Least squares: statistics of layers, normal equations, elimination."""

"""The speed of the search, where its time goes, and how it compares with the reference procedure."""

from amc.bench.curve import CurvePoint, measure_curve
from amc.bench.speed import BenchConfig, measure_speed
from amc.bench.tables import curve_table, speed_table

__all__ = ["BenchConfig", "CurvePoint", "curve_table", "measure_curve", "measure_speed", "speed_table"]

"""The figures of a report; each can be written as SVG, PNG, PDF and CSV."""

from amc.report.figures.figure import FORMATS, Figure, write_figures
from amc.report.figures.palette import Palette

__all__ = ["FORMATS", "Figure", "Palette", "write_figures"]

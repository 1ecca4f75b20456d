"""Exporting the smaller network: ONNX, `torch.export` and safetensors files, checked against PyTorch."""

from amc.export.exporting import ExportReport, export_model
from amc.export.formats import FORMATS

__all__ = ["FORMATS", "ExportReport", "export_model"]

"""Taking the smaller network out: ONNX, `torch.export` and safetensors files, and how fast it runs."""

from amc.export.exporting import ExportReport, export_model
from amc.export.formats import FORMATS
from amc.export.latency import Latency, measure_latency

__all__ = ["FORMATS", "ExportReport", "Latency", "export_model", "measure_latency"]

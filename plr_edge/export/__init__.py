"""Exporting a backbone to a bundle. The only package here that imports onnx."""

from plr_edge.export.bundle_export import ExportReport, export_bundle
from plr_edge.export.split import Cut, list_cuts, split

__all__ = ["Cut", "ExportReport", "export_bundle", "list_cuts", "split"]

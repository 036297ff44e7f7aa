"""Exporting a backbone to a bundle. The only package here that imports onnx.

`adaptive` and `split` need torch alone, so this file imports neither of the others.
"""

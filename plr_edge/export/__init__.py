"""How a backbone becomes a bundle; the only room that imports onnx.

`adaptive` and `split` need torch alone, so this file imports neither of the others.
"""

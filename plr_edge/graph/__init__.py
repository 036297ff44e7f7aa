"""Networks as graphs of ONNX operators: read without onnx, divided, and run and trained by torch.

`graph` and `reading` need NumPy only. `operators` and `module` need torch.
"""

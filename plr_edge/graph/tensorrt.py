"""A static check of exported parts against the operators that releases of TensorRT read.

Sources: docs/operators.md of onnx-tensorrt, branches release/8.6-GA and 10.1-GA (commit 96e7811),
and their importers for reductions and DequantizeLinear.
Nothing is run here; TensorRT itself has the last word when it builds the engine.
"""

from __future__ import annotations

import logging

import numpy as np

from plr_edge.errors import GraphError
from plr_edge.graph.graph import Graph
from plr_edge.graph.reading import read_graph

_log = logging.getLogger(__name__)
RELEASES = ("8.6", "10")
# operators with "Y" in the table of 8.6; 10.1 has all of them, and those of _SINCE_10
_IN_8_6 = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
    Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Identity If ImageScaler InstanceNormalization
    IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg
    NonMaxSuppression NonZero Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear
    RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round ScaledTanh
    Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
    Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
""".split()
)
_SINCE_10 = frozenset({"CastLike", "Mish", "DeformConv", "Gelu", "Hardmax"})
# from opset 18 on the axes are an input, which 8.6 does not read: it reduces over all axes
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
               "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip
_INT32 = np.dtype(np.int32)


def troubles(model: bytes) -> dict[str, list[str]]:
    """Say what a release of TensorRT cannot read of a part.

    Args:
        model: the serialised part.

    Returns:
        For each of `RELEASES` what is in its way; empty if nothing is known to be.
    """
    graph = read_graph(model)
    return {release: _troubles(graph, release) for release in RELEASES}


def misread(model: bytes) -> list[str]:
    """Return the operators of a part that TensorRT 8.6 would compute wrongly, without a word.

    Args:
        model: the serialised part; one that cannot be read here is left to TensorRT.
    """
    try:
        graph = read_graph(model)
    except GraphError as error:
        _log.debug("not checked: %s", error)
        return []
    return sorted({n.op for n in graph.nodes if n.op in _REDUCTIONS and len(n.inputs) > 1})


def _troubles(graph: Graph, release: str) -> list[str]:
    found: dict[str, int] = {}

    def count(text: str) -> None:
        found[text] = found.get(text, 0) + 1

    for node in graph.nodes:
        if "." in node.op:
            count(f"{node.op} is not an operator of ONNX")
        elif node.op not in (_IN_8_6 if release == "8.6" else _IN_8_6 | _SINCE_10):
            count(f"{node.op} is not among its operators")
        elif release == "8.6" and node.op in _REDUCTIONS and len(node.inputs) > 1:
            count(f"{node.op} has its axes as an input, which it does not read")
        elif node.op == "DequantizeLinear":
            source = graph.constants.get(node.inputs[0])
            if source is not None and source.dtype == _INT32:
                count("DequantizeLinear takes int32, and only int8 is read")
            zero = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
            if zero is not None and (zero.dtype == np.uint8 or zero.any()):
                count("DequantizeLinear has a zero point; export int8 with --int8-profile s8s8")
    return [text if n == 1 else f"{text} ({n} times)" for text, n in found.items()]

"""Models of one node each, to compare what runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Case:
    """One node: what is computed comes first, then constants, where None is an input left out."""

    op: str
    shapes: list[tuple[int, ...]]
    constants: list[Any] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    n_outputs: int = 1
    positive: bool = False
    smooth: bool = True  # whether numeric gradients exist at random places
    domain: str = ""

    @property
    def name(self) -> str:
        """Name for pytest."""
        settings = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}{self.opset}({settings})".replace(" ", "")

    def inputs(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return random inputs. No two values lie near each other, nor at a corner of a ReLU."""
        found = []
        for shape in self.shapes:
            n = int(np.prod(shape))
            steps = (np.arange(n) + 0.5 - (0 if self.positive else n // 2)) * (4.0 / max(n, 1))
            values = rng.permutation(steps + (0.1 if self.positive else 0.013))
            found.append(values.reshape(shape).astype(np.float32))
        return found

    def model(self) -> bytes:
        """Return the serialised model."""
        names = [f"x{i}" for i in range(len(self.shapes))]
        given, stored = list(names), []
        for i, value in enumerate(self.constants):
            if value is not None:
                stored.append(numpy_helper.from_array(np.asarray(value), f"c.{i}.value"))
            given.append("" if value is None else f"c.{i}.value")
        outputs = [f"y{i}" for i in range(self.n_outputs)]
        node = helper.make_node(self.op, given, outputs, domain=self.domain, **self.attributes)
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
             for n, s in zip(names, self.shapes, strict=True)],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            stored,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def w(*shape: int, seed: int = 0) -> np.ndarray:
    """Return weights, none of them near zero."""
    values = np.random.default_rng([seed, *shape]).uniform(0.2, 0.8, shape)
    return (values * np.random.default_rng(seed).choice([-1, 1], shape)).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    """Return integers."""
    return np.array(values, np.int64)


def f32(*values: float) -> np.ndarray:
    """Return numbers."""
    return np.array(values, np.float32)


_MAP, _TOKENS = (2, 4, 5, 6), (2, 5, 8)
_UNARY = ("Abs", "Cos", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg",
          "Relu", "Sigmoid", "Sin", "Softplus", "Softsign", "Tanh", "Elu", "Celu", "Selu", "Mish",
          "ThresholdedRelu")  # fmt: skip
_POSITIVE = ("Log", "Reciprocal", "Sqrt")
_STEPS = ("Ceil", "Floor", "Round", "Sign")
_REDUCED = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
            "ReduceProd", "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip

ELEMENTWISE = [
    *(Case(op, [_MAP]) for op in _UNARY),
    *(Case(op, [_MAP], positive=True) for op in _POSITIVE),
    *(Case(op, [_MAP], smooth=False) for op in _STEPS),
    *(Case(op, [_MAP, _MAP]) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum")),
    *(Case(op, [_MAP], [w(4, 1, 1)]) for op in ("Add", "Sub", "Mul", "Div")),
    *(Case(op, [_TOKENS], [w(8)]) for op in ("Add", "Mul", "Div", "Max")),
    Case("Div", [_MAP, _MAP], positive=True),
    Case("Pow", [_MAP], [np.float32(2.0)]),
    Case("Pow", [_MAP], [f32(0.5)], positive=True),
    Case("Pow", [_MAP], [np.float32(3)]),
    Case("Clip", [_MAP], [np.float32(0), np.float32(6)]),
    Case("Clip", [_MAP], [np.float32(-1), np.float32(1)]),
    Case("Clip", [_MAP], [np.float32(0)]),
    Case("Clip", [_MAP], [None, np.float32(1)]),
    Case("Clip", [_MAP], [np.float32(0), np.float32(np.finfo(np.float32).max)]),
    Case("Clip", [_MAP]),
    Case("Clip", [_MAP], attributes={"min": 0.0, "max": 1.0}, opset=10),
    Case("Clip", [_MAP], attributes={"max": 0.5}, opset=6),
    Case("HardSigmoid", [_MAP], attributes={"alpha": 1 / 6, "beta": 0.5}),
    Case("HardSigmoid", [_MAP], attributes={"alpha": 0.3, "beta": 0.4}),
    Case("LeakyRelu", [_MAP], attributes={"alpha": 0.3}),
    Case("Elu", [_MAP], attributes={"alpha": 0.7}),
    Case("PRelu", [_MAP], [w(4, 1, 1)]),
    Case("PRelu", [_MAP], [w(1)]),
    Case("Gelu", [_MAP], opset=20),
    Case("Gelu", [_MAP], attributes={"approximate": "tanh"}, opset=20),
    Case("Gelu", [_MAP], domain="com.microsoft"),
    *(Case(op, [_TOKENS], attributes={"axis": a}, opset=o) for op in ("Softmax", "LogSoftmax")
      for a, o in ((-1, 18), (1, 13), (1, 11), (2, 9), (0, 18))),
    Case("Softmax", [_TOKENS], opset=11),
    *(Case(op, [_MAP], attributes={"axes": [2, 3], "keepdims": k}, opset=11)
      for op in _REDUCED for k in (0, 1)),
    *(Case(op, [_MAP], [i64(-1, 2)], {"keepdims": 0}) for op in _REDUCED),
    *(Case(op, [_MAP]) for op in ("ReduceMean", "ReduceSum", "ReduceMax")),
    Case("ReduceSum", [_MAP], [i64(1)], opset=13),
    Case("ReduceMean", [_MAP], attributes={"noop_with_empty_axes": 1}),
    Case("LpNormalization", [_TOKENS]),
    Case("LpNormalization", [_MAP], attributes={"axis": 1, "p": 1}),
    Case("ArgMax", [_TOKENS], attributes={"axis": 2, "keepdims": 0}, smooth=False),
    Case("Cast", [_TOKENS], attributes={"to": TensorProto.INT64}, smooth=False),
    Case("Cast", [_TOKENS], attributes={"to": TensorProto.FLOAT}),
    Case("Greater", [_MAP, _MAP], smooth=False),
    Case("Less", [_MAP], [np.float32(0)], smooth=False),
    Case("Equal", [_MAP, _MAP], smooth=False),
]  # fmt: skip

LAYERS = [
    Case("Conv", [_MAP], [w(3, 4, 3, 3), w(3)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    Case("Conv", [_MAP], [w(3, 4, 3, 3)], {"pads": [0, 1, 2, 1]}),
    Case("Conv", [_MAP], [w(4, 1, 3, 3), w(4)], {"group": 4, "dilations": [2, 2]}),
    Case("Conv", [_MAP], [w(4, 2, 2, 3)], {"group": 2, "auto_pad": "SAME_UPPER",
                                           "strides": [2, 2]}),
    Case("Conv", [_MAP], [w(2, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    Case("Conv", [_MAP], [w(2, 4, 3, 3)], {"auto_pad": "VALID", "strides": [2, 2]}),
    Case("Conv", [(2, 4, 9)], [w(3, 4, 3), w(3)], {"pads": [2, 0], "dilations": [2]}),
    Case("Conv", [(2, 4, 9)], [w(4, 1, 3)], {"group": 4, "pads": [1, 1], "strides": [2]}),
    Case("Conv", [(1, 2, 4, 4, 4)], [w(3, 2, 2, 2, 2)]),
    Case("ConvTranspose", [_MAP], [w(4, 3, 3, 3), w(3)], {"strides": [2, 2],
                                                          "output_padding": [1, 1]}),
    Case("ConvTranspose", [_MAP], [w(4, 2, 2, 2)], {"group": 2, "pads": [1, 0, 0, 1]}),
    Case("ConvTranspose", [(2, 4, 9)], [w(4, 3, 3)], {"pads": [1, 1], "dilations": [2]}),
    Case("Gemm", [(3, 5)], [w(4, 5), w(4)], {"transB": 1}),
    Case("Gemm", [(3, 5)], [w(5, 4), w(1, 4)]),
    Case("Gemm", [(5, 3)], [w(4, 5), w(3, 4)], {"transA": 1, "transB": 1, "alpha": 0.5,
                                                "beta": 2.0}),
    Case("Gemm", [(3, 5)], [w(5, 4)], {"alpha": 0.3}),
    Case("Gemm", [(3, 5)], [w(5, 4), w(1)]),
    Case("MatMul", [_TOKENS], [w(8, 3)]),
    Case("MatMul", [(2, 3, 4, 5), (2, 3, 5, 2)]),
    Case("MatMul", [(3, 5)], [w(5)]),
    *(Case(op, [_MAP]) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    Case("GlobalAveragePool", [(2, 4, 9)]),
    Case("LayerNormalization", [_TOKENS], [w(8), w(8)]),
    Case("LayerNormalization", [_TOKENS], [w(8)], {"epsilon": 1e-2}),
    Case("LayerNormalization", [_MAP], [w(5, 6), w(5, 6)], {"axis": 2}),
    Case("LayerNormalization", [_MAP], [w(6), w(6)], {"axis": -2}),
    Case("BatchNormalization", [_MAP], [w(4), w(4), w(4), abs(w(4))], {"epsilon": 1e-3}),
    Case("BatchNormalization", [(3, 4)], [w(4), w(4), w(4), abs(w(4))]),
    Case("InstanceNormalization", [_MAP], [w(4), w(4)]),
    Case("InstanceNormalization", [(2, 4, 9)], [w(4), w(4)], {"epsilon": 1e-2}),
    Case("GroupNormalization", [_MAP], [w(2), w(2)], {"num_groups": 2}),
    Case("GroupNormalization", [_MAP], [w(4), w(4)], {"num_groups": 2}, opset=21),
    Case("MaxPool", [_MAP], attributes={"kernel_shape": [3, 3], "strides": [2, 2],
                                        "pads": [1, 1, 1, 1]}),
    Case("MaxPool", [_MAP], attributes={"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    Case("MaxPool", [_MAP], attributes={"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    Case("MaxPool", [_MAP], attributes={"kernel_shape": [2, 3], "dilations": [2, 1]}),
    Case("MaxPool", [(2, 4, 7, 7)], attributes={"kernel_shape": [2, 2], "strides": [2, 2],
                                                "ceil_mode": 1}),
    Case("MaxPool", [(2, 4, 9)], attributes={"kernel_shape": [3], "strides": [2]}),
    Case("AveragePool", [_MAP], attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("AveragePool", [_MAP], attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                                            "count_include_pad": 1, "strides": [2, 2]}),
    Case("AveragePool", [_MAP], attributes={"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}),
    Case("AveragePool", [_MAP], attributes={"kernel_shape": [2, 2], "pads": [0, 1, 1, 0],
                                            "count_include_pad": 1}),
    Case("AveragePool", [_MAP], attributes={"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}),
    Case("AveragePool", [(2, 4, 9)], attributes={"kernel_shape": [3], "strides": [2]}),
    Case("Einsum", [(2, 3, 4), (2, 4, 5)], attributes={"equation": "bij,bjk->bik"}),
    Case("Einsum", [_TOKENS], [w(8, 3)], {"equation": "bnd,de->bne"}),
    Case("Dropout", [_MAP]),
    Case("Dropout", [_MAP], [np.float32(0.4), np.bool_(False)], opset=13),
]  # fmt: skip

SHAPING = [
    Case("Reshape", [_MAP], [i64(0, -1)]),
    Case("Reshape", [_MAP], [i64(0, 4, -1)]),
    Case("Reshape", [_MAP], [i64(-1, 30, 2)]),
    Case("Flatten", [_MAP]),
    Case("Flatten", [_MAP], attributes={"axis": 2}),
    Case("Flatten", [_MAP], attributes={"axis": -1}),
    Case("Flatten", [_MAP], attributes={"axis": 0}),
    Case("Transpose", [_MAP], attributes={"perm": [0, 2, 3, 1]}),
    Case("Transpose", [_TOKENS]),
    Case("Concat", [_TOKENS, (2, 3, 8)], attributes={"axis": 1}),
    Case("Concat", [_TOKENS], [w(2, 5, 1)], {"axis": -1}),
    Case("Split", [_TOKENS], [i64(1, 4)], {"axis": 1}, n_outputs=2),
    Case("Split", [_TOKENS], attributes={"axis": -1, "num_outputs": 4}, n_outputs=4),
    Case("Split", [_TOKENS], attributes={"axis": 1, "num_outputs": 2}, n_outputs=2),
    Case("Split", [_TOKENS], attributes={"axis": 2, "split": [3, 5]}, opset=11, n_outputs=2),
    Case("Slice", [_MAP], [i64(1, -4), i64(3, 2**63 - 1), i64(1, -1)]),
    Case("Slice", [_MAP], [i64(-1), i64(-(2**63)), i64(2), i64(-2)]),
    Case("Slice", [_MAP], [i64(0, 1), i64(2, 100), i64(2, 3), i64(1, 2)]),
    Case("Slice", [_MAP], attributes={"starts": [1], "ends": [9], "axes": [3]}, opset=9),
    Case("Gather", [_TOKENS], [np.int64(0)], {"axis": 1}),
    Case("Gather", [_TOKENS], [np.int64(-1)], {"axis": 1}),
    Case("Gather", [_TOKENS], [np.array([[0, 3], [-1, 2]])], {"axis": 2}),
    Case("GatherElements", [(2, 3)], [np.array([[0, -1], [2, 1]])], {"axis": 1}),
    Case("Pad", [_MAP], [i64(0, 0, 1, 2, 0, 0, 0, 1)]),
    Case("Pad", [_MAP], [i64(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.7)]),
    Case("Pad", [_MAP], [i64(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "reflect"}),
    Case("Pad", [_MAP], [i64(0, 1, 1, 2, 0, 0, 2, 1)], {"mode": "edge"}),
    Case("Pad", [_MAP], [i64(1, 2), None, i64(3)]),
    Case("Pad", [_MAP], [i64(0, 0, -1, 0, 0, 0, 0, -2)]),
    Case("Pad", [_MAP], attributes={"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 0.5}, opset=10),
    Case("Squeeze", [(2, 1, 3, 1)], [i64(-1)]),
    Case("Squeeze", [(2, 1, 3, 1)]),
    Case("Squeeze", [(2, 1, 3, 1)], attributes={"axes": [1, 3]}, opset=11),
    Case("Unsqueeze", [_TOKENS], [i64(0, -1)]),
    Case("Unsqueeze", [_TOKENS], attributes={"axes": [1, 2]}, opset=11),
    Case("Shape", [_MAP], smooth=False),
    Case("Shape", [_MAP], attributes={"start": 1, "end": -1}, smooth=False),
    Case("Size", [_MAP], smooth=False),
    Case("Expand", [(2, 1, 8)], [i64(2, 5, 1)]),
    Case("Tile", [_TOKENS], [i64(1, 2, 1)]),
    Case("DepthToSpace", [(2, 8, 3, 2)], attributes={"blocksize": 2}),
    Case("DepthToSpace", [(2, 8, 3, 2)], attributes={"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", [(2, 3, 4, 6)], attributes={"blocksize": 2}),
    Case("Trilu", [(2, 4, 5)]),
    Case("Trilu", [(2, 4, 5)], [np.int64(-1)], {"upper": 0}),
]  # fmt: skip

_SCALES, _SIZES = f32(1, 1, 2, 1.5), i64(2, 4, 7, 3)
RESIZING = [
    *(Case("Resize", [_MAP], [None, _SCALES], {"mode": m, "coordinate_transformation_mode": c})
      for m in ("nearest", "linear")
      for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")),
    *(Case("Resize", [_MAP], [None, None, _SIZES], {"mode": m,
                                                    "coordinate_transformation_mode": c})
      for m in ("nearest", "linear") for c in ("half_pixel", "asymmetric", "align_corners")),
    *(Case("Resize", [_MAP], [None, _SCALES], {"mode": "nearest", "nearest_mode": n,
                                               "coordinate_transformation_mode": "asymmetric"})
      for n in ("floor", "ceil", "round_prefer_ceil")),
    Case("Resize", [_MAP], [f32(), f32(1, 1, 2, 2)], {"mode": "nearest"}, opset=11),
    Case("Resize", [_MAP], [f32(1, 1, 2, 2)], {"mode": "nearest"}, opset=10),
    Case("Upsample", [_MAP], [f32(1, 1, 2, 3)], {"mode": "nearest"}, opset=9),
]  # fmt: skip

CASES = [*ELEMENTWISE, *LAYERS, *SHAPING, *RESIZING]

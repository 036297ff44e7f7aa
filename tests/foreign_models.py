"""ONNX models as other makers write them: old opsets, Constant nodes, channels last, odd types."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32


def _values(*shape):
    random = np.random.default_rng(len(shape) * 100 + sum(shape))
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


class Maker:
    """Collects nodes and weights; weights are initializers, or Constant nodes as of Paddle."""

    def __init__(self, constants=False, half=False):
        self.nodes, self.tensors = [], []
        self.constants, self.half = constants, half

    def weight(self, name, array):
        if self.half and array.dtype == np.float32:
            array = array.astype(np.float16)
        tensor = numpy_helper.from_array(array, name)
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.tensors.append(tensor)
        return name

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x, name, c_in, c_out, stride=2, **more):
        weight = self.weight(f"{name}_w", _values(c_out, c_in, 3, 3))
        return self.add("Conv", [x, weight], name, kernel_shape=[3, 3], strides=[stride] * 2,
                        **(more or {"pads": [1, 1, 1, 1]}))  # fmt: skip

    def norm(self, x, name, c):
        statistics = [
            self.weight(f"{name}_{part}", np.abs(_values(c)) + np.float32(0.5))
            for part in ("scale", "shift", "mean", "var")
        ]
        return self.add("BatchNormalization", [x, *statistics], name, epsilon=1e-3)


def model(
    maker, output, width, *, shape=("batch", 3, SIZE, SIZE), opset=11, kind=TensorProto.FLOAT
):
    graph = helper.make_graph(
        maker.nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, kind, (shape[0], width))], maker.tensors,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 6
    return made


def plain(maker, x="x", head=True):
    """Three convolutions with their norms, two of them added, a linear layer and Softmax."""
    a = maker.add("Relu", [maker.norm(maker.conv(x, "c1", 3, 8), "n1", 8)], "r1")
    b = maker.add("Relu", [maker.norm(maker.conv(a, "c2", 8, 16), "n2", 16)], "r2")
    c = maker.norm(maker.conv(b, "c3", 16, 16, stride=1), "n3", 16)
    d = maker.add("Relu", [maker.add("Add", [c, b], "sum")], "r3")
    if not head:
        return d
    pooled = maker.add("GlobalAveragePool", [d], "pool")
    flat = maker.add("Reshape", [pooled, maker.weight("to", np.array([-1, 16], np.int64))], "flat")
    product = maker.add("MatMul", [flat, maker.weight("fc_w", _values(16, 5))], "product")
    logits = maker.add("Add", [product, maker.weight("fc_b", _values(5))], "logits")
    return maker.add("Softmax", [logits], "answer", axis=1)


def paddle():
    """Opset 11 with its weights in Constant nodes."""
    maker = Maker(constants=True)
    return model(maker, plain(maker), 5, opset=11)


def fixed_batch():
    """A batch of one that is written into the shapes."""
    maker = Maker()
    plain(maker)
    to = next(tensor for tensor in maker.tensors if tensor.name == "to")
    to.CopyFrom(numpy_helper.from_array(np.array([1, 16], np.int64), "to"))
    return model(maker, "answer", 5, shape=(1, 3, SIZE, SIZE), opset=13)


def keras():
    """Channels last at the input, padding by name, and a mean over the places, as of tf2onnx."""
    maker = Maker()
    x = maker.add("Transpose", ["x"], "nchw", perm=[0, 3, 1, 2])
    c = maker.conv(x, "c1", 3, 8, auto_pad="SAME_UPPER")
    a = maker.add("Relu", [maker.norm(c, "n1", 8)], "r1")
    c = maker.conv(a, "/c2-1/conv", 8, 16, auto_pad="SAME_UPPER")
    b = maker.add("Relu", [maker.norm(c, "n2", 16)], "r2")
    mean = maker.add("ReduceMean", [b], "mean", axes=[2, 3], keepdims=0)
    weight = maker.weight("dense/kernel", _values(16, 5))
    product = maker.add("MatMul", [mean, weight], "dense/MatMul")
    answer = maker.add("Add", [product, maker.weight("dense/bias", _values(5))], "dense/BiasAdd")
    return model(maker, answer, 5, shape=("n", SIZE, SIZE, 3), opset=13)


def half():
    maker = Maker(half=True)
    return model(maker, plain(maker), 5, opset=13, kind=TensorProto.FLOAT16)


def free_size():
    maker = Maker()
    return model(maker, plain(maker), 5, shape=("b", 3, "h", "w"), opset=17)


def detector():
    """A network that ends in a narrow map of answers."""
    maker = Maker()
    d = plain(maker, head=False)
    wide = maker.conv(d, "c4", 16, 64, stride=1)
    answer = maker.conv(maker.add("Relu", [wide], "r4"), "c5", 64, 1, stride=1)
    made = model(maker, maker.add("Sigmoid", [answer], "map"), 1, opset=12)
    made.graph.output[0].type.tensor_type.shape.ClearField("dim")
    return made


def shapes_of_the_batch():
    """Shapes that are computed while the network runs, and a class token that is repeated."""
    maker = Maker()
    d = plain(maker, head=False)
    whole = maker.add("Shape", [d], "whole")
    batch = maker.add("Gather", [whole, maker.weight("zero", np.zeros(1, np.int64))], "n", axis=0)
    rest = maker.weight("rest", np.array([16, 64], np.int64))
    to = maker.add("Concat", [batch, rest], "to_tokens", axis=0)
    tokens = maker.add("Transpose", [maker.add("Reshape", [d, to], "flat3")], "tokens",
                       perm=[0, 2, 1])  # fmt: skip
    one = maker.weight("one", np.array([1, 16], np.int64))
    rows = maker.add("Concat", [batch, one], "rows", axis=0)
    token = maker.add("Expand", [maker.weight("token", _values(1, 1, 16)), rows], "token_rows")
    joined = maker.add("Concat", [token, tokens], "joined", axis=1)
    mixed = maker.add("MatMul", [joined, maker.weight("mix", _values(16, 16))], "mixed")
    first = maker.add("Gather", [mixed, maker.weight("index", np.array(0, np.int64))], "first",
                      axis=1)  # fmt: skip
    weight = maker.weight("fc_w", _values(5, 16))
    answer = maker.add(
        "Gemm", [first, weight, maker.weight("fc_b", _values(5))], "answer", transB=1
    )
    return model(maker, answer, 5, opset=14)


def quantised():
    maker = Maker()
    scale, zero = (
        maker.weight("s", np.array(0.1, np.float32)),
        maker.weight("z", np.array(0, np.uint8)),
    )
    q = maker.add("QuantizeLinear", ["x", scale, zero], "q")
    d = maker.add("DequantizeLinear", [q, scale, zero], "dq")
    return model(maker, plain(maker, d), 5, opset=13)


def branching():
    maker = Maker()
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "t", [],
                              [helper.make_tensor_value_info("y", 1, None)])  # fmt: skip
    yes = maker.weight("yes", np.array(True))
    maker.add("If", [yes], "either", then_branch=inner, else_branch=inner)
    return model(maker, plain(maker, "either"), 5, opset=13)


def foreign_domain():
    maker = Maker()
    made = model(maker, plain(maker), 5, opset=13)
    made.graph.node[1].domain = "my.company"
    made.opset_import.append(helper.make_opsetid("my.company", 1))
    return made


def two_inputs():
    maker = Maker()
    made = model(maker, plain(maker), 5, opset=13)
    made.graph.input.append(helper.make_tensor_value_info("y", 1, (1, 2)))
    return made


def training_mode():
    maker = Maker()
    made = model(maker, plain(maker), 5, opset=15)
    norm = next(node for node in made.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(helper.make_attribute("training_mode", 1))
    return made


def saved(made, path, external=False):
    if external:
        onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        onnx.save(made, path)
    return path

"""Reading ONNX models without onnx: what is read, what is refused, and what damage does."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from plr_edge.errors import GraphError
from plr_edge.graph.module import GraphModule
from plr_edge.graph.reading import read_graph
from tests.graph.operator_cases import CASES, Case, w

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "bundle" / "adaptive.onnx"


def model_of(nodes, constants=(), **more) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(constants),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **more)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nodes_attributes_and_constants_are_those_that_onnx_reads(case: Case):
    data = case.model()
    ours, theirs = read_graph(data), onnx.load_from_string(data).graph
    (node,), (want,) = ours.nodes, theirs.node
    assert node.inputs == tuple(want.input) and node.outputs == tuple(want.output)
    assert node.op == (f"{want.domain}.{want.op_type}" if want.domain else want.op_type)
    for attribute in want.attribute:
        value = helper.get_attribute_value(attribute)
        value = value.decode() if isinstance(value, bytes) else value
        assert node.attributes[attribute.name] == value
    for tensor in theirs.initializer:
        array = numpy_helper.to_array(tensor)
        got = ours.constants[tensor.name]
        assert got.dtype == array.dtype and np.array_equal(got, array)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "int64",
     "uint32", "uint64", "bool"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3)])
def test_arrays_of_every_type(dtype, raw, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) - 2).astype(dtype)
    tensor = numpy_helper.from_array(array, "c")
    if not raw:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = helper.make_tensor("c", kind, shape, array.reshape(-1).tolist())
    data = model_of([helper.make_node("Identity", ["x"], ["y"])], [tensor]).SerializeToString()
    got = read_graph(data).constants["c"]
    assert got.dtype == array.dtype and got.shape == shape and np.array_equal(got, array)


def test_an_initializer_that_is_also_an_input_is_a_constant():
    model = model_of(
        [helper.make_node("Mul", ["x", "c"], ["y"])], [numpy_helper.from_array(w(4), "c")]
    )
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [4]))
    assert read_graph(model.SerializeToString()).inputs == ("x",)


def _loop():
    body = helper.make_graph([], "b", [], [])
    return model_of([helper.make_node("Loop", ["x", "", "x"], ["y"], body=body)])


def _functions():
    model = model_of([helper.make_node("F", ["x"], ["y"], domain="own")])
    model.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                             [helper.make_opsetid("", 17)]))  # fmt: skip
    return model


def _external():
    tensor = numpy_helper.from_array(w(4), "c")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model_of([helper.make_node("Mul", ["x", "c"], ["y"])], [tensor])


def _text():
    tensor = helper.make_tensor("c", TensorProto.STRING, [1], [b"a"])
    return model_of([helper.make_node("Mul", ["x", "c"], ["y"])], [tensor])


def _short():
    tensor = numpy_helper.from_array(w(4), "c")
    tensor.dims[0] = 5
    return model_of([helper.make_node("Mul", ["x", "c"], ["y"])], [tensor])


def _huge():
    tensor = numpy_helper.from_array(w(4), "c")
    del tensor.dims[:]
    tensor.dims.extend([1 << 40, 1 << 40])
    return model_of([helper.make_node("Mul", ["x", "c"], ["y"])], [tensor])


REFUSED = {
    "a graph inside a node": (_loop, "graph"),
    "functions": (_functions, "functions"),
    "data in another file": (_external, "another file"),
    "text": (_text, "text"),
    "too few values": (_short, "4 values instead of 5"),
    "a giant tensor": (_huge, "limit"),
    "a value that nothing makes": (
        lambda: model_of([helper.make_node("Relu", ["z"], ["y"])]), "before anything"),
    "a value that is made twice": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y"])] * 2), "twice"),
    "no output": (lambda: model_of([helper.make_node("Relu", ["x"], ["z"])]), "nothing makes"),
    "a constant twice": (
        lambda: model_of([], [numpy_helper.from_array(w(4), "y")] * 2), "given twice"),
    "an empty file": (lambda: onnx.ModelProto(), "0 graphs"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_graph_cannot_say_is_refused(what):
    make, said = REFUSED[what]
    with pytest.raises(GraphError, match=said) as caught:
        read_graph(make().SerializeToString())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return damaged bytes: changed, cut out, doubled, cut off, or with a long number inside."""
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, n = int(rng.integers(0, len(damaged) + 1)), int(rng.integers(1, 40))
        kind = int(rng.integers(0, 6))
        if kind <= 1:
            for place in range(at, min(at + 1 + 3 * kind, len(damaged))):
                damaged[place] = int(rng.integers(0, 256))
        elif kind == 2:
            del damaged[at : at + n]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + n]
        elif kind == 4:
            damaged[at:at] = b"\xff" * int(rng.integers(1, 9)) + b"\x7f"
        else:
            damaged = damaged[: max(at, 1)]
    return bytes(damaged)


def test_ten_thousand_damaged_models_are_refused_in_one_line_or_read():
    rng = np.random.default_rng(0)
    models = [GOLDEN.read_bytes(), *(case.model() for case in CASES)]
    n_read = n_built = 0
    tracemalloc.start()
    for at in range(10_000):
        data = mutated(models[at % len(models) if at % 2 else 0], rng)
        try:
            graph = read_graph(data)
            n_read += 1
            GraphModule(graph)
            n_built += 1
        except GraphError as error:
            assert "\n" not in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 500 < n_built < n_read < 9_500  # both ends are tried
    assert peak < 50e6


def test_reading_needs_neither_onnx_nor_torch():
    code = (
        "import sys; sys.modules['onnx'] = sys.modules['torch'] = None\n"
        "from plr_edge.graph.reading import read_graph\n"
        f"print(read_graph(open({str(GOLDEN)!r}, 'rb').read()).inputs)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "latent" in done.stdout, done.stderr

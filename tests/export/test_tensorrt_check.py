"""What TensorRT reads, checked without it: means, int8 biases, unknown operators."""

import json
from types import SimpleNamespace

import foreign_models
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper
from own_networks import is_one_line

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.engines import plan_build
from plr_edge.errors import EngineError
from plr_edge.graph.tensorrt import troubles


def export(kind, folder, *more):
    return CliRunner().invoke(
        cli, ["export", "--backbone", f"small_networks:{kind}", "--input-shape", "3,64,64",
              "--range", "-1..1", "-o", str(folder), "--check", "tensorrt", *more]
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["mobile", "dense", "residual"])
def test_a_mean_over_a_map_is_a_pool_and_every_release_reads_it(kind, tmp_path):
    result = export(kind, tmp_path / "b", "--static-feature")
    assert result.exit_code == 0, result.output
    assert "TensorRT 8.6: all operators are known" in result.output
    graph = onnx.load_from_string(open_bundle(tmp_path / "b").read("frozen.onnx")).graph
    ops = {node.op_type for node in graph.node}
    assert "ReduceMean" not in ops and "GlobalAveragePool" in ops


def test_a_mean_over_other_axes_is_named_and_8_6_refuses_it(tmp_path):
    result = export("channels_last", tmp_path / "b", "--static-feature", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["tensorrt"]
    assert found["8.6"] == ["ReduceMean has its axes as an input, which it does not read"]
    assert found["10"] == []
    model = open_bundle(tmp_path / "b").read("frozen.onnx")
    with pytest.raises(EngineError, match="ReduceMean of this part over all axes"):
        plan_build._parse(SimpleNamespace(__version__="8.6.1"), None, None, model)


def test_int8_for_tensorrt_holds_no_int32_bias(tmp_path):
    result = export("mobile", tmp_path / "b", "--precision", "int8", "--int8-profile", "s8s8")
    assert result.exit_code == 0, result.output
    graph = onnx.load_from_string(open_bundle(tmp_path / "b").read("frozen.onnx")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    read = [n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"]
    assert read and all(kinds.get(name) != onnx.TensorProto.INT32 for name in read)
    assert "TensorRT 10: all operators are known" in result.output


def test_what_no_release_reads_is_refused_and_not_written(tmp_path):
    result = export("mobile", tmp_path / "b", "--precision", "int8", "--int8-profile", "u8s8")
    is_one_line(result, "zero point; export int8 with --int8-profile s8s8")
    assert not (tmp_path / "b").exists()
    maker = foreign_models.Maker()
    made = foreign_models.model(maker, maker.add("Det", ["x"], "y"), 1, opset=18)
    made.graph.node.append(helper.make_node("Inverse", ["x"], ["z"], domain="com.microsoft"))
    assert troubles(made.SerializeToString())["10"] == [
        "Det is not among its operators", "com.microsoft.Inverse is not an operator of ONNX"
    ]  # fmt: skip

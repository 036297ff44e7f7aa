"""ONNX files of other makers come in as they are, or are refused by the name of what they hold."""

import foreign_models
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from own_networks import adapted, images, is_one_line, photos

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.engines.onnx_engine import OnnxEngine

SHAPE = f"3,{foreign_models.SIZE},{foreign_models.SIZE}"
FORMS = {  # name of the value that its classifier takes
    "paddle": "flat", "fixed_batch": "flat", "keras": "mean", "half": "flat", "free_size": "flat",
    "shapes_of_the_batch": "first", "detector": "r4",
}  # fmt: skip


def export(path, *more):
    arguments = ["export", "--backbone", path, "--range", "0..255", "-o", path.parent / "b", *more]
    return CliRunner().invoke(cli, list(map(str, arguments)))


def answer_of(file, x, value):
    """Run a file in ONNX Runtime alone, up to a value."""
    import onnx

    model = onnx.load(file)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    source = session.get_inputs()[0]
    x = x.transpose(0, 2, 3, 1) if source.shape[-1] == 3 else x
    x = x.astype(np.float16 if "float16" in source.type else np.float32)
    got = np.concatenate([session.run([value], {"x": one[None]})[0] for one in x])
    return got.astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_comes_in_and_returns_what_it_returned(form, tmp_path, caplog):
    file = foreign_models.saved(getattr(foreign_models, form)(), tmp_path / "net.onnx")
    result = export(file, *(["--input-shape", SHAPE] if form == "free_size" else []))
    assert result.exit_code == 0, result.output
    assert "is left out" in result.output
    bundle = open_bundle(tmp_path / "b")
    x = bundle.preprocessing(images(16))
    want = answer_of(file, x, FORMS[form])
    want = want.mean((2, 3)) if want.ndim == 4 else want
    tolerance = 2e-2 if form == "half" else 1e-3
    for n in (1, 3, 16):
        latents = OnnxEngine(bundle.read("frozen.onnx")).run(x[:n])[0]
        got = OnnxEngine(bundle.read("adaptive.onnx")).run(latents)[0]
        assert np.abs(got - want[:n]).max() <= tolerance * np.abs(want).max()
    if form == "half":
        assert "float16 weights" in caplog.text


@pytest.mark.parametrize("form", ["paddle", "keras", "shapes_of_the_batch"])
def test_it_learns_on_the_board_and_answers(form, tmp_path, monkeypatch):
    file = foreign_models.saved(getattr(foreign_models, form)(), tmp_path / "net.onnx")
    assert export(file).exit_code == 0
    file.unlink()  # the board has the bundle alone
    monkeypatch.chdir(tmp_path)
    report = adapted(photos(tmp_path / "photos"))
    assert report["n_taught"] == 36 and sum(report["steps_per_level"]) > 0
    result = CliRunner().invoke(cli, ["predict", "b", "demo", "--state", "s", "--split", "test"])
    assert result.exit_code == 0, result.output


def test_data_in_another_file_come_along_and_are_missed_by_name(tmp_path):
    file = foreign_models.saved(foreign_models.paddle(), tmp_path / "net.onnx")
    inside = export(file)
    assert inside.exit_code == 0, inside.output
    expected = open_bundle(tmp_path / "b").read("adaptive.onnx")
    made = foreign_models.Maker()
    model = foreign_models.model(made, foreign_models.plain(made), 5, opset=13)
    foreign_models.saved(model, file, external=True)
    result = export(file, "--force")
    assert result.exit_code == 0, result.output
    assert len(open_bundle(tmp_path / "b").read("adaptive.onnx")) == len(expected)
    (tmp_path / "weights.bin").unlink()
    is_one_line(export(file, "--force"), "weights.bin")


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("quantised", "is quantised"),
        ("branching", "holds control flow"),
        ("foreign_domain", "'my.company'"),
        ("two_inputs", "has 2 inputs ('x', 'y')"),
        ("training_mode", "in training mode"),
        ("free_size", "leaves the size of its input free"),
    ],
)
def test_what_cannot_come_in_is_refused_by_its_name(form, says, tmp_path):
    file = foreign_models.saved(getattr(foreign_models, form)(), tmp_path / "net.onnx")
    is_one_line(export(file), says)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is not an ONNX model"), (b"not a model", "is not an ONNX model"), (None, "No such")],
)
def test_a_file_that_is_no_model_is_one_line(content, says, tmp_path):
    if content is not None:
        (tmp_path / "net.onnx").write_bytes(content)
    is_one_line(export(tmp_path / "net.onnx"), says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--input-shape", "3,48,32"], "takes inputs of shape (3, 32, 32)"),
        (["--input-shape", "3,32"], "takes inputs of shape"),
        (["--weights", "w.pth"], "--weights is not for an .onnx file"),
        (["--layout", "nhwc"], "input shape is (32, 3, 32)"),
        (["--feature", "nothing"], "no value or module 'nothing'"),
    ],
)
def test_an_option_that_does_not_fit_a_file_is_one_line(options, says, tmp_path):
    file = foreign_models.saved(foreign_models.paddle(), tmp_path / "net.onnx")
    result = export(file, *options)
    assert any(part in result.output for part in says.split("|")), result.output
    is_one_line(result, "")


def test_a_damaged_file_is_a_clear_line_or_a_right_bundle(tmp_path):
    random = np.random.default_rng(3)
    data = bytearray(foreign_models.fixed_batch().SerializeToString())
    for _ in range(40):
        broken = bytearray(data)
        for at in random.integers(0, len(data), 3):
            broken[at] = random.integers(256)
        (tmp_path / "net.onnx").write_bytes(broken)
        result = CliRunner().invoke(
            cli, ["export", "--backbone", str(tmp_path / "net.onnx"), "--list-cuts"]
        )
        assert result.exit_code == 0 or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code in (0, 2)

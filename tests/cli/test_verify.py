"""`verify` compares a quantised bundle with the float network, and not with itself."""

import json

import pytest

from plr_edge.backbones import load_backbone
from plr_edge.bundle.reading import open_bundle
from plr_edge.engines.verify import verify_engine
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.float_part import float_part
from plr_edge.export.split import list_cuts

SIZE = 96


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The same network in int8 and in fp32, and in fp32 with another cut."""
    folder = tmp_path_factory.mktemp("verify")
    for name, cut, precision in (
        ("int8", "block14", "int8"), ("fp32", "block14", "fp32"), ("other", "block12", "fp32"),
    ):  # fmt: skip
        backbone = load_backbone("mobilenet_v2", input_size=SIZE)
        export_bundle(backbone, cut, folder / name, precision=precision)
    return folder


def verify(plr_edge, *arguments):
    return plr_edge("verify", *map(str, arguments))


def test_int8_is_compared_with_the_float_network(exported, plr_edge):
    done = verify(plr_edge, exported / "int8", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["cosine"] > 0.99999 and facts["max_abs"] == 0  # ONNX Runtime with itself
    by_float = facts["float"]
    assert by_float["passed"] and 0.95 < by_float["cosine"] < 0.9999 and by_float["max_abs"] > 0.1


def test_the_float_bundle_says_the_same_as_pytorch(exported, plr_edge):
    by_torch = json.loads(verify(plr_edge, exported / "int8", "--json").stdout)["float"]
    given = verify(plr_edge, exported / "int8", "--float", exported / "fp32", "--json")
    by_bundle = json.loads(given.stdout)["float"]
    assert by_bundle["cosine"] == pytest.approx(by_torch["cosine"], abs=1e-4)


@pytest.mark.parametrize(("other", "words"), [("other", "cut differs"), ("int8", "is int8")])
def test_another_network_is_refused(exported, plr_edge, other, words):
    done = verify(plr_edge, exported / "int8", "--float", exported / other)
    assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_network_that_was_quantised_badly_does_not_pass(exported, demo_frames):
    """The frozen part of another input: what it returns has little to do with the float network."""
    bundle, images = open_bundle(exported / "int8"), [f.image for f in demo_frames[:16]]
    right = float_part(bundle)
    good = verify_engine(bundle, images, "onnx", (), right)
    bad = verify_engine(bundle, images, "onnx", (), lambda x: right(x[:, ::-1].copy()))
    assert good["passed"] and not bad["passed"] and bad["float"]["cosine"] < 0.95


def test_where_the_weights_are_not_here_nothing_is_compared_with_itself(plr_edge, tmp_path):
    backbone = load_backbone("mobilenet_v1_0.25", input_size=SIZE, seed=3)  # random weights
    cut = list_cuts(backbone)[-3].name
    export_bundle(backbone, cut, tmp_path / "b", precision="int8")
    done = verify(plr_edge, tmp_path / "b")
    assert done.exit_code == 2 and "compared with itself" in done.stderr
    assert "--float" in done.stderr and "other weights" in done.stderr

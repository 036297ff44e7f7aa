import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import Backbone, SpatialMean
from plr_edge.bundle.manifest import manifest_digest
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.bundle.reading import open_bundle
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BundleError, CutError
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.split import default_cut, levels_of, list_cuts, split


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def small(*extra) -> Backbone:
    """A network with BatchNorm and a branch, small enough to export in a second or two."""
    torch.manual_seed(0)
    blocks = OrderedDict(
        a=nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        b=nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        **dict(extra),
        c=nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), SpatialMean()),
    )
    preprocessing = Preprocessing(size=32, mean=(127.5,) * 3, std=(127.5,) * 3)
    return Backbone(
        name="small", blocks=nn.Sequential(blocks), preprocessing=preprocessing, taps=(("a", 3),)
    )


def test_a_bundle_is_opset_18_ir_10_with_a_dynamic_batch_and_nothing_of_this_machine(tmp_path):
    bundle, report = export_bundle(small(), "c", tmp_path / "b")
    assert report.latent_cosine > 0.99999
    for name in ("frozen.onnx", "adaptive.onnx"):
        model = onnx.load(tmp_path / "b" / name)
        assert model.ir_version == 10
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
        assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
        data = (tmp_path / "b" / name).read_bytes()
        for trace in (b"site-packages", b"/home", b"plr_edge/", b".py", b"Traceback"):
            assert trace not in data
    assert OnnxEngine(bundle.read("adaptive.onnx")).run(
        np.zeros((5, *bundle.latent_shape), np.float32)
    )[0].shape == (5, 16)


@pytest.mark.slow
def test_two_exports_in_two_processes_are_equal_byte_by_byte(tmp_path):
    digests = []
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, "-m", "plr_edge", "export", "--backbone", "resnet20_cifar",
             "-o", str(tmp_path / name)],
            check=True, capture_output=True, cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": (name == "one" and "1") or "2"},
        )  # fmt: skip
        files = sorted((tmp_path / name).iterdir())
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]


def test_the_template_bears_the_names_of_the_state_dict_and_takes_other_weights(tmp_path):
    backbone = small()
    bundle, _ = export_bundle(backbone, "b", tmp_path / "b")
    rng = np.random.default_rng(0)
    slots = bundle.manifest["adaptive_slots"]
    weights = {n: rng.standard_normal(shape).astype(np.float32) for n, (_, shape) in slots.items()}
    spliced = bundle.splice(weights)
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(spliced).graph.initializer
    }
    for name, array in weights.items():
        np.testing.assert_array_equal(stored[name], array)
    from plr_edge.backbones.base import fold_batch_norm

    adaptive = fold_batch_norm(backbone.blocks)[1:]
    adaptive.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    x = rng.standard_normal((4, *bundle.latent_shape)).astype(np.float32)
    with torch.no_grad():
        expected = adaptive(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(OnnxEngine(spliced).run(x)[0], expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(BundleError, match="do not fit"):
        bundle.splice({})


def test_a_network_that_does_not_match_its_export_is_not_written(tmp_path):
    with pytest.raises(BundleError, match=r"do not match|cannot export"):
        export_bundle(small(("noise", Noise())), "c", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_replaced_only_when_asked(tmp_path):
    export_bundle(small(), "c", tmp_path / "b")
    with pytest.raises(BundleError, match="--force"):
        export_bundle(small(), "c", tmp_path / "b")
    export_bundle(small(), "b", tmp_path / "b", force=True)
    assert open_bundle(tmp_path / "b").manifest["cut"] == "b"
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match="not a bundle"):
        export_bundle(small(), "b", tmp_path / "mine", force=True)


def test_cuts_say_what_they_cost():
    backbone = small()
    cuts = {cut.name: cut for cut in list_cuts(backbone)}
    assert list(cuts) == ["b", "c", "classifier"]
    macs_a, macs_b, macs_c = 16 * 16 * 8 * 27, 8 * 8 * 16 * 72, 8 * 8 * 16 * 144
    total = macs_a + macs_b + macs_c
    assert cuts["b"].latent_shape == (8, 16, 16)
    assert cuts["b"].latent_bytes == 4 * 8 * 16 * 16
    assert cuts["b"].frozen_share == pytest.approx(macs_a / total)
    assert cuts["c"].train_macs == 3 * macs_c
    assert cuts["b"].saved_bytes > cuts["c"].saved_bytes > cuts["classifier"].saved_bytes == 0
    assert [level.name for level in levels_of(backbone, "c")] == ["c", "classifier"]


@pytest.mark.parametrize(
    ("cut", "says"),
    [("b.0", "'b' and 'c'"), ("c.1", "'c' and 'classifier'"), ("a", "earliest"), ("zz", "b, c")],
)
def test_an_illegal_cut_names_the_nearest_legal_ones(cut, says):
    with pytest.raises(CutError, match=says):
        split(small(), cut)


def test_the_classifier_alone_can_be_the_adaptive_part(tmp_path):
    bundle, _ = export_bundle(small(), "classifier", tmp_path / "b")
    assert bundle.latent_shape == (16,)
    assert [level.name for level in bundle.levels] == ["classifier"]


def test_the_default_cut_of_mobilenet_v2_has_the_smallest_latent():
    backbone = load_backbone("mobilenet_v2")
    assert default_cut(backbone) == "block14"
    conv = [cut for cut in list_cuts(backbone) if len(cut.latent_shape) == 3]
    assert min(cut.latent_bytes for cut in conv) == 4 * 160 * 4 * 4


def test_a_manifest_that_is_not_whole_is_refused(tmp_path):
    export_bundle(small(), "c", tmp_path / "b")
    file = tmp_path / "b" / "manifest.json"
    manifest = json.loads(file.read_text())
    for damage in ({"levels": 3}, {"schema": 99}, {"files": {}}, {"preprocessing": {"size": -1}}):
        forged = {**manifest, **damage}
        file.write_text(json.dumps({**forged, "sha256": manifest_digest(forged)}))
        with pytest.raises(Exception, match=r"export|size|sha256|schema"):
            open_bundle(tmp_path / "b")
    file.write_text(json.dumps({**manifest, "cut": "d"}))
    with pytest.raises(BundleError, match="its own sha256"):
        open_bundle(tmp_path / "b")
    file.write_text("{")
    with pytest.raises(BundleError, match="export the bundle again"):
        open_bundle(tmp_path / "b")


def test_a_static_feature_is_what_the_network_as_exported_returns(tmp_path):
    plain, _ = export_bundle(small(), "c", tmp_path / "plain")
    wide, _ = export_bundle(small(), "c", tmp_path / "wide", static_feature=True)
    assert wide.taps_width == plain.taps_width + wide.feature_width
    image = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    latent, taps = OnnxEngine(wide.read("frozen.onnx")).run(image)
    feature = OnnxEngine(wide.read("adaptive.onnx")).run(latent)[0]
    np.testing.assert_allclose(taps[:, plain.taps_width :], feature, atol=1e-5)
    np.testing.assert_allclose(
        taps[:, : plain.taps_width], OnnxEngine(plain.read("frozen.onnx")).run(image)[1], atol=1e-6
    )
    more = wide.manifest["frozen_macs"] - plain.manifest["frozen_macs"]
    assert more == sum(level.macs for level in plain.levels[:-1])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_is_in_the_graph_and_edges_stay_float32(precision, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(24)]
    plain, _ = export_bundle(small(), "c", tmp_path / "plain", images=images[:8])
    bundle, report = export_bundle(
        small(), "c", tmp_path / "b", precision=precision, images=images[:8],
        calibration=images[8:],
    )  # fmt: skip
    assert bundle.precision.startswith(precision)
    assert 0.95 < report.latent_cosine <= report.mean_cosine <= 1.0 + 1e-9
    model = onnx.load_from_string(bundle.read("frozen.onnx"))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert model.ir_version == 10
    kinds = [node.op_type for node in model.graph.node]
    if precision == "fp16":
        assert kinds.count("Cast") >= 2
    else:
        assert kinds.count("QuantizeLinear") > 0
    x = bundle.preprocessing(images[:3])
    ours, theirs = (OnnxEngine(b.read("frozen.onnx")).run(x)[0] for b in (bundle, plain))
    assert ours.dtype == np.float32
    assert not np.array_equal(ours, theirs)
    assert bundle.frozen_sha256 != plain.frozen_sha256


def test_a_variant_that_is_too_far_off_is_not_written(tmp_path, monkeypatch):
    from plr_edge.export import precision

    strict = precision.ParityLimits(1.0, 0.9999999, 0.0)
    monkeypatch.setitem(precision.PARITY_LIMITS, "int8", strict)
    with pytest.raises(BundleError, match=r"cosine is 0.*--calibrate"):
        export_bundle(small(), "c", tmp_path / "b", precision="int8")
    assert not (tmp_path / "b").exists()


def test_latents_of_two_precisions_never_mix_in_a_state(tmp_path):
    from plr_edge.errors import StateError
    from plr_edge.runtime.perception import check_state_fits

    plain, _ = export_bundle(small(), "c", tmp_path / "plain")
    half, _ = export_bundle(small(), "c", tmp_path / "half", precision="fp16")
    facts = {"frozen_sha256": plain.frozen_sha256, "bundle": plain.name}
    check_state_fits(plain, facts, tmp_path)
    with pytest.raises(StateError, match="fp16"):
        check_state_fits(half, facts, tmp_path)

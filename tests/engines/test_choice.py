import json

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.engines.choice import make_frozen_engine
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import ConfigError, EngineError


def test_an_engine_that_is_not_there_is_named(bundle_path):
    bundle = open_bundle(bundle_path)
    with pytest.raises(ConfigError, match="onnx, tensorrt"):
        make_frozen_engine(bundle, "coral")
    with pytest.raises(ConfigError, match="cpu, cuda, tensorrt"):
        make_frozen_engine(bundle, "onnx", ["npu"])
    with pytest.raises(ConfigError, match="leave --providers out"):
        make_frozen_engine(bundle, "tensorrt", ["cuda"])


@pytest.mark.parametrize("n", [1, 4, 10])
def test_a_batch_in_slices_gives_what_it_gives_at_once(bundle_path, n):
    bundle = open_bundle(bundle_path)
    size = bundle.preprocessing.size
    x = np.random.default_rng(n).standard_normal((n, 3, size, size)).astype(np.float32)
    expected = OnnxEngine(bundle.read("frozen.onnx")).run(x)
    for got, whole in zip(make_frozen_engine(bundle).run(x), expected, strict=True):
        np.testing.assert_allclose(got, whole, atol=1e-5)


def test_a_provider_that_is_not_built_in_is_refused_instead_of_left_out(bundle_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match="no provider cuda, only cpu"):
        make_frozen_engine(open_bundle(bundle_path), "onnx", ["cuda", "cpu"])


def test_verify_passes_an_engine_that_agrees_and_fails_one_that_does_not(
    plr_edge, bundle_path, monkeypatch
):
    from plr_edge.engines import verify

    done = plr_edge("verify", str(bundle_path), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["cosine"] > 0.9999
    monkeypatch.setattr(verify, "MIN_COSINE", 1.1)
    assert plr_edge("verify", str(bundle_path)).exit_code == 1
    assert plr_edge("verify", str(bundle_path), "--stream", "/nowhere").exit_code == 2

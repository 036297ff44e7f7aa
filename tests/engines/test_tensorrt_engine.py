"""TensorRTEngine on the fakes, beside OnnxEngine."""

import gc
import json
import sys
import threading
import time

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.engines import cuda as cuda_module
from plr_edge.engines import cuda_base
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.plan_build import BuildJob, build
from plr_edge.engines.tensorrt_engine import PlanRefusedError, TensorRTEngine
from plr_edge.errors import EngineError

MAX_BATCH = 5
OUTPUTS = ("latent", "taps")


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


@pytest.fixture
def onnx(bundle):
    return OnnxEngine(bundle.read("frozen.onnx"))


@pytest.fixture
def make_plan(bundle, tmp_path):
    def made(precision="fp32", **changed):
        job = BuildJob(
            onnx=str(bundle.path / "frozen.onnx"),
            onnx_sha256=bundle.frozen_sha256,
            plan=str(tmp_path / "plan"),
            timing_cache=str(tmp_path / "timings"),
            precision=precision,
            max_batch=MAX_BATCH,
            workspace_bytes=1 << 20,
            tactic_dram_bytes=None,
            optimization_level=3,
        )
        build(BuildJob(**{**json.loads(job.to_json()), **changed}))
        return (tmp_path / "plan").read_bytes()

    return made


def frames(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, 96, 96)).astype(np.float32)


def same(ours, reference):
    assert len(ours) == len(reference)
    for a, b in zip(ours, reference, strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_torch", [False, True])
def test_every_version_answers_as_onnx_runtime_does(fake, onnx, make_plan, with_torch):
    if with_torch:
        fake.torch()
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    assert engine.max_batch == MAX_BATCH and engine.scratch_bytes == 12345
    for n in (1, 1, 1, MAX_BATCH, MAX_BATCH, 2, 1, 1):
        x = frames(n, seed=n)
        same(engine.run(x), onnx.run(x))


def test_outputs_come_in_the_order_of_the_model_not_of_the_plan(fake10, onnx, make_plan):
    plan, x = make_plan(), frames(2)
    named = TensorRTEngine(plan, outputs=OUTPUTS).run(x)
    as_in_the_plan = TensorRTEngine(plan).run(x)
    same(named, onnx.run(x))
    same(as_in_the_plan[::-1], named)


@pytest.mark.parametrize("n", [1, MAX_BATCH, MAX_BATCH + 1, 2 * MAX_BATCH, 13])
def test_a_batch_larger_than_the_plan_is_run_in_pieces(fake10, onnx, make_plan, n):
    x = frames(n)
    same(TensorRTEngine(make_plan(), outputs=OUTPUTS).run(x), onnx.run(x))


def test_arrays_that_are_not_contiguous_or_not_writable_are_taken(fake10, onnx, make_plan):
    fake10.torch()
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    x = frames(4)[::2]
    same(engine.run(x), onnx.run(np.ascontiguousarray(x)))
    x = frames(2)
    x.setflags(write=False)
    same(engine.run(x), onnx.run(x))


@pytest.mark.parametrize("with_torch", [False, True])
def test_a_graph_is_captured_after_a_warm_up_and_again_when_the_batch_changes(
    fake10, onnx, make_plan, with_torch
):
    if with_torch:
        fake10.torch()
    engine, counts = TensorRTEngine(make_plan(), outputs=OUTPUTS), fake10.device.counts
    seen = []
    for n in (1, 1, 1, 2, 2, 2, 1, 1):
        before = dict(counts)
        same(engine.run(frames(n, seed=len(seen))), onnx.run(frames(n, seed=len(seen))))
        seen.append(tuple(counts[k] - before[k] for k in ("enqueued", "captured", "replayed")))
    warm_up, capture, replay = (1, 0, 0), (1, 1, 1), (0, 0, 1)
    assert seen == [warm_up, capture, replay] * 2 + [warm_up, capture]


@pytest.mark.parametrize("with_torch", [False, True])
def test_a_network_that_cannot_be_captured_is_enqueued(fake10, onnx, make_plan, with_torch, caplog):
    if with_torch:
        fake10.torch().fail.add("graph")
    else:
        fake10.fault("capture")
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    for i in range(4):
        same(engine.run(frames(1, seed=i)), onnx.run(frames(1, seed=i)))
    assert [r.levelname for r in caplog.records].count("WARNING") == 1
    assert "no CUDA graph" in caplog.text


@pytest.mark.parametrize("with_torch", [False, True])
def test_the_stream_is_its_own_and_everything_is_given_back(fake10, make_plan, with_torch):
    if with_torch:
        fake10.torch()
    gc.collect()
    blocks, streams = set(fake10.device.blocks), set(fake10.device.streams)
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    assert engine._cuda.stream != 0 and engine._cuda.stream in fake10.device.streams
    engine.run(frames(1)), engine.run(frames(1))
    assert len(set(fake10.device.blocks) - blocks) == 3  # one for each tensor, reserved once
    del engine
    gc.collect()
    assert set(fake10.device.blocks) == blocks
    assert with_torch or set(fake10.device.streams) == streams


def test_threads_take_turns(fake10, onnx, make_plan):
    engine, results = TensorRTEngine(make_plan(), outputs=OUTPUTS), {}
    synchronize = engine._cuda.synchronize

    def late():
        time.sleep(0.005)  # another thread would now change the shape of what is queued
        synchronize()

    engine._cuda.synchronize = late

    def work(n):
        for _ in range(5):
            results[n] = engine.run(frames(n, seed=n))

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in (1, 2, 3):
        same(results[n], onnx.run(frames(n, seed=n)))


def test_an_engine_answers_again_after_a_run_that_failed(fake10, onnx, make_plan):
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    fake10.fault("execute")
    with pytest.raises(EngineError, match=r"failed to run a batch \(enqueue failed\)"):
        engine.run(frames(1))
    fake10.fault()
    same(engine.run(frames(1)), onnx.run(frames(1)))


@pytest.mark.parametrize("shape", [(0, 3, 96, 96), (1, 3, 64, 64), (3, 96, 96)])
def test_a_batch_of_another_shape_is_refused(fake10, make_plan, shape):
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    with pytest.raises(EngineError, match=r"it takes \(B, 3, 96, 96\)"):
        engine.run(np.zeros(shape, np.float32))


def test_a_damaged_plan_is_refused(fake10, make_plan):
    for plan in (b"", make_plan()[10:]):
        with pytest.raises(PlanRefusedError, match="not compatible"):
            TensorRTEngine(plan)


def test_a_plan_of_another_version_is_refused(fakes, make_plan):
    fakes("10.3.0")
    plan = make_plan()
    fakes("11.4.0.106")
    with pytest.raises(PlanRefusedError, match="not compatible"):
        TensorRTEngine(plan)


def test_a_plan_with_other_outputs_is_refused(fake10, make_plan):
    with pytest.raises(PlanRefusedError, match="'logits'"):
        TensorRTEngine(make_plan(), outputs=["logits"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no-gpu", "finds no GPU"),
        ("no-context", "--max-batch"),
        ("half", "return float32"),
        ("infer", r"lacks the shapes of \['image'\]"),
        ("address", "refuses the address of 'image'"),
        ("shape", r"refuses an input of shape \(5, 3, 96, 96\) \(shape outside of the profile\)"),
    ],
)
def test_what_tensorrt_refuses_is_said(fake, make_plan, fault, words):
    plan = make_plan()
    fake.fault(fault)
    with pytest.raises(EngineError, match=words):
        TensorRTEngine(plan, outputs=OUTPUTS)


@pytest.mark.parametrize(
    "call", ["cudaStreamCreateWithFlags", "cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize"]
)
def test_a_cuda_call_that_fails_is_named(fake10, make_plan, call):
    plan = make_plan()
    fake10.cuda_fails(call)
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation"):
        TensorRTEngine(plan, outputs=OUTPUTS).run(frames(1))


@pytest.mark.parametrize(
    "call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_a_capture_that_cuda_refuses_costs_no_answer(fake10, onnx, make_plan, call):
    engine = TensorRTEngine(make_plan(), outputs=OUTPUTS)
    engine.run(frames(1))
    fake10.cuda_fails(call)
    same(engine.run(frames(1, seed=1)), onnx.run(frames(1, seed=1)))


def test_torch_that_has_no_memory_left_is_an_engine_error(fake10, make_plan):
    fake10.torch().fail.add("empty")
    with pytest.raises(EngineError, match="out of memory"):
        TensorRTEngine(make_plan(), outputs=OUTPUTS)


def test_torch_is_used_only_where_it_is_loaded_and_has_a_gpu(fake10, monkeypatch):
    from plr_edge.engines.cuda_python import PythonCuda
    from plr_edge.engines.cuda_torch import TorchCuda

    monkeypatch.setitem(sys.modules, "torch", None)
    assert isinstance(cuda_module.open_cuda(), PythonCuda)
    torch = fake10.torch()
    assert isinstance(cuda_module.open_cuda(), TorchCuda)
    assert cuda_module.describe_device() == cuda_base.Device(
        "NVIDIA H200", "9.0", 140 << 30, 100 << 30, False
    )
    torch.fail.add("is_available")
    assert isinstance(cuda_module.open_cuda(), PythonCuda)


def test_free_memory_of_a_board_is_what_the_kernel_calls_available(fake10, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(cuda_base, "available_bytes", lambda: 777)
    fake10.gpu("Orin,8.7,7900000000,1")
    fake10.cuda_fails("cudaMemGetInfo")  # it is not asked: that would cost a context
    assert cuda_module.describe_device().free_bytes == 777
    fake10.cuda_fails("")
    fake10.gpu("NVIDIA A2,8.6,16000000000,0")
    assert cuda_module.describe_device() == cuda_base.Device(
        "NVIDIA A2", "8.6", 16_000_000_000, 8_000_000_000, False
    )
    fake10.torch().fail.add("board")
    assert cuda_module.describe_device().free_bytes == 777


def test_without_cuda_python_and_torch_the_error_says_what_to_install(
    fake10, make_plan, monkeypatch
):
    plan = make_plan()
    for name in ("torch", "cuda.bindings.runtime", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"cuda-bindings==12\.\*.*--engine onnx"):
        TensorRTEngine(plan)


def test_without_tensorrt_the_error_says_where_it_comes_from(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"not installed.*JetPack.*--engine onnx"):
        TensorRTEngine(b"")


def test_a_tensorrt_whose_libraries_are_missing_is_not_called_uninstalled(fake10):
    fake10.fault("unloadable")
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer"):
        TensorRTEngine(b"")


@pytest.mark.parametrize("version", ["8.5.2", "7.1.3"])
def test_a_tensorrt_that_is_too_old_is_refused(fakes, version):
    fakes(version)
    with pytest.raises(EngineError, match=f"{version}; 8.6 or newer"):
        TensorRTEngine(b"")

"""Plans: what is built, when it is built again, what is said, and what becomes of a failure."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.engines import cuda_base, plan_build, plan_cache
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.plan_cache import load_tensorrt_engine, open_plan
from plr_edge.errors import BundleError, EngineError

FREE = 4 << 30


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


@pytest.fixture(autouse=True)
def _this_board(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(cuda_base, "available_bytes", lambda: FREE)


@pytest.fixture
def in_process(monkeypatch):
    """Build here: the same function, without the second that a child takes to start."""
    monkeypatch.setattr(plan_cache, "build_in_child", plan_build.build)


def how_it_was_built(plan):
    return json.loads(plan.data.split(b"\n")[1])


def test_a_plan_is_built_in_a_child_and_found_again(fake, bundle):
    engine = load_tensorrt_engine(bundle)
    x = np.random.default_rng(0).standard_normal((3, 3, 96, 96)).astype(np.float32)
    expected = OnnxEngine(bundle.read("frozen.onnx")).run(x)
    for ours, reference in zip(engine.run(x), expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-4)
    plan = open_plan(bundle)
    assert plan.reason is None and plan.metadata["tensorrt"] == fake.version
    assert plan.metadata["outputs"] == ["latent", "taps"]
    assert hashlib.sha256(plan.path.read_bytes()).hexdigest() == plan.metadata["plan_sha256"]
    assert {file.suffix for file in plan.path.parent.iterdir()} == {
        ".plan", ".json", ".lock", ".cache",
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_version_is_told_of_precision_in_its_own_way(fake, bundle, in_process, precision):
    variant = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": precision})
    built = how_it_was_built(open_plan(variant))
    if fake.major == 8:
        assert built["network_flags"] == 1 << 0  # EXPLICIT_BATCH
        assert built["flags"] == {"fp32": [], "fp16": ["FP16"], "int8": ["INT8"]}[precision]
    else:
        assert built["network_flags"] == {10: 1 << 1, 11: 0}[fake.major]  # STRONGLY_TYPED
        assert built["flags"] == []


def test_an_int8_part_with_unsigned_activations_is_refused(fake10, bundle, in_process):
    def variant(profile):
        facts = {"precision": "int8", "int8_profile": profile}
        return dataclasses.replace(bundle, manifest={**bundle.manifest, **facts})

    with pytest.raises(EngineError, match="--int8-profile s8s8"):
        open_plan(variant("u8s8"))
    assert open_plan(variant("s8s8")).metadata["precision"] == "int8"


def test_the_profile_goes_from_one_frame_to_the_largest_batch(fake10, bundle, in_process):
    built = how_it_was_built(open_plan(bundle))
    assert built["input"] == "image"
    assert built["profile"] == [[1, 3, 96, 96], [1, 3, 96, 96], [16, 3, 96, 96]]
    built = how_it_was_built(open_plan(bundle, max_batch=7, optimization_level=1))
    assert built["profile"][2] == [7, 3, 96, 96] and built["level"] == 1


@pytest.mark.parametrize(
    ("gpu", "asked", "workspace", "dram"),
    [
        ("Orin,8.7,7900000000,1", None, FREE // 4, FREE // 2),
        ("Orin,8.7,7900000000,1", 100 << 20, 100 << 20, FREE // 2),
        ("Orin,8.7,7900000000,1", 3 << 30, FREE // 4, FREE // 2),  # more than a quarter
        ("Orin,8.7,64000000000,1", None, FREE // 4, None),
        ("NVIDIA A2,8.6,6000000000,0", None, 6_000_000_000 // 8, None),
    ],
)
def test_memory_of_a_build_is_bounded(fake, bundle, in_process, gpu, asked, workspace, dram):
    fake.gpu(gpu)
    plan = open_plan(bundle, workspace_bytes=asked)
    expected = {"WORKSPACE": workspace} | ({"TACTIC_DRAM": dram} if dram else {})
    assert how_it_was_built(plan)["pools"] == expected
    assert plan.metadata["workspace_used_bytes"] == workspace


def jetson(tmp_path, revision):
    (tmp_path / "etc").mkdir(exist_ok=True)
    text = f"# R36 (release), REVISION: {revision}, GCID: 1, BOARD: generic\n"
    (tmp_path / "etc" / "nv_tegra_release").write_text(text)
    return tmp_path


def test_a_plan_is_built_again_only_where_something_differs_and_the_reason_names_it(
    fake10, bundle, in_process, tmp_path, caplog
):
    root = jetson(tmp_path, "4.3")

    def reason(changed=bundle, **options):
        said = open_plan(changed, root=root, **options).reason
        assert said is None or said in caplog.text
        assert open_plan(changed, root=root, **options).reason is None  # and not a third time
        return said

    assert reason() == "there is no plan for this frozen part yet"
    assert reason(workspace_bytes=5) == "workspace_bytes was None, now 5"
    assert reason(max_batch=4) == "max_batch was 16, now 4"
    assert reason(optimization_level=0) == "optimization_level was 3, now 0"
    assert reason() is None  # what is not asked for stays
    fake10.become("10.13.3.9")
    assert reason() == "tensorrt was '10.3.0', now '10.13.3.9'"
    fake10.gpu("Thor,11.0,128000000000,1")
    said = "gpu was 'Orin', now 'Thor'; compute_capability was '8.7', now '11.0'"
    assert reason() == said
    jetson(tmp_path, "5.0")
    said = "l4t was 'R36 (release), REVISION: 4.3', now 'R36 (release), REVISION: 5.0'"
    assert reason() == said
    half = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": "fp16"})
    assert reason(half) == "precision was 'fp32', now 'fp16'"
    facts = open_plan(half, root=root).metadata
    settings = ("max_batch", "workspace_bytes", "optimization_level")
    assert [facts[name] for name in settings] == [4, 5, 0]  # through all of this
    assert open_plan(half, root=root, why="--force was given").reason == "--force was given"


def test_no_jetson_has_no_l4t_release(fake10, bundle, in_process, tmp_path):
    assert open_plan(bundle, root=tmp_path).metadata["l4t"] is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("something else")
    assert open_plan(bundle, root=tmp_path).metadata["l4t"] is None


def test_another_builder_version_builds_again(fake10, bundle, in_process, monkeypatch):
    open_plan(bundle)
    monkeypatch.setattr(plan_cache, "_BUILDER_VERSION", 99)
    assert open_plan(bundle).reason.endswith("now 99")


def test_a_plan_of_another_model_is_never_taken(fake10, bundle, in_process):
    plan = open_plan(bundle)
    facts = {**plan.metadata, "onnx_sha256": "0" * 64}
    plan.path.with_suffix(".json").write_text(json.dumps(facts))
    assert open_plan(bundle).reason.startswith("onnx_sha256 was '000")


def damages(plan):
    sidecar = plan.path.with_suffix(".json")
    data = bytearray(plan.data)
    data[-1] ^= 1
    yield "sha256 differs", lambda: plan.path.write_bytes(data)
    yield "sha256 differs", lambda: plan.path.write_bytes(plan.data[:-1])
    yield "cannot be read", plan.path.unlink
    yield "metadata is corrupt", lambda: sidecar.write_bytes(sidecar.read_bytes()[:-9])
    yield "metadata is corrupt", lambda: sidecar.write_text("[]")
    yield "metadata is corrupt", lambda: sidecar.write_text("[" * 100_000)
    yield "metadata is corrupt", lambda: sidecar.write_text("{}")
    yield "no plan", sidecar.unlink


def test_damaged_plans_and_sidecars_are_built_anew(fake10, bundle, in_process):
    n = len(list(damages(open_plan(bundle))))
    for i in range(n):
        words, damage = list(damages(open_plan(bundle)))[i]
        damage()
        plan = open_plan(bundle)
        assert words in plan.reason
        assert open_plan(bundle).reason is None


def test_power_that_fails_between_plan_and_sidecar_leaves_nothing_that_is_trusted(
    fake10, bundle, in_process, monkeypatch
):
    open_plan(bundle)

    def dies(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plan_cache, "replace_file", dies)
        with pytest.raises(KeyboardInterrupt):
            open_plan(bundle, max_batch=3)
    assert open_plan(bundle).reason == "there is no plan for this frozen part yet"


def test_a_plan_that_tensorrt_refuses_is_built_anew_once(fake10, bundle, in_process, caplog):
    fake10.fault("stale-plan")
    open_plan(bundle)
    fake10.fault()
    assert load_tensorrt_engine(bundle).max_batch == 16
    assert "TensorRT refuses the plan (the engine plan file is not compatible)" in caplog.text
    assert open_plan(bundle).reason is None
    fake10.fault("stale-plan")
    with pytest.raises(EngineError, match="refuses the plan"):
        load_tensorrt_engine(bundle, max_batch=2)


def test_what_the_parser_finds_is_one_error(fake, bundle):
    fake.fault("parser")
    with pytest.raises(EngineError) as caught:
        open_plan(bundle)
    message = str(caught.value)
    assert f"TensorRT {fake.version} cannot parse" in message
    assert "node 0: unsupported Op0; node 1: unsupported Op1" in message
    assert "Op4 and 2 more" in message and "Op5" not in message and "\n" not in message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("none", "built no plan.*could not find any implementation for node conv1.*--workspace"),
        ("kill", "was killed.*memory ran out.*--workspace.*1024 MiB.*swap"),
        ("crash", "crashed with signal 15"),
        ("no-gpu", "finds no GPU to build for"),
        ("two-inputs", "has 2 inputs"),
        ("profile", "refuses batches of 1 to 16"),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_the_plan_of_before(fake10, bundle, fault, words):
    before = open_plan(bundle)
    fake10.fault(fault)
    with pytest.raises(EngineError, match=words):
        open_plan(bundle, max_batch=16, why="a test")
    fake10.fault()
    after = open_plan(bundle)
    assert after.reason is None and after.data == before.data
    assert not list(before.path.parent.glob("*.partial"))


def test_a_silent_failure_says_that_it_is_silent(fake10, bundle, in_process):
    fake10.fault("parser")
    open_parser = sys.modules["tensorrt"].OnnxParser if "tensorrt" in sys.modules else None
    import tensorrt

    tensorrt.OnnxParser.num_errors = 0
    assert open_parser is None
    with pytest.raises(EngineError, match="no reason given"):
        open_plan(bundle)


def test_timings_are_kept_and_those_that_are_of_no_use_are_replaced(fake10, bundle, in_process):
    def timings(why="a test"):
        return how_it_was_built(open_plan(bundle, why=why))["timings"]

    assert timings() == ""
    assert timings() == "+"
    assert timings() == "++"
    folder = open_plan(bundle).path.parent
    (file,) = folder.glob("timing-10.3.0-Orin-8.7.cache")
    file.write_bytes(b"damaged")
    assert timings() == ""
    fake10.fault("timings-of-another")
    assert timings() == ""
    file.unlink()
    file.mkdir()  # cannot be written: slower next time, no more
    assert timings() == ""


def test_a_model_that_changed_is_refused(fake10, bundle, in_process, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    opened = open_bundle(copy)
    real = (copy / "frozen.onnx").read_bytes()
    (copy / "frozen.onnx").write_bytes(real + b" ")
    with pytest.raises(BundleError, match="sha256"):
        open_plan(opened)
    job = plan_build.BuildJob(
        onnx=str(copy / "frozen.onnx"),
        onnx_sha256=bundle.frozen_sha256,
        plan=str(tmp_path / "plan"),
        timing_cache=str(tmp_path / "timings"),
        precision="fp32",
        max_batch=1,
        workspace_bytes=1,
        tactic_dram_bytes=None,
        optimization_level=0,
    )
    with pytest.raises(EngineError, match="changed while it was opened"):
        plan_build.build(job)
    (copy / "frozen.onnx").unlink()
    with pytest.raises(EngineError, match="cannot read"):
        plan_build.build(job)
    (copy / "frozen.onnx").write_bytes(real)
    with pytest.raises(EngineError, match="cannot write"):
        plan_build.build(dataclasses.replace(job, plan=str(tmp_path / "no" / "plan")))


def test_a_cache_that_cannot_be_written_is_said(fake10, bundle, in_process, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="XDG_CACHE_HOME"):
        open_plan(bundle, folder=tmp_path / "file" / "engines")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_cache, "sync_folder", full)
    with pytest.raises(EngineError, match="No space left"):
        open_plan(bundle)


def test_a_disk_that_loses_what_was_written_is_said(fake10, bundle, in_process, monkeypatch):
    real = plan_cache.replace_file

    def loses(path, data):
        real(path, data)
        path.with_suffix(".plan").write_bytes(b"")

    monkeypatch.setattr(plan_cache, "replace_file", loses)
    with pytest.raises(EngineError, match="just built cannot be used"):
        open_plan(bundle)


def test_two_that_want_the_same_plan_build_it_once(fake10, bundle, in_process):
    reasons = []
    threads = [
        threading.Thread(target=lambda: reasons.append(open_plan(bundle).reason)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, reasons)) == [
        "None",
        "None",
        "there is no plan for this frozen part yet",
    ]


def test_a_child_that_says_nothing_or_ends_badly_is_told_apart(monkeypatch):
    job = plan_build.BuildJob(
        onnx="", onnx_sha256="", plan="", timing_cache="", precision="fp32", max_batch=1,
        workspace_bytes=1, tactic_dram_bytes=None, optimization_level=0,
    )  # fmt: skip

    def ended(code, stderr):
        done = subprocess.CompletedProcess([], code, "", stderr)
        monkeypatch.setattr(plan_build.subprocess, "run", lambda *_, **__: done)
        with pytest.raises(EngineError) as caught:
            plan_build.build_in_child(job)
        return str(caught.value)

    assert ended(-11, "") == "the build crashed with signal 11 (no message)"
    assert ended(1, "warning\nTensorRT finds no GPU\n") == "TensorRT finds no GPU"


def test_the_command_builds_runs_and_says_why(fake, bundle_path, plr_edge, caplog):
    def facts(*options):
        result = plr_edge("build-engine", str(bundle_path), *options, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first = facts("--workspace", "64MB", "--max-batch", "4", "--optimization-level", "2")
    assert first["built"] and "no plan" in first["reason"]
    assert first["workspace_used_bytes"] == 64_000_000
    assert first["max_batch"] == 4 and first["scratch_bytes"] == 12345
    assert first["plan_bytes"] == os.path.getsize(first["plan"])
    assert not facts()["built"]
    again = facts("--max-batch", "8")
    assert again["reason"] == "max_batch was 4, now 8" and again["workspace_bytes"] == 64_000_000
    assert facts("--force")["reason"] == "--force was given"
    with_reason = plr_edge("build-engine", str(bundle_path), "--max-batch", "2")
    assert "which takes minutes: max_batch was 8, now 2" in caplog.text  # before it starts
    assert "max_batch was 8, now 2" in with_reason.stdout
    text = plr_edge("build-engine", str(bundle_path)).stdout
    assert "the existing plan matches" in text and "build_s" in text


def test_the_command_without_tensorrt_is_one_line(bundle_path, plr_edge, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    result = plr_edge("build-engine", str(bundle_path))
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1 and "--engine onnx" in result.stderr
    result = plr_edge("build-engine", str(bundle_path), "--workspace", "many")
    assert result.exit_code == 2 and "512MB" not in result.stderr and "many" in result.stderr


def test_neither_torch_nor_onnx_is_loaded_by_perceptions_engine_or_the_builder(fake10):
    code = (
        "import sys\n"
        "import plr_edge.engines.plan_cache, plr_edge.engines.plan_build\n"
        "from plr_edge.engines.cuda import open_cuda\n"
        "open_cuda()\n"
        "print(sorted({'torch', 'onnx', 'tensorrt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def with_static_feature(tmp_path_factory):
    """Made before torch is taken away; its mean over a map has the axes as an input."""
    from plr_edge import export_bundle, load_backbone

    path = tmp_path_factory.mktemp("static") / "bundle"
    backbone = load_backbone("mobilenet_v2", input_size=96)
    return export_bundle(backbone, "block14", path, static_feature=True)[0]


def test_8_6_refuses_what_it_would_read_wrongly_and_10_does_not(
    with_static_feature, fakes, in_process
):
    fakes("8.6.1")
    with pytest.raises(EngineError, match="ReduceMean of this part over all axes"):
        load_tensorrt_engine(with_static_feature)
    fakes("10.0.1")
    x = np.zeros((1, 3, 96, 96), np.float32)
    assert len(load_tensorrt_engine(with_static_feature).run(x)) == 2


def test_a_board_without_meminfo_is_one_line(monkeypatch):
    monkeypatch.setattr(cuda_base, "available_bytes", lambda: None)
    with pytest.raises(EngineError, match="mount /proc"):
        cuda_base.free_board_bytes()

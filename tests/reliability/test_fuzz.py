"""Whatever bytes a stranger sends: one of our errors, or an answer."""

import json
import os
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from reliability.mutations import mutated

from plr_edge.bundle.manifest import EARLIER_FILES, FILES, manifest_digest, member_entry
from plr_edge.bundle.onnx_check import check_onnx
from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import BundleError, PlrEdgeError
from plr_edge.robot.protocol import pack, unpack
from plr_edge.tensors import read_tensors, write_tensors


def with_digests(folder, name, data):
    """Put bytes into a bundle as a forger would: with the right digest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = member_entry(data)
    (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(sealed(manifest))


def sealed(manifest):
    """Return the bytes of a manifest with its own digest made right."""
    return json.dumps({**manifest, "sha256": manifest_digest(manifest)}).encode()


def small_bundle(bundle_path, folder):
    shutil.copytree(bundle_path, folder)
    return folder


def fuzz_headers(n, seed):
    """Mutate the head of safetensors; returns how many were accepted."""
    rng, accepted = random.Random(seed), 0
    data = write_tensors({"a.weight": np.ones((3, 4), np.float32), "b": np.zeros(5, np.int64)})
    for _ in range(n):
        try:
            read_tensors(mutated(data, rng))
            accepted += 1
        except ValueError:
            pass
    return accepted


def fuzz_messages(n, seed):
    """Mutate what the trainer sends; returns how many were accepted, by safetensors too."""
    rng, accepted = random.Random(seed), 0
    arrays = {"a.weight": np.ones((3, 4), np.float32), "b": np.zeros(5, np.int64)}
    data = pack("candidate", {"upto": 3, "below": None}, arrays)
    for _ in range(n):
        changed = mutated(data, rng)
        try:
            kind, facts, found = unpack(changed)
        except ValueError:
            continue
        accepted += 1
        assert isinstance(kind, str) and isinstance(facts, dict)
        for name, array in read_tensors(changed).items():
            np.testing.assert_array_equal(found[name], array)
    return accepted


def fuzz_onnx(bundle_path, n, seed, kept=60):
    """Mutate the structure of a part; returns the first accepted ones."""
    rng, accepted = random.Random(seed), []
    data = (bundle_path / "adaptive.onnx").read_bytes()
    # nodes and names lie at the ends of the file, between them only weights
    ends = [range(0, 400), range(len(data) - 4_000, len(data))]
    for _ in range(n):
        part = rng.choice(ends)
        changed = data[: part.start] + mutated(data[part.start : part.stop], rng)
        changed += data[part.stop :]
        try:
            check_onnx(changed)
            if len(accepted) < kept:
                accepted.append(changed)
        except ValueError:
            pass
    return accepted


_opened: set[str] | None = None
_thread = threading.get_ident()


def _watch(event, arguments):
    if event != "open" or _opened is None or isinstance(arguments[0], int):
        return
    if threading.get_ident() == _thread:  # sensors of a robot of another test may be at work
        _opened.add(os.fsdecode(arguments[0]))


sys.addaudithook(_watch)


def files_opened(act) -> set[str]:
    """Return the paths that Python opened meanwhile."""
    global _opened
    _opened = set()
    try:
        act()
        return _opened
    finally:
        _opened = None


def fuzz_manifests(bundle_path, folder, n, seed):
    """Mutate bytes and values of the manifest."""
    rng = random.Random(seed)
    small_bundle(bundle_path, folder)
    text = (folder / "manifest.json").read_bytes()
    values = [None, -1, 0, 2**40, 1e308, "x" * 999, [], {}, [[]], True, "../../etc/passwd", "\0"]

    def paths(value, path=()):
        if path:
            yield path
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from paths(inner, (*path, key))

    places = list(paths(json.loads(text)))
    for i in range(n):
        if i % 2:
            changed = mutated(text, rng)
        else:
            manifest = json.loads(text)
            *parents, key = rng.choice(places)
            at = manifest
            for parent in parents:
                at = at[parent]
            at[key] = rng.choice(values)
            changed = sealed(manifest)
        (folder / "manifest.json").write_bytes(changed)
        opened = files_opened(lambda: opened_or_refused(folder))
        assert opened <= {str(folder / name) for name in (*FILES, *EARLIER_FILES, "manifest.json")}


def opened_or_refused(folder):
    try:
        open_bundle(folder)
    except PlrEdgeError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_000


def survives(models, seconds=10):
    """Run models below the limits, in a child as the trial does; returns the deaths by kind."""
    outcomes = {"ran": 0, "refused": 0, "died": 0, "hung": 0}
    for model in models:
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(seconds)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                from plr_edge.engines.onnx_engine import OnnxEngine

                OnnxEngine(model).run(np.zeros((1, 160, 3, 3), np.float32))
            except PlrEdgeError:
                os._exit(3)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        kinds = {0: "ran", 3: "refused", -signal.SIGALRM: "hung", -signal.SIGXCPU: "hung"}
        outcomes[kinds.get(code, "died")] += 1
    return outcomes


def test_mutated_safetensors_are_read_or_refused():
    assert fuzz_headers(8_000, 0) < 8_000


def test_mutated_messages_are_read_as_safetensors_reads_them_or_refused():
    assert 0 < fuzz_messages(8_000, 0) < 8_000


def test_mutated_onnx_is_refused_or_handed_to_a_child(bundle_path):
    accepted = fuzz_onnx(bundle_path, 800, 0)
    outcomes = survives(accepted)
    assert outcomes["hung"] == 0  # whatever it is, it happened in a child


def test_mutated_manifests_are_opened_or_refused(bundle_path, tmp_path):
    fuzz_manifests(bundle_path, tmp_path / "b", 1_500, 0)


@pytest.mark.long
def test_a_hundred_thousand_mutated_bundles(bundle_path, tmp_path):
    fuzz_headers(60_000, 1)
    fuzz_messages(60_000, 1)
    accepted = fuzz_onnx(bundle_path, 20_000, 1, kept=500)
    fuzz_manifests(bundle_path, tmp_path / "b", 20_000, 1)
    outcomes = survives(accepted)
    print(len(accepted), outcomes)
    assert outcomes["hung"] == 0


# attacks by name


def onnx_model(*nodes, **graph):
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(list(nodes), "g", [x], [y], **graph)
    opsets = [helper.make_opsetid("", 17), *(
        helper.make_opsetid(node.domain, 1) for node in nodes if node.domain
    )]  # fmt: skip
    model = helper.make_model(made, opset_imports=opsets)
    return onnx, helper, model


def external_data(where):
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    node = helper.make_node("Add", ["image", "w"], ["y"])
    return onnx_model(node, initializer=[tensor])[2].SerializeToString()


def endless_loop():
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["o"])], "b",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("o", TensorProto.BOOL, [])],
    )  # fmt: skip
    count = helper.make_tensor("n", TensorProto.INT64, [], [2**62])
    node = helper.make_node("Loop", ["n", ""], [], body=body)
    return onnx_model(node, initializer=[count])[2].SerializeToString()


def strange_domain():
    from onnx import helper

    node = helper.make_node("Shell", ["image"], ["y"], domain="evil.example")
    return onnx_model(node)[2].SerializeToString()


def own_function():
    from onnx import helper

    node = helper.make_node("Identity", ["image"], ["y"])
    _, _, model = onnx_model(node)
    inner = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(
        helper.make_function("d", "F", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)])
    )
    return model.SerializeToString()


def giant_tensor():
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[1 << 20, 1 << 20])
    node = helper.make_node("Add", ["image", "w"], ["y"])
    return onnx_model(node, initializer=[tensor])[2].SerializeToString()


def giant_fill():
    from onnx import TensorProto, helper

    shape = helper.make_tensor("s", TensorProto.INT64, [1], [2_000_000_000])
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"]),
        helper.make_node("Add", ["image", "sum"], ["y"]),
    ]
    return onnx_model(*nodes, initializer=[shape])[2].SerializeToString()


def external_in_a_node(field):
    """Hide external data in an attribute."""
    from onnx import AttributeProto, TensorProto, helper

    node = helper.make_node("Constant", [], ["c"])
    hidden = node.attribute.add(name="value")
    kinds = {"t": AttributeProto.TENSOR, "tensors": AttributeProto.TENSORS,
             "sparse_tensor": AttributeProto.SPARSE_TENSOR}  # fmt: skip
    hidden.type = kinds[field]
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    if field == "t":
        hidden.t.CopyFrom(tensor)
    elif field == "tensors":
        hidden.tensors.append(tensor)
    else:
        hidden.sparse_tensor.values.CopyFrom(tensor)
        hidden.sparse_tensor.dims.append(4)
    add = helper.make_node("Add", ["image", "c"], ["y"])
    return onnx_model(node, add)[2].SerializeToString()


def one_node(op, domain="", **attributes):
    from onnx import helper

    node = helper.make_node(op, ["image"], ["y"], domain=domain, **attributes)
    return onnx_model(node)[2].SerializeToString()


def training_graph():
    from onnx import helper

    _, _, model = onnx_model(helper.make_node("Identity", ["image"], ["y"]))
    model.training_info.add()
    return model.SerializeToString()


def two_graphs():
    """Two of what there is one of: protobuf would merge them."""
    from onnx import helper

    data = onnx_model(helper.make_node("Identity", ["image"], ["y"]))[2].SerializeToString()
    return data + data


ONNX_ATTACKS = {
    "external data": (lambda: external_data("w.bin"), "another file"),
    "external data above": (lambda: external_data("../../etc/passwd"), "another file"),
    "external data, absolute": (lambda: external_data("/etc/passwd"), "another file"),
    "external data, odd names": (lambda: external_data("a;b\\..\\%252e%252e/\0c"), "another file"),
    "external data in a node": (lambda: external_in_a_node("t"), "another file"),
    "external data in a list": (lambda: external_in_a_node("tensors"), "another file"),
    "external data in a sparse tensor": (lambda: external_in_a_node("sparse_tensor"), "sparse"),
    "compiled engine": (
        lambda: one_node("EPContext", "com.microsoft", embed_mode=1, ep_cache_context="x"),
        "compiled",
    ),
    "branch": (lambda: one_node("If"), "control flow"),
    "scan": (lambda: one_node("Scan"), "control flow"),
    "training": (training_graph, "training"),
    "two graphs": (two_graphs, "2 graphs"),
    "endless loop": (endless_loop, "control flow"),
    "strange domain": (strange_domain, "domain"),
    "own function": (own_function, "functions"),
    "giant tensor": (giant_tensor, "larger"),
    "truncated": (lambda: strange_domain()[:-20], "damaged|domain"),
}


@pytest.mark.parametrize("attack", ONNX_ATTACKS)
def test_an_attack_in_onnx_is_refused_by_name(attack, bundle_path, tmp_path):
    make, reason = ONNX_ATTACKS[attack]
    folder = small_bundle(bundle_path, tmp_path / "b")
    (tmp_path / "secret").write_bytes(bytes(16))
    os.link(tmp_path / "secret", folder / "w.bin")  # which ONNX Runtime itself would read
    with_digests(folder, "frozen.onnx", make())
    with pytest.raises(BundleError, match=reason):
        open_bundle(folder)


def test_a_part_that_wants_all_memory_dies_in_a_child_alone(bundle_path, tmp_path, monkeypatch):
    from plr_edge.engines.trial import try_bundle

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = small_bundle(bundle_path, tmp_path / "b")
    with_digests(folder, "frozen.onnx", giant_fill())
    opened = open_bundle(folder)
    with pytest.raises(BundleError, match="trial run"):
        try_bundle(opened)


def header(text, rest=b""):
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(data)) + data + rest


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


TENSOR_ATTACKS = {
    "no header": b"",
    "header beyond the end": struct.pack("<Q", 2**63) + b"{}",
    "header of 100 MB": header(b" " * (2 << 20)),
    "a million empty tensors": header({f"t{i}": entry([0], 0, 0) for i in range(5000)}),
    "twice the same name": header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "name with a path": header({"../../etc/x": entry([1], 0, 4)}, bytes(4)),
    "name with NUL": header({"a\0b": entry([1], 0, 4)}, bytes(4)),
    "overlap": header({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
    "shape overflows": header({"a": entry([2**32, 2**32, 4], 0, 4)}, bytes(4)),
    "deep nesting": header(b"[" * 100_000),
    "NaN": write_tensors({"a": np.array([np.nan], np.float32)}),
    "infinity": write_tensors({"a": np.array([np.inf], np.float32)}),
    "another type": header({"a": entry([1], 0, 8, "F64")}, bytes(8)),
    "no object": header(b"7"),
}  # fmt: skip


@pytest.mark.parametrize("attack", TENSOR_ATTACKS)
def test_an_attack_in_safetensors_is_refused(attack, bundle_path, tmp_path):
    with pytest.raises(ValueError):
        read_tensors(TENSOR_ATTACKS[attack])
    folder = small_bundle(bundle_path, tmp_path / "b")
    with_digests(folder, "adaptive.safetensors", TENSOR_ATTACKS[attack])
    with pytest.raises(BundleError, match="refused"):
        open_bundle(folder)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device", "missing"])
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_member_that_is_no_plain_file_is_refused(kind, name, bundle_path, tmp_path):
    folder = small_bundle(bundle_path, tmp_path / "b")
    (folder / name).unlink()
    if kind == "link":
        (folder / name).symlink_to(bundle_path / name)
    elif kind == "fifo":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    elif kind == "device":
        try:
            os.mknod(folder / name, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            pytest.skip("making a device needs root")
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_a_manifest_leads_to_no_file_but_the_members(bundle_path, tmp_path):
    folder = small_bundle(bundle_path, tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in (
        "../../etc/passwd",
        "/etc/passwd",
        "FROZEN.ONNX",
        "a;b",
        "..\\x",
        "\0",
        "%2e%2e/x",
    ):
        manifest["files"][name] = member_entry(b"")
    (folder / "manifest.json").write_bytes(sealed(manifest))
    open_bundle(folder)  # what it imports is imported
    opened = files_opened(lambda: open_bundle(folder))
    assert opened == {str(folder / name) for name in (*FILES, "manifest.json")}
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"cut":', '"cut": "x", "cut":', 1))
    with pytest.raises(BundleError, match="twice"):
        open_bundle(folder)


def test_the_code_that_a_bundle_names_is_not_imported(bundle_path, tmp_path):
    folder = small_bundle(bundle_path, tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef net(): ...\n")
    manifest["backbone"] = "evil:net"
    (folder / "manifest.json").write_bytes(sealed(manifest))
    done = subprocess.run(
        [sys.executable, "-m", "plr_edge", "adapt", str(folder), "demo", "--state", "s",
         "--limit-per-class", "3"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # adaptive.onnx is all that training needs
    assert not (tmp_path / "ran").exists()

"""Messages between perception and trainer: what goes in comes out, in place, or is refused."""

import json
import os

import numpy as np
import pytest

from plr_edge.robot.protocol import SharedMessage, opened, pack, unpack
from plr_edge.tensors import read_tensors, write_tensors

ARRAYS = {
    "weights.block14.0.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "records": np.arange(7, dtype=np.uint8),
    "seqs": np.arange(5),
    "indices": np.arange(3, dtype=np.int32)[::-1],
    "features": np.zeros((0,), np.float32),
    "rows": np.zeros((0, 1_000_000), np.float32),
    "prior": np.float32(0.5).reshape(()),
}
FACTS = {"upto": 7, "names": ["mug", "Tasse \u2615"], "costs": {"steps": [1, 2]}, "below": None}


def test_a_message_comes_out_as_it_went_in():
    kind, facts, arrays = unpack(pack("candidate", FACTS, ARRAYS))
    assert (kind, facts) == ("candidate", FACTS) and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)


def test_a_message_without_arrays_is_one():
    assert unpack(pack("ready", {"pid": 3}, {})) == ("ready", {"pid": 3}, {})


def test_a_message_is_safetensors_that_anybody_can_read():
    arrays = read_tensors(pack("learn", FACTS, ARRAYS))
    np.testing.assert_array_equal(arrays["seqs"], ARRAYS["seqs"])


@pytest.mark.parametrize("way", ["bytes", "shared"])
def test_arrays_are_aligned_views_that_cannot_be_written(way):
    message = pack("candidate", FACTS, ARRAYS)
    shared = SharedMessage(message)
    _, _, arrays = unpack(message) if way == "bytes" else opened(shared.place)
    shared.close()  # whoever has opened it keeps it
    for name, array in arrays.items():
        assert not array.flags.writeable and array.base is not None
        assert array.ctypes.data % array.itemsize == 0 or not array.size
        np.testing.assert_array_equal(array, ARRAYS[name])
    if way == "bytes":
        whole = np.frombuffer(message, np.uint8)
        assert all(np.shares_memory(whole, array) for array in arrays.values() if array.size)


def test_a_shared_message_is_sealed_and_gone_when_it_is_closed():
    shared = SharedMessage(pack("candidate", FACTS, ARRAYS))
    with open(shared.place, "r+b") as file, pytest.raises(OSError):
        os.write(file.fileno(), b"x")
    place = shared.place
    shared.close()
    with pytest.raises(ValueError, match="gone"):
        opened(place)


def changed(**header):
    """A message of one array whose header is changed."""
    data = write_tensors({"a": np.ones(4, np.float32)}, {"kind": "k", "facts": "{}"})
    n = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + n])
    for name, value in header.items():
        table[name] = table.get(name, {}) | value if isinstance(value, dict) else value
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + n :]


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\0" * 8, b"12345678" * 9, pack("k", {}, ARRAYS)[:-1], pack("k", {}, ARRAYS) + b"x",
        pack("k", {}, {"a": np.array([1, np.nan], np.float32)}),
        pack("k", {}, {"a": np.array([np.inf], np.float32)}),
        pack("k", {}, {"a": np.ones(2)}),  # float64
        write_tensors({"a": np.ones(2, np.float32)}),
        write_tensors({}, {"kind": "k"}),
        write_tensors({}, {"kind": "k", "facts": "[]"}),
        write_tensors({}, {"kind": "k", "facts": "["}),
        write_tensors({}, {"kind": "k", "facts": "[" * 100_000}),
        write_tensors({}, {"facts": "{}"}),
        changed(__metadata__={"facts": 3}),
        changed(__metadata__=[]),
        changed(a={"shape": [5]}),
        changed(a={"shape": [-4]}),
        changed(a={"shape": [-2, -2]}),
        changed(a={"shape": [True] * 4}),
        changed(a={"shape": [2**62, 4]}),
        changed(a={"shape": [0, 2**63], "data_offsets": [0, 0]}),
        changed(a={"shape": [1] * 9}),
        changed(a={"data_offsets": [0, 32], "shape": [8]}),
        changed(a={"data_offsets": [4, 20]}),
        changed(a={"data_offsets": [-16, 0]}),
        changed(a={"data_offsets": [0.0, 16.0]}),
        changed(a={"data_offsets": None}),
        changed(a={"dtype": "F16"}),
        changed(a={"dtype": "object"}),
        changed(b={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}),  # over another
        changed(a=None),
    ],
    ids=lambda _: "message",  # safetensors writes its metadata in any order
)  # fmt: skip
def test_what_is_no_message_is_refused(message):
    with pytest.raises(ValueError):
        unpack(message)

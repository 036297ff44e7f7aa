"""A GPU in host memory: blocks, streams that run when they are waited for, graphs.

Stricter than a GPU where that finds mistakes: work is done only at `synchronize`, freed or foreign
addresses raise, and the default stream is refused.
"""

import ctypes
import itertools

blocks: dict[int, ctypes.Array] = {}
streams: dict[int, "Stream"] = {}
counts = {"enqueued": 0, "captured": 0, "replayed": 0}
_handles = itertools.count(0x1000, 8)


class Stream:
    def __init__(self):
        self.handle = next(_handles)
        self.queue: list = []
        self.recording: list | None = None
        streams[self.handle] = self

    def submit(self, work) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def synchronize(self) -> None:
        if self.recording is not None:
            raise AssertionError("a capturing stream must not be waited for")
        queue, self.queue = self.queue, []
        for work in queue:
            work()


def stream_of(handle: int) -> Stream:
    assert handle != 0, "the default stream was used"
    return streams[handle]


def allocate(n_bytes: int) -> int:
    block = (ctypes.c_char * n_bytes)()
    blocks[ctypes.addressof(block)] = block
    return ctypes.addressof(block)


def free(address: int) -> None:
    del blocks[address]


def read(address: int, n_bytes: int) -> bytes:
    assert address in blocks and len(blocks[address]) >= n_bytes, "not memory of the device"
    return ctypes.string_at(address, n_bytes)


def write(address: int, data: bytes) -> None:
    assert address in blocks and len(blocks[address]) >= len(data), "not memory of the device"
    ctypes.memmove(address, data, len(data))

"""What plr_edge asks of torch.cuda, over `fake_device`; a test holds it against the real torch."""

from contextlib import contextmanager
from types import SimpleNamespace

import fake_device as device
import numpy as np

uint8 = np.uint8
fail: set[str] = set()  # names of what raises RuntimeError
_current: list = []


class Tensor:
    def __init__(self, address, n_bytes, array=None, owner=None):
        self._address, self._n_bytes = address, n_bytes
        self._array, self._owner = array, owner

    def data_ptr(self):
        return self._address

    def __getitem__(self, part):
        return Tensor(self._address, min(part.stop, self._n_bytes), owner=self)

    def copy_(self, src, non_blocking=False):
        stream, n = _current[-1], src._n_bytes
        assert n == self._n_bytes
        if self._array is None:
            stream.submit(lambda: device.write(self._address, src._array.tobytes()))
        else:

            def fetch():
                self._array[:] = np.frombuffer(device.read(src._address, n), np.uint8)

            stream.submit(fetch)
        return self

    def __del__(self):
        if self._array is None and self._owner is None:
            device.free(self._address)


def empty(*size, dtype, device):
    assert dtype is np.uint8 and device == "cuda" and _current
    if "empty" in fail:
        raise RuntimeError("out of memory")
    return Tensor(_allocate(size[0]), size[0])


def _allocate(n):
    return device.allocate(n)


def from_numpy(ndarray):
    assert ndarray.flags.writeable and ndarray.dtype == np.uint8
    return Tensor(0, ndarray.nbytes, array=ndarray)


class Stream:
    def __init__(self):
        self._stream = device.Stream()

    @property
    def cuda_stream(self):
        return self._stream.handle

    def synchronize(self):
        self._stream.synchronize()


class CUDAGraph:
    def replay(self):
        device.counts["replayed"] += 1
        for work in self._work:
            _current[-1].submit(work)


@contextmanager
def stream(stream):
    _current.append(stream._stream)
    yield
    _current.pop()


@contextmanager
def graph(cuda_graph, pool=None, stream=None, capture_error_mode="global"):
    assert capture_error_mode == "thread_local"
    stream._stream.recording = []
    try:
        yield
        if "graph" in fail:
            raise RuntimeError("operation not permitted when stream is capturing")
        cuda_graph._work = stream._stream.recording
        device.counts["captured"] += 1
    finally:
        stream._stream.recording = None


def _properties(device):
    return SimpleNamespace(
        name="NVIDIA H200", major=9, minor=0, total_memory=140 << 30, is_integrated="board" in fail
    )


cuda = SimpleNamespace(
    is_available=lambda: "is_available" not in fail,
    current_device=lambda: 0,
    get_device_properties=_properties,
    mem_get_info=lambda: (100 << 30, 140 << 30),
    Stream=Stream,
    CUDAGraph=CUDAGraph,
    stream=stream,
    graph=graph,
)

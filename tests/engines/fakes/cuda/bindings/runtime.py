"""`cuda.bindings.runtime` over `fake_device`: the calls that plr_edge makes, with their own names.

FAKE_CUDA_FAIL names one call that fails; FAKE_GPU is the device: name, capability, total bytes,
integrated.
"""

import ctypes
import enum
import functools
import os
from types import SimpleNamespace

import fake_device as device

cudaStreamNonBlocking = 1


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class _Handle:
    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value.handle


def _call(function):
    @functools.wraps(function)
    def checked(*arguments):
        if os.environ.get("FAKE_CUDA_FAIL") == function.__name__:
            if function.__name__ == "cudaStreamEndCapture":
                arguments[0].value.recording = None  # an invalid capture ends all the same
            return cudaError_t.cudaErrorMemoryAllocation, *[None] * function.returns
        values = function(*arguments)
        return cudaError_t.cudaSuccess, *values

    function.returns = {"cudaMemGetInfo": 2}.get(function.__name__, 1)
    return checked


def _gpu() -> list[str]:
    return os.environ.get("FAKE_GPU", "Orin,8.7,7900000000,1").split(",")


@_call
def cudaGetDevice():
    return (0,)


@_call
def cudaGetDeviceProperties(device):
    name, capability, total, integrated = _gpu()
    major, minor = capability.split(".")
    return (
        SimpleNamespace(
            name=name.encode(),
            major=int(major),
            minor=int(minor),
            totalGlobalMem=int(total),
            integrated=int(integrated),
        ),
    )


@_call
def cudaMemGetInfo():
    total = int(_gpu()[2])
    return total // 2, total


@_call
def cudaMalloc(size):
    return (device.allocate(size),)


@_call
def cudaFree(devPtr):
    device.free(devPtr)
    return ()


@_call
def cudaStreamCreateWithFlags(flags):
    assert flags == cudaStreamNonBlocking
    return (_Handle(device.Stream()),)


@_call
def cudaStreamDestroy(stream):
    del device.streams[int(stream)]
    return ()


@_call
def cudaStreamSynchronize(stream):
    stream.value.synchronize()
    return ()


@_call
def cudaMemcpyAsync(dst, src, count, kind, stream):
    if kind == cudaMemcpyKind.cudaMemcpyHostToDevice:
        stream.value.submit(lambda: device.write(dst, ctypes.string_at(src, count)))
    else:
        stream.value.submit(lambda: ctypes.memmove(dst, device.read(src, count), count))
    return ()


@_call
def cudaStreamBeginCapture(stream, mode):
    assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    stream.value.recording = []
    return ()


@_call
def cudaStreamEndCapture(stream):
    work, stream.value.recording = stream.value.recording, None
    device.counts["captured"] += 1
    return (work,)


@_call
def cudaGraphInstantiate(graph, flags):
    return (list(graph),)


@_call
def cudaGraphDestroy(graph):
    graph.clear()
    return ()


@_call
def cudaGraphLaunch(graphExec, stream):
    device.counts["replayed"] += 1
    for work in graphExec:
        stream.value.submit(work)
    return ()


@_call
def cudaGraphExecDestroy(graphExec):
    graphExec.clear()
    return ()

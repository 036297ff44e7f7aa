"""TensorRT with the surface that plr_edge uses, and not one name more; ONNX Runtime computes.

FAKE_TENSORRT is the version: names that a version does not have are not there. FAKE_TENSORRT_FAULT
lists what goes wrong. A plan is a line of JSON, which says how it was built, and the model. Names
and parameters are held against NVIDIA's own bindings by test_tensorrt_conformance.
"""

import ctypes
import enum
import json
import os
import signal

import fake_device as _device
import numpy as _np
import onnxruntime as _ort

__version__ = os.environ["FAKE_TENSORRT"]
_VERSION = tuple(int(number) for number in __version__.split(".")[:2])
_MAGIC = b"FAKEPLAN\n"


def _fault(name: str) -> bool:
    return name in os.environ.get("FAKE_TENSORRT_FAULT", "").split(",")


if _fault("unloadable"):
    raise ImportError("libnvinfer.so.10: cannot open shared object file")


class _Enum(enum.Enum):
    def __int__(self):
        return self.value


MemoryPoolType = _Enum("MemoryPoolType", {"WORKSPACE": 0, "TACTIC_DRAM": 4})
TensorIOMode = _Enum("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
DataType = _Enum("DataType", {"FLOAT": 0, "HALF": 1, "INT32": 3})
if _VERSION < (10,):
    NetworkDefinitionCreationFlag = _Enum("NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0})
    BuilderFlag = _Enum("BuilderFlag", {"FP16": 0, "INT8": 1})
elif _VERSION < (11,):
    NetworkDefinitionCreationFlag = _Enum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})


class ILogger:
    Severity = _Enum("Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3})

    def __init__(self):
        self._made = True

    def log(self, severity, msg):
        raise NotImplementedError


def _host(data: bytes):
    """What IHostMemory is to Python: something with a buffer, and no length of its own."""
    return memoryview((ctypes.c_char * len(data)).from_buffer_copy(data))


class ITensor:
    def __init__(self, name, shape):
        self.name = name
        self.shape = shape


class INetworkDefinition:
    def __init__(self, flags):
        self._flags, self._model, self._inputs, self._outputs = flags, b"", [], []

    @property
    def num_inputs(self):
        return 2 if _fault("two-inputs") else len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class ParserError:
    def __init__(self, desc, node):
        self._desc, self._node = desc, node

    def desc(self):
        return self._desc

    def node(self):
        return self._node


class OnnxParser:
    def __init__(self, network, logger):
        assert logger._made
        self._network, self._errors = network, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def parse(self, model, path=None):
        if _fault("parser"):
            self._errors = [ParserError(f"unsupported\nOp{i}", i) for i in range(7)]
            return False
        session = _session(model)
        self._network._model = model
        self._network._inputs = [_tensor(t) for t in session.get_inputs()]
        self._network._outputs = [_tensor(t) for t in session.get_outputs()]
        return True


def _tensor(described):
    shape = tuple(n if isinstance(n, int) else -1 for n in described.shape)
    return ITensor(described.name, shape)


def _session(model):
    options = _ort.SessionOptions()
    options.intra_op_num_threads = 1
    return _ort.InferenceSession(bytes(model), options, providers=["CPUExecutionProvider"])


class ITimingCache:
    def __init__(self, blob):
        self._blob = bytes(blob)

    def serialize(self):
        return _host(self._blob + b"+")


class IOptimizationProfile:
    def set_shape(self, input, min, opt, max):
        self._input, self._shapes = input, [list(min), list(opt), list(max)]


class IBuilderConfig:
    def __init__(self):
        self._pools, self._flags, self._profiles = {}, [], []
        self.builder_optimization_level = 3

    def set_memory_pool_limit(self, pool, pool_size):
        assert type(pool_size) is int
        self._pools[pool.name] = pool_size

    def set_flag(self, flag):
        self._flags.append(flag.name)

    def add_optimization_profile(self, profile):
        if _fault("profile"):
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        blob = bytes(serialized_timing_cache)
        return None if blob and not blob.startswith(b"+") else ITimingCache(blob)

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        return not (_fault("timings-of-another") and cache._blob)

    def get_timing_cache(self):
        return self._cache


class Builder:
    def __init__(self, logger):
        if _fault("no-gpu"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        severity = ILogger.Severity
        self._logger.log(severity.WARNING, "a warning")
        self._logger.log(severity.INFO, "a remark")
        if _fault("none"):
            self._logger.log(severity.ERROR, "could not find any\n implementation for node conv1")
            return None
        if _fault("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _fault("crash"):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        (profile,) = config._profiles
        built = {
            "version": "another" if _fault("stale-plan") else __version__,
            "network_flags": network._flags,
            "flags": config._flags,
            "pools": config._pools,
            "level": config.builder_optimization_level,
            "timings": config._cache._blob.decode(),
            "input": profile._input,
            "profile": profile._shapes,
        }
        return _host(_MAGIC + json.dumps(built).encode() + b"\n" + bytes(network._model))


class Runtime:
    def __init__(self, logger):
        if _fault("no-gpu"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        magic, _, rest = bytes(serialized_engine).partition(b"\n")
        if magic + b"\n" == _MAGIC:
            head, _, model = rest.partition(b"\n")
            built = json.loads(head)
            if built["version"] == __version__:
                return ICudaEngine(built, model, self._logger)
        self._logger.log(ILogger.Severity.INTERNAL_ERROR, "the engine plan file is not compatible")
        return None


class ICudaEngine:
    def __init__(self, built, model, logger):
        self._built, self._session, self._logger = built, _session(model), logger
        outputs = [output.name for output in self._session.get_outputs()]
        self._names = [*reversed(outputs), built["input"]]  # no order is promised

    @property
    def num_io_tensors(self):
        return len(self._names)

    def get_tensor_name(self, index):
        return self._names[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == self._built["input"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType.HALF if _fault("half") else DataType.FLOAT

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        return self._built["profile"]

    def create_execution_context(self):
        return None if _fault("no-context") else IExecutionContext(self)

    if _VERSION >= (10, 1):
        device_memory_size_v2 = 12345
    else:
        device_memory_size = 12345


class IExecutionContext:
    def __init__(self, engine):
        self._engine, self._shape, self._addresses = engine, None, {}
        self._shapes_set, self._warm = 0, False

    def set_input_shape(self, name, shape):
        low, _, high = self._engine._built["profile"]
        if _fault("shape") or not all(
            a <= n <= b for a, n, b in zip(low, shape, high, strict=True)
        ):
            self._engine._logger.log(ILogger.Severity.ERROR, "shape outside of the profile")
            return False
        assert name == self._engine._built["input"]
        self._shape, self._warm = tuple(shape), False
        self._shapes_set += 1
        return True

    def infer_shapes(self):
        return ["image"] if _fault("infer") else []

    def get_tensor_shape(self, name):
        (described,) = [t for t in self._engine._session.get_outputs() if t.name == name]
        return [n if isinstance(n, int) else self._shape[0] for n in described.shape]

    def set_tensor_address(self, name, memory):
        assert type(memory) is int
        self._addresses[name] = memory
        return not _fault("address")

    def execute_async_v3(self, stream_handle):
        stream = _device.stream_of(stream_handle)
        capturing = stream.recording is not None
        _device.counts["enqueued"] += 1
        if _fault("execute") or (capturing and (_fault("capture") or not self._warm)):
            self._engine._logger.log(ILogger.Severity.ERROR, "enqueue failed")
            return False
        self._warm = True
        shape, shapes_set = self._shape, self._shapes_set

        def work():
            assert shapes_set == self._shapes_set, "a graph outlived the shape it was captured for"
            self._compute(shape)

        stream.submit(work)
        return True

    def _compute(self, shape):
        name = self._engine._built["input"]
        n_bytes = int(_np.prod(shape)) * 4
        data = _np.frombuffer(_device.read(self._addresses[name], n_bytes), _np.float32)
        outputs = self._engine._session.run(None, {name: data.reshape(shape)})
        for described, output in zip(self._engine._session.get_outputs(), outputs, strict=True):
            _device.write(self._addresses[described.name], output.tobytes())

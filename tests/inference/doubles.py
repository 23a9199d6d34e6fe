"""A GPU of host memory and a TensorRT that executes through ONNX Runtime, for tests without either.

The stream is lazy, as a GPU's is: a copy or an execution happens when somebody waits for a mark behind it, and not
before. So an adapter that reads a result too early, or writes over what is still to be copied, gives wrong numbers.
"""

import ctypes
import enum
import threading
from collections import deque

import numpy as np
import onnxruntime as ort

from streamguard.errors import BackendError
from streamguard.inference.memory import Gpu

STREAMS = {}  # handle -> HostMemory, for the executions


class HostMemory:
    """The device-memory port on host memory. ``fail`` names the calls that the device refuses from now on."""

    def __init__(self, capability=(8, 9)):
        self.gpu = Gpu("Host GPU", capability)
        self.stream = id(self)
        self.fail = set()
        self.closed = False
        self.marks = 0
        self._owner = threading.get_ident()
        self._work = deque()
        self._held = {}
        STREAMS[self.stream] = self

    def _check(self, call):
        assert threading.get_ident() == self._owner, f"{call} outside of the owning thread"
        assert not self.closed, f"{call} after close"
        if call in self.fail:
            raise BackendError(f"{call} failed: the device is gone")

    def alloc(self, size):
        self._check("alloc")
        array = np.full(size, 0xA5, np.uint8)
        self._held[array.ctypes.data] = array
        return array.ctypes.data

    def pinned(self, size):
        self._check("pinned")
        return np.full(size, 0x5A, np.uint8)

    def h2d(self, address, host):
        self._check("h2d")
        self._put(lambda: ctypes.memmove(self._room(address, host.nbytes), host.ctypes.data, host.nbytes))

    def d2h(self, host, address):
        self._check("d2h")
        self._put(lambda: ctypes.memmove(host.ctypes.data, self._room(address, host.nbytes), host.nbytes))

    def execute(self, work):
        self._put(work)

    def _put(self, work):
        self._work.append(work)

    def _room(self, address, size):
        assert self._held[address].nbytes >= size, "outside of the allocation"
        return address

    def mark(self):
        self._check("mark")
        self.marks += 1
        mark = self.marks
        reached = []
        self._put(lambda: reached.append(mark))
        return reached

    def wait(self, mark):
        self._check("wait")
        while not mark:
            self._work.popleft()()

    def close(self):
        self._check("close")
        self.closed = True
        del STREAMS[self.stream]


class DataType(enum.Enum):
    FLOAT = "float32"
    UINT8 = "uint8"


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class Logger:
    ERROR = 1

    def __init__(self, min_severity):
        assert min_severity == Logger.ERROR


class IExecutionContext:
    """Takes shapes and addresses; what it was told counts at the moment of the execution's start."""

    def __init__(self, engine):
        self._engine = engine
        self._shape = None
        self._addresses = {}

    def set_input_shape(self, name, shape):
        least, most = 1, 8
        fits = name == self._engine.input and shape[1:] == self._engine.get_tensor_shape(name)[1:]
        if not fits or not least <= shape[0] <= most:
            return False
        self._shape = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return name in (self._engine.input, self._engine.output)

    def execute_async_v3(self, stream_handle):
        device, shape, addresses = STREAMS.get(stream_handle), self._shape, dict(self._addresses)
        if device is None:  # the stream of another adapter, whose device pointers are the host's and which never waits
            self._execute(shape, addresses)
            return True
        if "execute" in device.fail:
            return False
        device.execute(lambda: self._execute(shape, addresses))
        return True

    def _execute(self, shape, addresses):
        size = int(np.prod(shape))
        batch = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses[self._engine.input]))
        (result,) = self._engine.session.run(None, {self._engine.input: batch.reshape(shape)})
        ctypes.memmove(addresses[self._engine.output], np.ascontiguousarray(result).ctypes.data, result.nbytes)


class ICudaEngine:
    """A "plan" is a prepared ONNX model here."""

    def __init__(self, model):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    @property
    def num_io_tensors(self):
        return 2

    def get_tensor_name(self, index):
        return (self.input, self.output)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == self.input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        found = (self.session.get_inputs() if name == self.input else self.session.get_outputs())[0].type
        return {"tensor(uint8)": DataType.UINT8, "tensor(float)": DataType.FLOAT}.get(found, found)

    def get_tensor_shape(self, name):
        ends = self.session.get_inputs() if name == self.input else self.session.get_outputs()
        return (-1, *ends[0].shape[1:])

    def create_execution_context(self):
        return IExecutionContext(self)


class Runtime:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, serialized_engine):
        """None for what is no plan, as the real one."""
        try:
            return ICudaEngine(serialized_engine)
        except ort.capi.onnxruntime_pybind11_state.InvalidProtobuf:
            return None


class TensorRt:
    """The module: what the adapter may use of it. `test_tensorrt.py` holds that against the real one."""

    __version__ = "11.4.0"
    Logger, Runtime, TensorIOMode = Logger, Runtime, TensorIOMode
    uint8, float32 = DataType.UINT8, DataType.FLOAT

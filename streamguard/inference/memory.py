"""The device-memory port: what a CUDA adapter needs of a GPU besides TensorRT, and nothing more.

Memory, page-locked host memory, one stream, copies in it and marks behind them. Two adapters, tried in this
order: pycuda (no wheels: compiled at installation), then NVIDIA's own ``cuda-bindings`` (wheels). Both take the
device's primary context, which TensorRT's runtime takes too, and push it in the thread that opens them. That
thread alone uses and closes them: pycuda refuses to free memory anywhere else.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from streamguard.errors import BackendError, EngineError
from streamguard.frames import U8

_NON_BLOCKING: Final = 1
"""CU_STREAM_NON_BLOCKING, which pycuda has no name for: the stream waits for nobody else's work."""


class Gpu(NamedTuple):
    """A device: its name and compute capability, such as (8, 9)."""

    name: str
    capability: tuple[int, int]


class DeviceMemory(Protocol):
    """An open device. Every method raises :class:`BackendError` when the device refuses or is lost."""

    @property
    def gpu(self) -> Gpu:
        """Which device it is."""

    @property
    def stream(self) -> int:
        """Handle of the one stream that copies, marks and kernels are put in."""

    def alloc(self, size: int) -> int:
        """Address of ``size`` bytes on the device, held until :meth:`close`."""

    def pinned(self, size: int) -> U8:
        """(size,) uint8 of page-locked host memory, valid until :meth:`close`."""

    def h2d(self, address: int, host: U8) -> None:
        """Put a copy to the device in the stream; ``host`` must not change before the mark behind it."""

    def d2h(self, host: U8, address: int) -> None:
        """Put a copy from the device in the stream; ``host`` is filled at the mark behind it."""

    def mark(self) -> object:
        """Put a mark in the stream."""

    def wait(self, mark: object) -> None:
        """Sleep until the stream has reached ``mark``."""

    def close(self) -> None:
        """Free everything and let go of the device."""


class PyCudaMemory:
    """The port on ``pycuda.driver``, given as a module. Never ``pycuda.autoinit``: its context is the importer's.

    Raises:
        EngineError: no such device.
    """

    def __init__(self, driver: Any, device: int = 0) -> None:
        self._driver = driver
        with ExitStack() as undo:
            try:
                driver.init()
                found = driver.Device(device)
                self.gpu = Gpu(found.name(), found.compute_capability())
                self._context = found.retain_primary_context()
                undo.callback(self._context.detach)
                self._context.push()
                undo.callback(self._context.pop)
                self._stream = driver.Stream(_NON_BLOCKING)
            except driver.Error as error:
                raise EngineError(f"pycuda can't use GPU {device}: {error}") from error
            undo.pop_all()
        self.stream: int = self._stream.handle
        flags = driver.event_flags
        self._mark_flags = flags.BLOCKING_SYNC | flags.DISABLE_TIMING
        self._held: list[Any] = []

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._driver.Error as error:
            raise BackendError(f"GPU '{self.gpu.name}': {error}") from error

    def alloc(self, size: int) -> int:
        allocation = self._call(self._driver.mem_alloc, size)
        self._held.append(allocation)
        return int(allocation)

    def pinned(self, size: int) -> U8:
        array = self._call(self._driver.pagelocked_empty, size, np.uint8)
        self._held.append(array.base)
        return np.asarray(array, np.uint8)

    def h2d(self, address: int, host: U8) -> None:
        self._call(self._driver.memcpy_htod_async, address, host, self._stream)

    def d2h(self, host: U8, address: int) -> None:
        self._call(self._driver.memcpy_dtoh_async, host, address, self._stream)

    def mark(self) -> object:
        event = self._call(self._driver.Event, self._mark_flags)
        return self._call(event.record, self._stream)

    def wait(self, mark: Any) -> None:
        self._call(mark.synchronize)

    def close(self) -> None:
        with suppress(self._driver.Error):  # a lost device has freed everything itself
            for held in self._held:
                held.free()
        self._held.clear()
        del self._stream
        self._context.pop()
        self._context.detach()


class CudaBindingsMemory:
    """The port on ``cuda.bindings.driver``, given as a module.

    Raises:
        EngineError: no such device.
    """

    def __init__(self, driver: Any, device: int = 0) -> None:
        self._driver = driver
        self.gpu = Gpu(f"number {device}", (0, 0))
        with ExitStack() as undo:
            try:
                self._call(driver.cuInit, 0)
                self._device = self._call(driver.cuDeviceGet, device)
                self.gpu = Gpu(self._name(), self._capability())
                self._context = self._call(driver.cuDevicePrimaryCtxRetain, self._device)
                undo.callback(driver.cuDevicePrimaryCtxRelease, self._device)
                self._call(driver.cuCtxPushCurrent, self._context)
                undo.callback(driver.cuCtxPopCurrent)
                self._stream = self._call(driver.cuStreamCreate, _NON_BLOCKING)
            except (BackendError, RuntimeError) as error:  # RuntimeError: the package finds no driver to call
                raise EngineError(f"cuda-bindings can't use GPU {device}: {error}") from error
            undo.pop_all()
        self.stream: int = int(self._stream)
        flags = driver.CUevent_flags
        self._mark_flags = flags.CU_EVENT_BLOCKING_SYNC.value | flags.CU_EVENT_DISABLE_TIMING.value
        self._allocated: list[Any] = []
        self._pinned: list[int] = []

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a driver call that returns ``(CUresult,)`` or ``(CUresult, result)``."""
        status, *result = function(*arguments)
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise BackendError(f"GPU '{self.gpu.name}': {function.__name__} failed: {status.name}")
        return result[0] if result else None

    def _name(self) -> str:
        raw: bytes = self._call(self._driver.cuDeviceGetName, 256, self._device)
        return raw.partition(b"\0")[0].decode()

    def _capability(self) -> tuple[int, int]:
        kinds = self._driver.CUdevice_attribute
        major, minor = (
            self._call(self._driver.cuDeviceGetAttribute, kind, self._device)
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        return int(major), int(minor)

    def alloc(self, size: int) -> int:
        self._allocated.append(self._call(self._driver.cuMemAlloc, size))
        return int(self._allocated[-1])

    def pinned(self, size: int) -> U8:
        address = int(self._call(self._driver.cuMemHostAlloc, size, 0))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def h2d(self, address: int, host: U8) -> None:
        self._call(self._driver.cuMemcpyHtoDAsync, address, host.ctypes.data, host.nbytes, self._stream)

    def d2h(self, host: U8, address: int) -> None:
        self._call(self._driver.cuMemcpyDtoHAsync, host.ctypes.data, address, host.nbytes, self._stream)

    def mark(self) -> object:
        event = self._call(self._driver.cuEventCreate, self._mark_flags)
        self._call(self._driver.cuEventRecord, event, self._stream)
        return event

    def wait(self, mark: Any) -> None:
        self._call(self._driver.cuEventSynchronize, mark)
        self._call(self._driver.cuEventDestroy, mark)

    def close(self) -> None:
        # Statuses are not looked at: a lost device has freed everything itself.
        for address in self._allocated:
            self._driver.cuMemFree(address)
        for pinned in self._pinned:
            self._driver.cuMemFreeHost(pinned)
        self._allocated, self._pinned = [], []
        self._driver.cuStreamDestroy(self._stream)
        self._driver.cuCtxPopCurrent()
        self._driver.cuDevicePrimaryCtxRelease(self._device)


_ADAPTERS: Final[tuple[tuple[str, Callable[[Any, int], DeviceMemory]], ...]] = (
    ("pycuda.driver", PyCudaMemory),
    ("cuda.bindings.driver", CudaBindingsMemory),
)


def open_memory(device: int = 0) -> DeviceMemory:
    """The GPU of that number, through the first library that reaches it. The calling thread owns it.

    Raises:
        EngineError: no library is installed, or there is no driver or no such device; with each one's reason.
    """
    reasons: list[str] = []
    for module, adapter in _ADAPTERS:
        try:
            return adapter(importlib.import_module(module), device)
        except ImportError as error:
            reasons.append(f"{module} can't be imported ({error})")
        except EngineError as error:
            reasons.append(str(error).rstrip("."))
    raise EngineError(
        f"no NVIDIA GPU can be used: {'; '.join(reasons)}. "
        "Install NVIDIA's driver and `pip install 'streamguard[tensorrt]'`, or choose backend openvino."
    )

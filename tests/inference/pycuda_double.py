"""`pycuda.driver` on host memory: the names and signatures of pycuda 2026.1 that the adapter uses, nothing else."""

import ctypes
from types import SimpleNamespace

import numpy as np


class Error(Exception):
    pass


event_flags = SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
calls = []
refused = set()


def _call(name):
    calls.append(name)
    if name in refused:
        raise Error(f"{name} failed: unspecified launch failure")


def init(flags=0):
    _call("cuInit")


class Context:
    def push(self):
        _call("cuCtxPushCurrent")

    @staticmethod
    def pop():
        _call("cuCtxPopCurrent")

    def detach(self):
        _call("cuDevicePrimaryCtxRelease")


class Device:
    def __init__(self, number):
        self.number = number

    def name(self):
        return "Double GPU"

    def compute_capability(self):
        return (7, 5)

    def retain_primary_context(self):
        _call("cuDevicePrimaryCtxRetain")
        return Context()


class Stream:
    handle = 0x57

    def __init__(self, flags=0):
        _call("cuStreamCreate")
        assert flags == 1


class Event:
    def __init__(self, flags=0):
        assert flags == 3

    def record(self, stream=None):
        assert isinstance(stream, Stream)
        return self

    def synchronize(self):
        _call("cuEventSynchronize")
        return self


class Allocation:
    """Of the device, and of page-locked memory."""

    def __init__(self, size):
        self.array = np.zeros(size, np.uint8)

    def __int__(self):
        return self.array.ctypes.data

    def free(self):
        _call("free")


class _Pinned(np.ndarray):
    @property
    def base(self):
        return self.allocation


def mem_alloc(bytes):
    _call("cuMemAlloc")
    return Allocation(bytes)


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    _call("cuMemHostAlloc")
    array = np.zeros(shape, dtype).view(_Pinned)
    array.allocation = Allocation(1)
    return array


def memcpy_htod_async(dest, src, stream=None):
    assert isinstance(stream, Stream)
    _call("cuMemcpyHtoDAsync")
    ctypes.memmove(dest, src.ctypes.data, src.nbytes)


def memcpy_dtoh_async(dest, src, stream=None):
    assert isinstance(stream, Stream)
    ctypes.memmove(dest.ctypes.data, src, dest.nbytes)

/* A CUDA driver without a device: its memory is the host's, its streams execute at once. What the adapters of
   streamguard/inference/memory.py call, and nothing else; no other call is found. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, LAUNCH_FAILED = 719 };

static int held, pushed, retained; /* what a tidy user brings back to 0 */

static int asked(const char *what) {
    const char *wanted = getenv("FAKE_CUDA");
    return wanted && strcmp(wanted, what) == 0;
}

CUresult cuInit(unsigned flags) { return asked("no device") ? NO_DEVICE : flags ? INVALID_VALUE : OK; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return OK; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return OK; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = 0; return ordinal ? INVALID_DEVICE : OK; }
CUresult cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Fake GPU"); return OK; }
CUresult cuDeviceGetAttribute(int *value, int kind, int device) { *value = kind == 75 ? 8 : 6; return OK; }
CUresult cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 8; *minor = 6; return OK; }
CUresult cuGetErrorString(CUresult error, const char **text) { *text = "as the test asked for"; return OK; }
CUresult cuDevicePrimaryCtxRetain(void **context, int device) { retained++; *context = &held; return OK; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { retained--; return OK; }
CUresult cuCtxPushCurrent_v2(void *context) { pushed++; return OK; }
CUresult cuCtxPopCurrent_v2(void **context) { pushed--; *context = &held; return OK; }

static CUresult take(void **room, size_t size) {
    if (asked("no memory")) return OUT_OF_MEMORY;
    held++;
    return (*room = malloc(size)) ? OK : OUT_OF_MEMORY;
}
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) { return take((void **)address, size); }
CUresult cuMemFree_v2(CUdeviceptr address) { held--; free((void *)address); return OK; }
CUresult cuMemHostAlloc(void **room, size_t size, unsigned flags) { return flags ? INVALID_VALUE : take(room, size); }
CUresult cuMemFreeHost(void *room) { held--; free(room); return OK; }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *stream) {
    if (asked("lost")) return LAUNCH_FAILED;
    memcpy((void *)to, from, size);
    return OK;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *stream) {
    memcpy(to, (void *)from, size);
    return OK;
}
CUresult cuStreamCreate(void **stream, unsigned flags) {
    if (flags != 1 || asked("no stream")) return INVALID_VALUE;
    held++;
    *stream = (void *)0x57;
    return OK;
}
CUresult cuStreamDestroy_v2(void *stream) { held--; return OK; }
CUresult cuEventCreate(void **event, unsigned flags) {
    if (flags != 3) return INVALID_VALUE;
    held++;
    *event = (void *)0xE7;
    return OK;
}
CUresult cuEventRecord(void *event, void *stream) { return stream == (void *)0x57 ? OK : INVALID_VALUE; }
CUresult cuEventSynchronize(void *event) { return OK; }
CUresult cuEventDestroy_v2(void *event) { held--; return OK; }

/* For the test: what is left. */
int fake_cuda_left(void) { return held + 100 * pushed + 10000 * retained; }

/* How cuda-bindings finds the rest. */
CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *status) {
    char name[128];
    snprintf(name, sizeof name, "%s_v2", symbol);
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function) *function = dlsym(RTLD_DEFAULT, symbol);
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : 500;
}
CUresult cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

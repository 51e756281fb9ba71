// Devices, contexts and memory. Device memory is host memory between inaccessible pages: an access beyond either
// end of an allocation, or to one that was freed, is a fault, which launch.c reports. Fresh memory is NaN.
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *gpu_name(void) {
    switch (settings.sm) {
    case 70: return "Tesla V100-SXM2-32GB";
    case 75: return "Tesla T4";
    case 80: return "NVIDIA A100-SXM4-80GB";
    case 86: return "NVIDIA GeForce RTX 3090";
    case 89: return "NVIDIA GeForce RTX 4090";
    case 90: return "NVIDIA H100 80GB HBM3";
    }
    return "Mock GPU";
}

CUresult cuInit(unsigned flags) { init(); return OK; }
CUresult cuDriverGetVersion(int *version) { init(); *version = settings.driver; return OK; }
CUresult cuDeviceGetCount(int *count) { init(); *count = settings.devices; return OK; }
CUresult cuDeviceGet(CUdevice *device, int index) {
    init();
    if (index < 0 || index >= settings.devices) return INVALID_DEVICE;
    *device = index;
    return OK;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { init(); snprintf(name, length, "%s", gpu_name()); return OK; }
CUresult cuDeviceGetUuid(char *uuid, CUdevice device) { memset(uuid, 7 + device, 16); return OK; }
CUresult cuDeviceGetUuid_v2(char *uuid, CUdevice device) { return cuDeviceGetUuid(uuid, device); }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { init(); *bytes = settings.memory_gb * 1000000000ull; return OK; }
CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device) { snprintf(id, length, "0000:%02x:00.0", 0x17 + device); return OK; }
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    init();
    switch (attribute) {
    case 1: *value = 1024; break;               // threads per block
    case 2: case 3: *value = 1024; break;       // block x, y
    case 4: *value = 64; break;                 // block z
    case 5: *value = 2147483647; break;         // grid x
    case 6: case 7: *value = 65535; break;      // grid y, z
    case 8: *value = 49152; break;              // shared memory per block
    case 9: *value = 65536; break;              // constant memory
    case 10: *value = 32; break;                // threads per warp
    case 12: *value = 65536; break;             // registers per block
    case 13: *value = 1410000; break;           // clock in kHz
    case 16: *value = sm_count(); break;
    case 39: *value = threads_per_sm(); break;
    case 41: *value = 1; break;                 // unified addressing
    case 75: *value = settings.sm / 10; break;
    case 76: *value = settings.sm % 10; break;
    case 81: *value = shared_per_sm(); break;
    case 82: *value = 65536; break;             // registers per multiprocessor
    case 97: *value = shared_limit(); break;
    case 115: *value = 1; break;                // memory pools
    default:
        *value = 0;
        write_report("ATTRIBUTE", "%d asked, 0 answered", attribute);
    }
    return OK;
}

static int context;
static __thread void *current;
CUresult need_context(const char *call) {
    if (current) return OK;
    write_report("PROBLEM", "%s without a current context on this thread", call);
    return INVALID_CONTEXT;
}
CUresult cuDevicePrimaryCtxRetain(void **c, CUdevice device) { *c = &context; return OK; }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return OK; }
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) { return OK; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) { *flags = 0; *active = 1; return OK; }
CUresult cuCtxSetCurrent(void *c) { current = c; return OK; }
CUresult cuCtxGetCurrent(void **c) { *c = current; return OK; }
CUresult cuCtxGetDevice(CUdevice *device) { *device = 0; return OK; }
CUresult cuCtxSynchronize(void) { counts[C_SYNC]++; queue_finish_all(); return OK; }
CUresult cuCtxSetFlags(unsigned flags) { return OK; }
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return OK;
}

enum { PAGE = 4096, ALIGN = 256, FILL = 0xff, QUARANTINE = 4096 };
enum kind { DEVICE, DEVICE_ASYNC, HOST };
struct allocation {
    CUdeviceptr at;      // a multiple of ALIGN that ends within ALIGN of the page behind
    size_t size;
    char *pages;         // with the inaccessible page in front
    size_t mapped;
    enum kind kind;
};
static struct allocation *table;
static size_t used, room;
// The last ones that were freed: their addresses stay inaccessible.
static struct allocation freed[QUARANTINE];
static size_t freed_count;

static size_t up(size_t size, size_t to) { return (size + to - 1) / to * to; }

static CUresult allocate(CUdeviceptr *p, size_t size, enum kind kind) {
    if (size == 0) {
        write_report("PROBLEM", "allocation of 0 bytes");
        return INVALID_VALUE;
    }
    pthread_mutex_lock(&lock);
    if (counts[C_LIVE_BYTES] + size > settings.memory_gb * 1000000000ull) {
        pthread_mutex_unlock(&lock);
        write_report("OOM", "%zu bytes with %llu live", size, counts[C_LIVE_BYTES]);
        return OUT_OF_MEMORY;
    }
    size_t body = up(size, PAGE), mapped = body + 2 * PAGE;
    char *pages = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, body, PROT_READ | PROT_WRITE)) {
        pthread_mutex_unlock(&lock);
        write_report("OOM", "%zu bytes: the host has no room", size);
        return OUT_OF_MEMORY;
    }
    // Without execution all results are zeros, so that losses are finite and the optimizer's step runs.
    if (settings.exec) memset(pages + PAGE, FILL, body);
    if (used == room) {
        room = room ? 2 * room : 1024;
        table = realloc(table, room * sizeof *table);
    }
    struct allocation a = {(CUdeviceptr)(pages + PAGE + body - up(size, ALIGN)), size, pages, mapped, kind};
    table[used++] = a;
    counts[C_ALLOC]++;
    if (kind != HOST) {
        counts[C_ALLOC_BYTES] += size;
        counts[C_LIVE_BYTES] += size;
        if (counts[C_LIVE_BYTES] > counts[C_PEAK_BYTES]) counts[C_PEAK_BYTES] = counts[C_LIVE_BYTES];
    }
    *p = a.at;
    unsigned long long live = counts[C_LIVE_BYTES];
    pthread_mutex_unlock(&lock);
    if (kind != HOST) log_launch("alloc\t%zu\t%llu\n", size, live);
    return OK;
}

// Whether the bytes between the allocation and its inaccessible pages are as they were.
static int borders_hold(const struct allocation *a) {
    if (!settings.exec) return 1;
    const unsigned char *from = (unsigned char *)a->pages + PAGE, *at = (unsigned char *)a->at;
    const unsigned char *end = (unsigned char *)a->pages + a->mapped - PAGE;
    for (; from < at; from++) if (*from != FILL) return 0;
    for (at += a->size; at < end; at++) if (*at != FILL) return 0;
    return 1;
}

CUresult memory_release(CUdeviceptr p, const char *call) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < used; i++) if (table[i].at == p) {
        struct allocation a = table[i];
        if (!borders_hold(&a)) write_report("PROBLEM", "%s: written beside the allocation of %zu bytes at %llx", call, a.size, p);
        if (a.kind != HOST) counts[C_LIVE_BYTES] -= a.size;
        table[i] = table[--used];
        counts[C_FREE]++;
        madvise(a.pages, a.mapped, MADV_DONTNEED);
        mprotect(a.pages, a.mapped, PROT_NONE);
        struct allocation *oldest = &freed[freed_count++ % QUARANTINE];
        if (oldest->pages) munmap(oldest->pages, oldest->mapped);
        *oldest = a;
        pthread_mutex_unlock(&lock);
        return OK;
    }
    pthread_mutex_unlock(&lock);
    write_report("PROBLEM", "%s of unknown pointer %llx", call, p);
    return INVALID_VALUE;
}

size_t reach(CUdeviceptr p) {
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < used && !bytes; i++)
        if (p >= table[i].at && p < table[i].at + table[i].size) bytes = table[i].at + table[i].size - p;
    pthread_mutex_unlock(&lock);
    return bytes;
}

int is_pinned(const void *p) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < used && !found; i++)
        found = table[i].kind == HOST && (CUdeviceptr)p >= table[i].at && (CUdeviceptr)p < table[i].at + table[i].size;
    pthread_mutex_unlock(&lock);
    return found;
}

// Called from a signal handler: without the lock.
void describe(CUdeviceptr p, char *text, size_t size) {
    const struct allocation *lists[] = {table, freed};
    size_t lengths[] = {used, freed_count < QUARANTINE ? freed_count : QUARANTINE};
    for (int list = 0; list < 2; list++) for (size_t i = 0; i < lengths[list]; i++) {
        const struct allocation *a = &lists[list][i];
        if (p < (CUdeviceptr)a->pages || p >= (CUdeviceptr)a->pages + a->mapped) continue;
        snprintf(text, size, "%lld bytes from the beginning of %s allocation of %zu bytes", (long long)(p - a->at),
                 list ? "a freed" : "an", a->size);
        return;
    }
    snprintf(text, size, "in no allocation");
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t size) {
    if (capturing()) {
        write_report("PROBLEM", "cuMemAlloc of %zu bytes while capturing", size);
        return CAPTURE_UNSUPPORTED;
    }
    CUresult result = need_context("cuMemAlloc");
    return result ? result : allocate(p, size, DEVICE);
}
CUresult cuMemAllocAsync(CUdeviceptr *p, size_t size, struct stream *s) {
    CUresult result = need_context("cuMemAllocAsync");
    return result ? result : allocate(p, size, DEVICE_ASYNC);
}
// Freeing waits for all work.
CUresult cuMemFree_v2(CUdeviceptr p) { queue_finish_all(); return memory_release(p, "cuMemFree"); }
CUresult cuMemFreeAsync(CUdeviceptr p, struct stream *s) { queue_free(s, p); return OK; }
CUresult cuMemAllocHost_v2(void **p, size_t size) {
    CUdeviceptr at = 0;
    CUresult result = allocate(&at, size, HOST);
    *p = (void *)at;
    return result;
}
CUresult cuMemHostAlloc(void **p, size_t size, unsigned flags) { return cuMemAllocHost_v2(p, size); }
CUresult cuMemFreeHost(void *p) { queue_finish_all(); return memory_release((CUdeviceptr)p, "cuMemFreeHost"); }
CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    *total = settings.memory_gb * 1000000000ull;
    *available = *total - counts[C_LIVE_BYTES];
    return OK;
}
CUresult cuDeviceGetDefaultMemPool(void **pool, CUdevice device) { *pool = &context; return OK; }
CUresult cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return OK; }
CUresult cuMemPoolGetAttribute(void *pool, int attribute, void *value) { *(uint64_t *)value = 0; return OK; }
CUresult cuMemPoolTrimTo(void *pool, size_t size) { return OK; }

static CUresult check(CUdeviceptr p, size_t size, const char *call) {
    if (!size || reach(p) >= size) return OK;
    write_report("PROBLEM", "%s: %zu bytes at %llx, where %zu are allocated", call, size, p, reach(p));
    return INVALID_VALUE;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, struct stream *s) {
    if (check(to, size, "copy to device")) return INVALID_VALUE;
    counts[C_H2D]++;
    counts[C_H2D_BYTES] += size;
    queue_copy(s, (void *)to, from, size, 1, is_pinned(from));
    return OK;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, struct stream *s) {
    if (check(from, size, "copy to host")) return INVALID_VALUE;
    counts[C_D2H]++;
    counts[C_D2H_BYTES] += size;
    queue_copy(s, to, (void *)from, size, 0, is_pinned(to));
    log_launch("d2h\t%zu\n", size);
    return OK;
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, struct stream *s) {
    if (check(to, size, "copy on device") || check(from, size, "copy on device")) return INVALID_VALUE;
    counts[C_D2D]++;
    queue_copy(s, (void *)to, (void *)from, size, 1, 1);
    return OK;
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
    CUresult result = cuMemcpyHtoDAsync_v2(to, from, size, 0);
    queue_finish(0, 0);
    return result;
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
    CUresult result = cuMemcpyDtoHAsync_v2(to, from, size, 0);
    queue_finish(0, 0);
    return result;
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, void *a, CUdeviceptr from, void *b, size_t size, struct stream *s) {
    return cuMemcpyDtoDAsync_v2(to, from, size, s);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, struct stream *s) {
    if (check(to, size, "memset")) return INVALID_VALUE;
    queue_set(s, (void *)to, value, size);
    return OK;
}

// CUDA_MEMCPY2D: x in bytes, y, memory type (1 host, 2 device), pointers, pitch.
struct side { size_t x, y; unsigned type; const void *host; CUdeviceptr device; void *array; size_t pitch; };
struct copy2d { struct side from, to; size_t width, height; };
static char *begin(const struct side *s) { return s->type == 2 ? (char *)s->device : (char *)s->host; }
CUresult cuMemcpy2DAsync_v2(const struct copy2d *c, struct stream *s) {
    const struct side *sides[] = {&c->from, &c->to};
    for (int i = 0; i < 2; i++) {
        const struct side *side = sides[i];
        if (c->width + side->x > side->pitch) {
            write_report("PROBLEM", "2D copy: rows of %zu bytes from %zu with a pitch of %zu", c->width, side->x, side->pitch);
            return INVALID_VALUE;
        }
        size_t last = side->pitch * (side->y + c->height - 1) + side->x + c->width;
        if (side->type == 2 && c->height && check(side->device, last, "2D copy")) return INVALID_VALUE;
    }
    if (c->from.type == 2) {
        counts[C_D2H]++;
        counts[C_D2H_BYTES] += c->width * c->height;
        log_launch("d2h\t%zu\n", c->width * c->height);
    } else {
        counts[C_H2D]++;
        counts[C_H2D_BYTES] += c->width * c->height;
    }
    int is_to_device = c->to.type == 2;
    for (size_t y = 0; y < c->height; y++) {
        char *to = begin(&c->to) + (c->to.y + y) * c->to.pitch + c->to.x, *from = begin(&c->from) + (c->from.y + y) * c->from.pitch + c->from.x;
        queue_copy(s, to, from, c->width, is_to_device, is_pinned(is_to_device ? from : to));
    }
    return OK;
}

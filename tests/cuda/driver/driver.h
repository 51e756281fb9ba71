// A CUDA driver without a GPU: what its parts share. See ../README.md.
#pragma once
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;

// Result codes of the driver API.
enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY = 209,
    UNSUPPORTED_PTX = 222,
    NOT_FOUND = 500,
    LAUNCH_RESOURCES = 701,
    CAPTURE_UNSUPPORTED = 900,
};

enum exec_mode { EXEC_NONE, EXEC_STRICT, EXEC_SKIP };

// Settings, from the environment (report.c).
extern struct settings {
    int sm, driver, devices, log_launches, memory_gb;
    enum exec_mode exec;
    const char *out, *ptxas;
} settings;

// Counters of the last line of the report.
enum count {
    C_MODULE, C_LAUNCH, C_CAPTURED, C_ALLOC, C_FREE, C_H2D, C_D2H, C_D2D, C_SYNC, C_EVENT, C_WAIT, C_GRAPH,
    C_PROBLEM, C_EXECUTED, C_NOT_EXECUTED, C_H2D_BYTES, C_D2H_BYTES, C_ALLOC_BYTES, C_LIVE_BYTES, C_PEAK_BYTES, C_COUNTS
};
extern unsigned long long counts[C_COUNTS];
extern pthread_mutex_t lock;

void init(void);
// One line of report.tsv; PROBLEM lines go to stderr too.
void write_report(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_launch(const char *format, ...) __attribute__((format(printf, 1, 2)));
// A rule of the driver broken in a way that no error code reports: reports it and ends the process.
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Contexts and memory (memory.c).
CUresult need_context(const char *call);
// The bytes from p to the end of its allocation; 0 if it is in none.
size_t reach(CUdeviceptr p);
// Whether p is page-locked host memory.
int is_pinned(const void *p);
CUresult memory_release(CUdeviceptr p, const char *call);
// What lies at an address, for error messages.
void describe(CUdeviceptr p, char *text, size_t size);

// Streams and graphs (stream.c).
struct stream;
struct launch {
    struct function *function;
    unsigned grid[3], block[3], shared;
    void **params;
};
// What a graph can hold. Without a launch, a copy to `to`, or if `from` is NULL, a fill with `value`.
struct operation {
    struct launch launch;
    void *to;
    const void *from;
    size_t size;
    int value;
};
int capturing(void);
int stream_captures(struct stream *s);
int stream_number(struct stream *s);
void stream_record(struct stream *s, struct operation operation);
void device_time(double microseconds);

// The queues of streams (queue.c).
struct launch copy_launch(struct launch launch);
void queue_run(struct stream *s, struct launch launch);
void queue_copy(struct stream *s, void *to, const void *from, size_t size, int is_to_device, int is_pinned);
void queue_set(struct stream *s, void *to, int value, size_t size);
void queue_free(struct stream *s, CUdeviceptr p);
void queue_wait(struct stream *s, struct stream *other, unsigned long long until);
// Work of other libraries, such as NCCL's.
void queue_call(struct stream *s, void (*call)(void *), void *data);
unsigned long long queue_record(struct stream *s);
void queue_finish(struct stream *s, unsigned long long until);
void queue_finish_all(void);

// Modules (module.c) and launches (launch.c).
struct function {
    char name[256], file[64];
    int regs, static_shared, spill_store, spill_load, stack, dynamic_shared;
    int max_threads[3], params, *param_size;
    int barriers, mma, wmma, cp_async, ldmatrix, atomics, bulk;
    unsigned long long launches;
    double threads, blocks, bytes;
    struct module *owner;
    struct function *next;
};
struct module {
    int id;
    char *ptx;
    char file[64], base[512]; // base: NVRTC's cached source without .cu
    void *exec;
    int tried;
};
extern struct function *functions;
int shared_limit(void);
int shared_per_sm(void);
int sm_count(void);
int threads_per_sm(void);
// Whether a kernel can be executed on the CPU; runs it.
int can_execute(struct function *f);
int execute(const struct launch *launch);
void write_functions(void);

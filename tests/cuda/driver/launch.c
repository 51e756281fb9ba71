// Launches: checked by the architecture's limits, logged, and executed on the CPU if MOCK_EXEC is set.
#include "driver.h"
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PROBE = 25000 }; // microseconds

// CubeCL's probes of the device's speed: their results are never read.
static int is_probe(const struct function *f) {
    return strstr(f->name, "throughput") || strstr(f->name, "prime_buffer") || strstr(f->name, "launch_overhead");
}

static CUresult check(const struct function *f, const unsigned *g, const unsigned *b, unsigned shared) {
    unsigned long long threads = (unsigned long long)b[0] * b[1] * b[2];
#define BAD(code, ...) do { char text[512]; snprintf(text, sizeof text, __VA_ARGS__); \
        write_report("PROBLEM", "launch of %s %s: %s", f->file, f->name, text); return code; } while (0)
    if (!g[0] || !g[1] || !g[2] || g[1] > 65535 || g[2] > 65535 || g[0] > 2147483647u) BAD(INVALID_VALUE, "a grid of %u %u %u", g[0], g[1], g[2]);
    if (!threads || threads > 1024 || b[0] > 1024 || b[1] > 1024 || b[2] > 64) BAD(INVALID_VALUE, "blocks of %u %u %u", b[0], b[1], b[2]);
    if (shared > 49152 && (int)shared > f->dynamic_shared) BAD(INVALID_VALUE, "%u bytes of shared memory without the attribute", shared);
    if ((int)shared + f->static_shared > shared_limit()) BAD(INVALID_VALUE, "%u bytes of shared memory", shared + f->static_shared);
    int bytes = 0, most_bytes = settings.driver < 12010 ? 4096 : 32764;
    for (int i = 0; i < f->params; i++) bytes += f->param_size[i];
    if (bytes > most_bytes) BAD(INVALID_VALUE, "%d bytes of parameters, at most %d", bytes, most_bytes);
    if (f->regs > 0) {
        unsigned warps = (threads + 31) / 32, per_warp = (f->regs * 32 + 255) / 256 * 256;
        if (warps * per_warp > 65536) BAD(LAUNCH_RESOURCES, "%d registers for %llu threads", f->regs, threads);
    }
    const int *most = f->max_threads;
    if (most[0] && threads > (unsigned long long)most[0] * (most[1] ? most[1] : 1) * (most[2] ? most[2] : 1)) BAD(LAUNCH_RESOURCES, "%llu threads, above its launch bounds", threads);
    return OK;
}

// The sizes of the buffers among the arguments, with commas, and their sum: what a launch can read and write.
static size_t buffers(const struct function *f, void **params, char *text, size_t size) {
    size_t used = 0, sum = 0;
    *text = 0;
    for (int i = 0; i < f->params && used + 24 < size; i++) {
        CUdeviceptr p;
        if (f->param_size[i] != sizeof p) continue;
        memcpy(&p, params[i], sizeof p);
        size_t bytes = reach(p);
        sum += bytes;
        if (bytes) used += snprintf(text + used, size - used, "%s%zu", used ? "," : "", bytes);
    }
    return sum;
}

CUresult cuLaunchKernel(struct function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, struct stream *s, void **params, void **extra) {
    CUresult result = need_context("cuLaunchKernel");
    if (result) return result;
    struct launch launch = {f, {gx, gy, gz}, {bx, by, bz}, shared, params};
    if ((result = check(f, launch.grid, launch.block, shared))) return result;
    // CubeCL repeats the loop of a probe until a launch takes 20 ms by the host's clock. With less, the time per round
    // ends as 0, no rate is found, and the probe starts again for each tuned operation.
    if (strstr(f->name, "throughput")) usleep(PROBE);
    double blocks = (double)gx * gy * gz, threads = blocks * bx * by * bz;
    int records = stream_captures(s);
    char arguments[2000] = "";
    // Not counted in executed runs by default: each buffer is searched among many allocations, which is slow.
    size_t bytes = settings.exec == EXEC_NONE || settings.log_launches > 1 ? buffers(f, params, arguments, sizeof arguments) : 0;
    if (settings.log_launches < 2) *arguments = 0;
    pthread_mutex_lock(&lock);
    counts[C_LAUNCH]++;
    f->launches++;
    f->threads += threads;
    f->blocks += blocks;
    f->bytes += bytes;
    device_time(strstr(f->name, "throughput") ? PROBE : 3 + 2 * threads / (sm_count() * threads_per_sm()));
    if (records) {
        counts[C_CAPTURED]++;
        stream_record(s, (struct operation){.launch = launch});
    } else if (capturing() && s) {
        write_report("PROBLEM", "launch of %s on stream %d, which does not capture while another does", f->name, stream_number(s));
    }
    if (f->launches < 20000)
        log_launch("launch\t%s\t%u,%u,%u\t%u,%u,%u\t%u\t%d\t%d\t%s\t%s\n", f->file, gx, gy, gz, bx, by, bz, shared, stream_number(s), f->regs, f->name, arguments);
    pthread_mutex_unlock(&lock);
    if (settings.exec == EXEC_NONE || records) return OK;
    if (can_execute(f)) queue_run(s, launch);
    else if (settings.exec == EXEC_STRICT) return NO_BINARY;
    return OK;
}

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;
static const struct function *volatile running_function;
static char *shared_pages;
enum { SHARED_PAGES = 65 };

// A fault in a kernel: names the kernel, the thread and what lies at the address.
static void on_fault(int signal, siginfo_t *info, void *context) {
    const struct function *f = running_function;
    if (!f || f->owner->exec == NULL) {
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        return;
    }
    void (*position)(char *, size_t) = dlsym(f->owner->exec, "mock_position");
    char thread[200] = "", place[200];
    if (position) position(thread, sizeof thread);
    CUdeviceptr at = (CUdeviceptr)info->si_addr;
    if (signal == SIGILL) die("kernel %s (%s.cu), %s: a misaligned access", f->name, f->owner->base, thread);
    if (shared_pages && at >= (CUdeviceptr)shared_pages && at < (CUdeviceptr)shared_pages + (SHARED_PAGES + 1) * 4096)
        snprintf(place, sizeof place, "beyond the end of shared memory");
    else
        describe(at, place, sizeof place);
    die("kernel %s (%s.cu), %s: an access to %llx, %s", f->name, f->owner->base, thread, at, place);
}

static void watch_faults(void) {
    static int done;
    if (done) return;
    done = 1;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    // Dynamic shared memory ends where this ends: the page behind is inaccessible.
    shared_pages = mmap(NULL, (SHARED_PAGES + 1) * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(shared_pages + SHARED_PAGES * 4096, 4096, PROT_NONE);
}

static void translate(struct module *m, const struct function *f) {
    char so[700], command[3000];
    m->tried = 1;
    if (!m->base[0]) {
        write_report("NOEXEC", "%s %s: its source is unknown", m->file, f->name);
        return;
    }
    snprintf(so, sizeof so, "%s.so", m->base);
    if (access(so, R_OK)) {
        snprintf(command, sizeof command, "python3 '%s/exec.py' '%s.cu' '%s' '%s' 2> '%s.exec'", getenv("MOCK_HOME"), m->base, so, getenv("MOCK_INCLUDE"), m->base);
        if (system(command)) {
            write_report("NOEXEC", "%s %s (see %s.exec)", m->file, f->name, m->base);
            return;
        }
    }
    m->exec = dlopen(so, RTLD_NOW | RTLD_LOCAL);
    if (!m->exec) write_report("NOEXEC", "%s %s: %s", m->file, f->name, dlerror());
}

int can_execute(struct function *f) {
    struct module *m = f->owner;
    if (is_probe(f)) return 1;
    pthread_mutex_lock(&running);
    watch_faults();
    if (!m->tried) translate(m, f);
    if (!m->exec) counts[C_NOT_EXECUTED]++;
    pthread_mutex_unlock(&running);
    return m->exec != NULL;
}

int execute(const struct launch *launch) {
    struct function *f = launch->function;
    struct module *m = f->owner;
    if (is_probe(f)) return 1;
    pthread_mutex_lock(&running);
    if (m->exec) {
        void (*run)(void **, const unsigned *, const unsigned *, char *, unsigned) = dlsym(m->exec, "mock_launch");
        // A block's shared memory begins at a multiple of 128.
        unsigned shared = (launch->shared + 127) / 128 * 128;
        running_function = f;
        run(launch->params, launch->grid, launch->block, shared_pages + SHARED_PAGES * 4096 - shared, shared);
        running_function = NULL;
        counts[C_EXECUTED]++;
    }
    pthread_mutex_unlock(&running);
    return m->exec != NULL;
}

// Modules: parsed for their entries, assembled by ptxas for the architecture.
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct function *functions;
static int modules;

// What the architectures offer to a block and have per multiprocessor, in bytes.
int shared_limit(void) {
    switch (settings.sm) {
    case 70: return 98304;
    case 75: return 65536;
    case 80: case 87: return 166912;
    case 86: case 89: case 120: return 101376;
    case 90: case 100: return 232448;
    }
    return 49152;
}
int shared_per_sm(void) {
    switch (settings.sm) {
    case 70: return 98304;
    case 75: return 65536;
    case 80: case 87: return 167936;
    case 86: case 89: case 120: return 102400;
    case 90: case 100: return 233472;
    }
    return 65536;
}
int sm_count(void) {
    switch (settings.sm) {
    case 70: return 80;
    case 75: return 40;
    case 80: return 108;
    case 86: return 84;
    case 89: return 128;
    case 90: return 132;
    }
    return 64;
}
int threads_per_sm(void) {
    switch (settings.sm) {
    case 75: return 1024;
    case 86: case 89: case 120: return 1536;
    }
    return 2048;
}

static int count_of(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

// The size of a parameter from its PTX declaration, `.param .u64 name` or `.param .align 8 .b8 name[32]`.
static int param_size(const char *from, const char *end) {
    const char *bytes = strstr(from, ".b8 ");
    if (bytes && bytes < end) {
        const char *open = strchr(bytes, '[');
        if (open && open < end) return atoi(open + 1);
    }
    const char *type = from + 6;
    while (type < end && !(type[0] == '.' && strchr("usbf", type[1]) && type[2] >= '0' && type[2] <= '9')) type++;
    return type < end ? atoi(type + 2) / 8 : 8;
}

static void parse(struct module *m, struct function **list) {
    for (char *p = m->ptx; (p = strstr(p, ".entry "));) {
        struct function *f = calloc(1, sizeof *f);
        p += 7;
        size_t length = strcspn(p, "( \n");
        snprintf(f->name, sizeof f->name, "%.*s", (int)length, p);
        snprintf(f->file, sizeof f->file, "%s", m->file);
        f->owner = m;
        f->regs = -1;
        char *body = strchr(p, '{');
        for (char *q = p; (q = strstr(q, ".param ")) && q < body; q += 7) {
            // Fused kernels have more than a hundred.
            f->param_size = realloc(f->param_size, (f->params + 1) * sizeof(int));
            f->param_size[f->params++] = param_size(q, strpbrk(q, ",)"));
        }
        char *most = strstr(p, ".maxntid ");
        if (most && most < body) sscanf(most, ".maxntid %d, %d, %d", f->max_threads, f->max_threads + 1, f->max_threads + 2);
        f->barriers = count_of(m->ptx, "bar.sync");
        f->wmma = count_of(m->ptx, "wmma.mma.sync");
        f->mma = count_of(m->ptx, "mma.sync") - f->wmma;
        f->bulk = count_of(m->ptx, "cp.async.bulk");
        f->cp_async = count_of(m->ptx, "cp.async") - f->bulk;
        f->ldmatrix = count_of(m->ptx, "ldmatrix");
        f->atomics = count_of(m->ptx, "atom.") + count_of(m->ptx, "red.global") + count_of(m->ptx, "red.shared");
        f->next = *list;
        *list = f;
    }
}

// Registers, spills and static shared memory from the output of `ptxas -v`.
static void read_log(const char *path, struct function *list) {
    FILE *file = fopen(path, "r");
    if (!file) return;
    char line[4096];
    struct function *f = NULL;
    while (fgets(line, sizeof line, file)) {
        char *at;
        if ((at = strstr(line, "Compiling entry function '"))) {
            at += 26;
            at[strcspn(at, "'")] = 0;
            for (f = list; f && strcmp(f->name, at); f = f->next) {}
        } else if (f && strstr(line, "bytes stack frame")) {
            sscanf(line, " %d bytes stack frame, %d bytes spill stores, %d bytes spill loads", &f->stack, &f->spill_store, &f->spill_load);
        } else if (f && (at = strstr(line, "Used "))) {
            sscanf(at, "Used %d registers", &f->regs);
            char *shared = strstr(at, " bytes smem");
            while (shared && shared > at && shared[-1] >= '0' && shared[-1] <= '9') shared--;
            if (shared) f->static_shared = atoi(shared);
        }
    }
    fclose(file);
}

static void assemble(struct module *m, struct function *list) {
    if (!settings.ptxas || !settings.out) return;
    // The name of the cached source stands for the source, NVRTC's version and the architecture.
    char log[700], part[700], command[4000];
    snprintf(log, sizeof log, "%s.ptxas", m->base);
    if (*m->base && !access(log, R_OK)) {
        read_log(log, list);
        return;
    }
    char ptx[700];
    snprintf(ptx, sizeof ptx, "%s/%s.ptx", settings.out, m->file);
    snprintf(part, sizeof part, "%s/%s.ptxas", settings.out, m->file);
    FILE *file = fopen(ptx, "w");
    if (!file) return;
    fputs(m->ptx, file);
    fclose(file);
    snprintf(command, sizeof command, "%s -v --gpu-name sm_%d%s -o /dev/null '%s' > '%s' 2>&1", settings.ptxas, settings.sm,
             settings.sm >= 90 ? "a" : "", ptx, part);
    int refused = system(command);
    if (refused) write_report("PROBLEM", "ptxas refuses %s (see %s)", m->file, part);
    read_log(part, list);
    if (!refused && *m->base) {
        // Other processes see the whole file or none.
        snprintf(command, sizeof command, "cp '%s' '%s.%d' && mv '%s.%d' '%s'; rm -f '%s'", part, log, getpid(), log, getpid(), log, ptx);
        if (system(command)) write_report("NOTE", "%s cannot be written", log);
    }
}

// A driver compiles the PTX versions that it knows: 8.0 came with CUDA 12.0, 8.7 with 12.8, 9.0 with 13.0.
static int is_too_new(const char *ptx) {
    int major = 0, minor = 0;
    const char *at = strstr(ptx, ".version ");
    if (at) sscanf(at, ".version %d.%d", &major, &minor);
    int cuda = major == 8 ? 12000 + (minor > 7 ? 9 : minor == 7 ? 8 : minor) * 10 : major >= 9 ? 13000 + minor * 10 : 0;
    return cuda > settings.driver;
}

CUresult cuModuleLoadData(struct module **out, const void *image) {
    CUresult result = need_context("cuModuleLoadData");
    if (result) return result;
    if (capturing()) write_report("PROBLEM", "cuModuleLoadData while capturing");
    if (!strstr(image, ".version")) {
        write_report("PROBLEM", "a module that is no PTX");
        return INVALID_IMAGE;
    }
    if (is_too_new(image)) {
        write_report("PROBLEM", "PTX of a newer CUDA than the driver's, %d", settings.driver);
        return UNSUPPORTED_PTX;
    }
    struct module *m = calloc(1, sizeof *m);
    m->id = __sync_add_and_fetch(&modules, 1);
    m->ptx = strdup(image);
    snprintf(m->file, sizeof m->file, "m%05d", m->id);
    const char *mark = strstr(m->ptx, "// MOCK ");
    if (mark) sscanf(mark, "// MOCK %500s", m->base);
    counts[C_MODULE]++;
    struct function *list = NULL;
    parse(m, &list);
    assemble(m, list);
    pthread_mutex_lock(&lock);
    for (struct function *f = list, *next; f; f = next) {
        next = f->next;
        write_report("MODULE", "%s %s regs %d spill %d/%d stack %d smem %d", m->file, f->name, f->regs, f->spill_store, f->spill_load, f->stack, f->static_shared);
        f->next = functions;
        functions = f;
    }
    pthread_mutex_unlock(&lock);
    *out = m;
    return OK;
}
CUresult cuModuleUnload(struct module *m) { return OK; }
CUresult cuModuleGetFunction(struct function **out, struct module *m, const char *name) {
    for (struct function *f = functions; f; f = f->next) if (f->owner == m && !strcmp(f->name, name)) {
        *out = f;
        return OK;
    }
    write_report("PROBLEM", "no function %s in module %d", name, m->id);
    return NOT_FOUND;
}
CUresult cuFuncSetAttribute(struct function *f, int attribute, int value) {
    if (attribute != 8) return OK; // the most dynamic shared memory
    if (value + f->static_shared > shared_limit()) {
        write_report("PROBLEM", "%s %s: %d + %d bytes of shared memory, where at most %d are", f->file, f->name, value, f->static_shared, shared_limit());
        return INVALID_VALUE;
    }
    f->dynamic_shared = value;
    return OK;
}
CUresult cuFuncGetAttribute(int *value, int attribute, struct function *f) { *value = 0; return OK; }

// Threads that a multiprocessor holds at once, by registers, shared memory and threads, of those it could.
static double occupancy(const struct function *f) {
    if (f->regs < 1 || !f->launches) return 0;
    double threads = f->threads / f->blocks;
    int warps = ((int)threads + 31) / 32, registers = (f->regs * 32 + 255) / 256 * 256 * warps;
    int shared = f->static_shared + f->dynamic_shared + 1024;
    int blocks = threads_per_sm() / (32 * warps);
    if (65536 / registers < blocks) blocks = 65536 / registers;
    if (shared_per_sm() / shared < blocks) blocks = shared_per_sm() / shared;
    return (double)blocks * 32 * warps / threads_per_sm();
}

void write_functions(void) {
    char path[700];
    snprintf(path, sizeof path, "%s/functions.tsv", settings.out);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "launches\tthreads\tblocks\tbytes\tregs\toccupancy\tstatic_smem\tdynamic_smem\tspill_store\tspill_load\tstack\tmma\twmma\tcp.async\tbulk\tldmatrix\tatom\tfile\tsource\tname\n");
    for (struct function *f = functions; f; f = f->next)
        fprintf(file, "%llu\t%.0f\t%.0f\t%.0f\t%d\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", f->launches, f->threads, f->blocks,
                f->bytes, f->regs, occupancy(f), f->static_shared, f->dynamic_shared, f->spill_store, f->spill_load, f->stack, f->mma, f->wmma,
                f->cp_async, f->bulk, f->ldmatrix, f->atomics, f->file, f->owner->base, f->name);
    fclose(file);
}

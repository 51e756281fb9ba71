// Settings, the report and its counters.
//
//   MOCK_SM=70|75|80|86|89|90   architecture (80)
//   MOCK_DRIVER=12080           what cuDriverGetVersion returns
//   MOCK_DEVICES=1              number of GPUs
//   MOCK_MEMORY_GB=80
//   MOCK_OUT=DIR                folder of the reports
//   MOCK_PTXAS=PATH             assembler; empty: modules are not assembled
//   MOCK_LAUNCH_LOG=1           launches, reads, allocations, synchronizations and NCCL's calls into launches.tsv
//   MOCK_EXEC=1                 execute kernels; what cannot be executed fails with error 209 (2: is left out)
//   MOCK_PER_PROCESS=1          reports go to MOCK_OUT/PID
#include "driver.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct settings settings;
unsigned long long counts[C_COUNTS];
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *report, *launches;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int number(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value && *value ? atoi(value) : otherwise;
}

void write_report(const char *kind, const char *format, ...) {
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (report) {
        fprintf(report, "%s\t%s\n", kind, text);
        fflush(report);
    }
    if (!strcmp(kind, "PROBLEM")) {
        __sync_fetch_and_add(&counts[C_PROBLEM], 1);
        fprintf(stderr, "mock cuda: %s\n", text);
    }
}

void die(const char *format, ...) {
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    write_report("PROBLEM", "%s", text);
    _exit(99);
}

void log_launch(const char *format, ...) {
    if (!launches) return;
    va_list list;
    va_start(list, format);
    vfprintf(launches, format, list);
    va_end(list);
}

static void finish(void) {
    if (!settings.out) return;
    write_functions();
    write_report("TOTAL",
        "modules %llu launches %llu (captured %llu, executed %llu, not executed %llu) allocs %llu (%.1f MB, peak %.1f MB) "
        "frees %llu h2d %llu (%.1f MB) d2h %llu (%.3f MB) d2d %llu syncs %llu events %llu waits %llu graphs %llu problems %llu",
        counts[C_MODULE], counts[C_LAUNCH], counts[C_CAPTURED], counts[C_EXECUTED], counts[C_NOT_EXECUTED], counts[C_ALLOC],
        counts[C_ALLOC_BYTES] / 1e6, counts[C_PEAK_BYTES] / 1e6, counts[C_FREE], counts[C_H2D], counts[C_H2D_BYTES] / 1e6,
        counts[C_D2H], counts[C_D2H_BYTES] / 1e6, counts[C_D2D], counts[C_SYNC], counts[C_EVENT], counts[C_WAIT],
        counts[C_GRAPH], counts[C_PROBLEM]);
    if (launches) fflush(launches);
}

static void start(void) {
    settings.sm = number("MOCK_SM", 80);
    settings.driver = number("MOCK_DRIVER", 12080);
    settings.devices = number("MOCK_DEVICES", 1);
    settings.log_launches = number("MOCK_LAUNCH_LOG", 0);
    settings.memory_gb = number("MOCK_MEMORY_GB", 80);
    settings.exec = number("MOCK_EXEC", 0);
    settings.out = getenv("MOCK_OUT");
    settings.ptxas = getenv("MOCK_PTXAS");
    if (settings.ptxas && !*settings.ptxas) settings.ptxas = NULL;
    if (settings.out) {
        static char own[600], path[700];
        mkdir(settings.out, 0755);
        if (number("MOCK_PER_PROCESS", 0)) {
            snprintf(own, sizeof own, "%s/%d", settings.out, getpid());
            mkdir(own, 0755);
            settings.out = own;
        }
        snprintf(path, sizeof path, "%s/report.tsv", settings.out);
        report = fopen(path, "w");
        if (settings.log_launches) {
            snprintf(path, sizeof path, "%s/launches.tsv", settings.out);
            launches = fopen(path, "w");
        }
    }
    atexit(finish);
    write_report("INIT", "sm_%d driver %d", settings.sm, settings.driver);
}

void init(void) { pthread_once(&once, start); }

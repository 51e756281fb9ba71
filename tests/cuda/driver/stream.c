// Streams, events and graphs; their work is in queue.c. A capturing stream only records launches, copies and fills. Device
// time is virtual: a launch takes 3 us and 2 us per wave of threads.
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node { struct operation operation; struct node *next; };
struct stream { int number, captures, nodes; struct node *first, **last; };
struct graph { int nodes; struct node *first; };
static int streams, captures_open;
static double now_us;

int capturing(void) { return captures_open > 0; }
int stream_captures(struct stream *s) { return s && s->captures; }
int stream_number(struct stream *s) { return s ? s->number : 0; }
void device_time(double microseconds) { now_us += microseconds; }

void stream_record(struct stream *s, struct operation operation) {
    struct node *node = calloc(1, sizeof *node);
    node->operation = operation;
    if (operation.launch.function) node->operation.launch = copy_launch(operation.launch);
    *s->last = node;
    s->last = &node->next;
    s->nodes++;
}

static CUresult open_stream(struct stream **s) {
    CUresult result = need_context("cuStreamCreate");
    if (result) return result;
    *s = calloc(1, sizeof **s);
    (*s)->number = __sync_add_and_fetch(&streams, 1);
    return OK;
}
CUresult cuStreamCreate(struct stream **s, unsigned flags) { return open_stream(s); }
CUresult cuStreamCreateWithPriority(struct stream **s, unsigned flags, int priority) { return open_stream(s); }
CUresult cuStreamDestroy_v2(struct stream *s) { queue_finish(s, 0); return OK; }
CUresult cuStreamQuery(struct stream *s) { queue_finish(s, 0); return OK; }
CUresult cuStreamSynchronize(struct stream *s) {
    counts[C_SYNC]++;
    log_launch("sync\t%d\n", stream_number(s));
    if (!stream_captures(s)) {
        queue_finish(s, 0);
        return OK;
    }
    write_report("PROBLEM", "cuStreamSynchronize while capturing");
    return CAPTURE_UNSUPPORTED;
}
struct event { double at; int recorded; struct stream *stream; unsigned long long number; };
CUresult cuStreamWaitEvent(struct stream *s, struct event *e, unsigned flags) {
    counts[C_WAIT]++;
    if (e->recorded) queue_wait(s, e->stream, e->number);
    return OK;
}
CUresult cuStreamBeginCapture_v2(struct stream *s, int mode) {
    if (!s || s->captures) {
        write_report("PROBLEM", "cuStreamBeginCapture on %s stream", s ? "a capturing" : "the default");
        return CAPTURE_UNSUPPORTED;
    }
    s->captures = 1;
    s->nodes = 0;
    s->first = NULL;
    s->last = &s->first;
    captures_open++;
    return OK;
}
CUresult cuStreamEndCapture(struct stream *s, struct graph **graph) {
    if (!stream_captures(s)) {
        write_report("PROBLEM", "cuStreamEndCapture on a stream that does not capture");
        return CAPTURE_UNSUPPORTED;
    }
    s->captures = 0;
    captures_open--;
    *graph = calloc(1, sizeof **graph);
    (*graph)->nodes = s->nodes;
    (*graph)->first = s->first;
    return OK;
}
CUresult cuStreamIsCapturing(struct stream *s, int *captures) { *captures = stream_captures(s); return OK; }
CUresult cuGraphInstantiateWithFlags(struct graph **executable, struct graph *graph, unsigned long long flags) { *executable = graph; return OK; }
CUresult cuGraphUpload(struct graph *graph, struct stream *s) { return OK; }
CUresult cuGraphLaunch(struct graph *graph, struct stream *s) {
    counts[C_GRAPH]++;
    for (struct node *node = graph->first; node && settings.exec; node = node->next) {
        struct operation *o = &node->operation;
        if (o->launch.function) queue_run(s, o->launch);
        // A copy reads the host's memory as it is when the graph runs.
        else if (o->from) queue_copy(s, o->to, o->from, o->size, 1, 1);
        else queue_set(s, o->to, o->value, o->size);
    }
    return OK;
}
CUresult cuGraphDestroy(struct graph *graph) { return OK; }
CUresult cuGraphExecDestroy(struct graph *graph) { return OK; }
CUresult cuGraphGetNodes(struct graph *graph, void **nodes, size_t *count) {
    if (nodes) for (size_t i = 0; i < *count; i++) nodes[i] = graph;
    *count = graph->nodes;
    return OK;
}
CUresult cuGraphNodeGetType(void *node, int *type) { *type = 0; return OK; }

CUresult cuEventCreate(struct event **e, unsigned flags) {
    CUresult result = need_context("cuEventCreate");
    if (result) return result;
    counts[C_EVENT]++;
    *e = calloc(1, sizeof **e);
    return OK;
}
CUresult cuEventDestroy_v2(struct event *e) { free(e); return OK; }
CUresult cuEventRecord(struct event *e, struct stream *s) {
    e->at = now_us;
    e->recorded = 1;
    e->stream = s;
    e->number = queue_record(s);
    return OK;
}
CUresult cuEventQuery(struct event *e) {
    if (e->recorded) queue_finish(e->stream, e->number);
    return OK;
}
CUresult cuEventSynchronize(struct event *e) {
    counts[C_SYNC]++;
    if (capturing()) write_report("PROBLEM", "cuEventSynchronize while capturing");
    if (e->recorded) queue_finish(e->stream, e->number);
    return OK;
}
static CUresult elapsed(float *milliseconds, struct event *from, struct event *to) {
    if (!from->recorded || !to->recorded) {
        write_report("PROBLEM", "cuEventElapsedTime of an event that was not recorded");
        return INVALID_VALUE;
    }
    *milliseconds = (to->at - from->at) / 1e3;
    return OK;
}
CUresult cuEventElapsedTime(float *milliseconds, struct event *from, struct event *to) { return elapsed(milliseconds, from, to); }
#ifndef DRIVER_BEFORE_12_8
CUresult cuEventElapsedTime_v2(float *milliseconds, struct event *from, struct event *to) { return elapsed(milliseconds, from, to); }
#endif
CUresult cuGetErrorName(int error, const char **name) { *name = "MOCK_ERROR"; return OK; }
CUresult cuGetErrorString(int error, const char **text) {
    static __thread char own[64];
    snprintf(own, sizeof own, "mock error %d", error);
    *text = own;
    return OK;
}

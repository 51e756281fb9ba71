// The queues of streams. Work is done in the order of its stream, and as late as a driver may: when the stream is
// synchronized, when memory is freed, or when another stream's work waits for an event behind it. So a read before the
// right synchronization, and a stream that does not wait for another, see what was there before. MOCK_EAGER=1 does
// all work when it is enqueued.
#include "driver.h"
#include <stdlib.h>
#include <string.h>

struct work {
    enum { RUN, COPY, SET, RECORD, WAIT, FREE, CALL } kind;
    struct launch launch;
    void *to, *from, *staged;
    size_t size;
    int value;
    struct stream *other;
    unsigned long long until;
    void (*call)(void *);
    struct work *next;
};
struct queue {
    struct work *first, **last;
    unsigned long long enqueued, done;
    struct stream *stream;
    struct queue *next;
};
static pthread_mutex_t turn;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct queue *queues;
static int eager;

static void start(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&turn, &attributes);
    eager = getenv("MOCK_EAGER") != NULL || settings.exec == EXEC_NONE;
}

// The queue of a stream; NULL is the default stream.
static struct queue *queue_of(struct stream *s) {
    struct queue *q = queues;
    while (q && q->stream != s) q = q->next;
    if (q) return q;
    q = calloc(1, sizeof *q);
    q->stream = s;
    q->last = &q->first;
    q->next = queues;
    return queues = q;
}

static void drain(struct queue *q, unsigned long long until);

static void perform(struct work *w) {
    switch (w->kind) {
    case RUN:
        if (!execute(&w->launch)) write_report("PROBLEM", "kernel %s cannot be executed", w->launch.function->name);
        for (int i = 0; i < w->launch.function->params; i++) free(w->launch.params[i]);
        free(w->launch.params);
        break;
    case COPY: memmove(w->to, w->staged ? w->staged : w->from, w->size); free(w->staged); break;
    case SET: memset(w->to, w->value, w->size); break;
    case WAIT: drain(queue_of(w->other), w->until); break;
    case FREE: memory_release((CUdeviceptr)w->to, "cuMemFreeAsync"); break;
    case CALL: w->call(w->from); break;
    case RECORD: break;
    }
}

static void drain(struct queue *q, unsigned long long until) {
    while (q->first && q->done < until) {
        struct work *w = q->first;
        q->first = w->next;
        if (!q->first) q->last = &q->first;
        q->done++;
        perform(w);
        free(w);
    }
}

static unsigned long long enqueue(struct stream *s, struct work work) {
    pthread_once(&once, start);
    pthread_mutex_lock(&turn);
    struct queue *q = queue_of(s);
    struct work *w = malloc(sizeof *w);
    *w = work;
    w->next = NULL;
    *q->last = w;
    q->last = &w->next;
    unsigned long long number = ++q->enqueued;
    if (eager) drain(q, number);
    pthread_mutex_unlock(&turn);
    return number;
}

struct launch copy_launch(struct launch launch) {
    const struct function *f = launch.function;
    void **params = calloc(f->params ? f->params : 1, sizeof(void *));
    for (int i = 0; i < f->params; i++) memcpy(params[i] = malloc(f->param_size[i]), launch.params[i], f->param_size[i]);
    launch.params = params;
    return launch;
}

void queue_run(struct stream *s, struct launch launch) { enqueue(s, (struct work){.kind = RUN, .launch = copy_launch(launch)}); }
void queue_set(struct stream *s, void *to, int value, size_t size) {
    if (stream_captures(s)) stream_record(s, (struct operation){.to = to, .value = value, .size = size});
    else enqueue(s, (struct work){.kind = SET, .to = to, .value = value, .size = size});
}
void queue_free(struct stream *s, CUdeviceptr p) { enqueue(s, (struct work){.kind = FREE, .to = (void *)p}); }
void queue_wait(struct stream *s, struct stream *other, unsigned long long until) { enqueue(s, (struct work){.kind = WAIT, .other = other, .until = until}); }
void queue_call(struct stream *s, void (*call)(void *), void *data) { enqueue(s, (struct work){.kind = CALL, .call = call, .from = data}); }
unsigned long long queue_record(struct stream *s) { return enqueue(s, (struct work){.kind = RECORD}); }

// A copy from memory that the program may change at once is staged; one to such memory is done when the call returns.
void queue_copy(struct stream *s, void *to, const void *from, size_t size, int is_to_device, int is_pinned) {
    if (stream_captures(s)) {
        stream_record(s, (struct operation){.to = to, .from = from, .size = size});
        return;
    }
    struct work work = {.kind = COPY, .to = to, .from = (void *)from, .size = size};
    if (is_to_device && !is_pinned) memcpy(work.staged = malloc(size ? size : 1), from, size);
    unsigned long long number = enqueue(s, work);
    if (!is_to_device && !is_pinned) queue_finish(s, number);
}

// Does a stream's work up to a number; all of it for 0.
void queue_finish(struct stream *s, unsigned long long until) {
    pthread_once(&once, start);
    pthread_mutex_lock(&turn);
    struct queue *q = queue_of(s);
    drain(q, until ? until : q->enqueued);
    pthread_mutex_unlock(&turn);
}

void queue_finish_all(void) {
    pthread_once(&once, start);
    pthread_mutex_lock(&turn);
    for (struct queue *q = queues; q; q = q->next) drain(q, q->enqueued);
    pthread_mutex_unlock(&turn);
}

/*
 * Owns the CUDA tables, of both modes: the device's memory, the queue of its work, and what went
 * wrong.
 *
 * The worker's calls are queued on one stream and return; fetch waits for them. Uploads of other
 * threads go over a second stream and are waited for, so that whoever is told of the memory later
 * finds it there. Lists of calls travel through rings (device_cuda.cuh).
 *
 * A device that has failed stays so: the first error is kept as a sentence, nothing is queued any
 * more, and fetch gives NaNs, which no answer can be made of.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/kernels/device_cuda.cuh"
#include "backends/kernels/plugin_cuda.h"

#define CAPABILITY_LEAST 80

/* ---- errors ---- */

void device_note(struct kernels_state *s, cudaError_t error, const char *what)
{
    if (error == cudaSuccess || !__sync_bool_compare_and_swap(&s->fault, 0, 1))
        return;
    snprintf(s->text, sizeof s->text, "%s: %s: %s", s->device_name, what,
             cudaGetErrorString(error));
    __sync_synchronize();
    s->fault = 2;
}

void device_enter(struct kernels_state *s)
{
    device_note(s, cudaSetDevice(s->device), "cudaSetDevice");
}

void device_leave(struct kernels_state *s, const char *what)
{
    device_note(s, cudaGetLastError(), what);
}

static const char *fault(const struct kernels *self)
{
    const struct kernels_state *s = self->state;
    if (!*(const volatile int *)&s->fault)
        return NULL;
    while (*(const volatile int *)&s->fault != 2) // a snprintf at most
        ;
    __sync_synchronize();
    return s->text;
}

/* ---- lists ---- */

static bool ring_open(struct kernels_state *s, struct ring *r, size_t bytes)
{
    r->bytes = bytes;
    bool ok = cudaMallocHost((void **)&r->host, bytes) == cudaSuccess &&
              cudaMalloc((void **)&r->device, bytes) == cudaSuccess;
    for (int i = 0; ok && i < RING_PARTS; i++)
        ok = cudaEventCreateWithFlags(&r->done[i], cudaEventDisableTiming) == cudaSuccess &&
             cudaEventRecord(r->done[i], s->stream) == cudaSuccess;
    return ok;
}

static void ring_close(struct ring *r)
{
    for (int i = 0; i < RING_PARTS; i++)
        if (r->done[i])
            cudaEventDestroy(r->done[i]);
    cudaFreeHost(r->host);
    cudaFree(r->device);
}

void *device_room(struct kernels_state *s, struct ring *r, size_t bytes, void **device)
{
    size_t part = r->bytes / RING_PARTS;
    bytes = device_lines(bytes);
    *device = NULL;
    if (bytes > part) {
        device_note(s, cudaErrorMemoryAllocation, "a list that is too long");
        return NULL;
    }
    if (r->at + bytes > part) { // the next part, when its last list has left it
        device_note(s, cudaEventRecord(r->done[r->part], s->stream), "cudaEventRecord");
        r->part = (r->part + 1) % RING_PARTS;
        device_note(s, cudaEventSynchronize(r->done[r->part]), "cudaEventSynchronize");
        r->at = 0;
    }
    size_t at = (size_t)r->part * part + r->at;
    r->at += bytes;
    *device = r->device + at;
    return r->host + at;
}

void device_push(struct kernels_state *s, struct ring *r, const void *host, void *device,
                 size_t bytes)
{
    (void)r;
    device_note(s, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, s->stream),
                "sending a list");
}

const void *device_stage(struct kernels_state *s, struct ring *r, const void *list, size_t bytes)
{
    void *device, *host = device_room(s, r, bytes, &device);
    if (!host)
        return NULL;
    memcpy(host, list, bytes);
    device_push(s, r, host, device, bytes);
    return device;
}

/* ---- memory ---- */

static void lock(struct kernels_state *s)
{
    pthread_mutex_lock((pthread_mutex_t *)s->copy_lock);
}

static void unlock(struct kernels_state *s)
{
    pthread_mutex_unlock((pthread_mutex_t *)s->copy_lock);
}

static void *alloc(const struct kernels *self, size_t bytes)
{
    struct kernels_state *s = self->state;
    void *p = NULL;
    if (cudaSetDevice(s->device) != cudaSuccess)
        return NULL;
    lock(s);
    cudaError_t e = bytes > 0 ? cudaMalloc(&p, device_lines(bytes)) : cudaErrorMemoryAllocation;
    if (e != cudaSuccess) {
        cudaGetLastError(); // no memory is no fault
        p = NULL;
    } else {
        device_note(s, cudaMemsetAsync(p, 0, device_lines(bytes), s->copies), "clearing memory");
        device_note(s, cudaStreamSynchronize(s->copies), "clearing memory");
    }
    unlock(s);
    return p;
}

static void release(const struct kernels *self, void *p)
{
    if (!p)
        return;
    struct kernels_state *s = self->state;
    device_enter(s);
    device_note(s, cudaStreamSynchronize(s->stream), "freeing memory"); // queued calls may read it
    device_note(s, cudaFree(p), "freeing memory");
}

static uint64_t available(const struct kernels *self)
{
    size_t left = 0, all = 0;
    device_enter(self->state);
    return cudaMemGetInfo(&left, &all) == cudaSuccess ? left : 0;
}

static void upload(const struct kernels *self, void *to, const void *from, size_t bytes)
{
    struct kernels_state *s = self->state;
    device_enter(s);
    lock(s);
    device_note(s, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, s->copies), "upload");
    device_note(s, cudaStreamSynchronize(s->copies), "upload");
    unlock(s);
}

/* Through the ring, a part of it at a time. */
static void send(const struct kernels *self, void *to, const void *from, size_t bytes)
{
    struct kernels_state *s = self->state;
    size_t most = RING_BYTES / RING_PARTS;
    device_enter(s);
    for (size_t at = 0, n; at < bytes; at += n) {
        void *through, *host;
        n = bytes - at < most ? bytes - at : most;
        host = device_room(s, &s->ring, n, &through);
        memcpy(host, (const char *)from + at, n);
        device_note(s, cudaMemcpyAsync((char *)to + at, host, n, cudaMemcpyHostToDevice, s->stream),
                    "send");
    }
}

static void fetch(const struct kernels *self, void *to, const void *from, size_t bytes)
{
    struct kernels_state *s = self->state;
    device_enter(s);
    device_note(s, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->stream), "fetch");
    device_note(s, cudaStreamSynchronize(s->stream), "fetch");
    if (s->fault)
        memset(to, 0xff, bytes);
}

/* ---- life ---- */

struct cuda_table {
    struct kernels exact; /* first: it is what is closed */
    struct kernels fast;
    struct kernels_state state;
    pthread_mutex_t copy_lock;
};

static void close_table(struct kernels *self)
{
    struct cuda_table *t = (struct cuda_table *)self;
    if (!t)
        return;
    struct kernels_state *s = &t->state;
    cudaSetDevice(s->device);
    if (s->stream)
        cudaStreamSynchronize(s->stream);
    ring_close(&s->ring);
    ring_close(&s->pages);
    cudaFree(s->parts);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    if (s->copies)
        cudaStreamDestroy(s->copies);
    pthread_mutex_destroy(&t->copy_lock);
    free(t);
}

/* The exact one's, which is closed last, has everything. */
static void close_fast(struct kernels *self)
{
    (void)self;
}

static enum cuda_outcome open_state(struct kernels_state *s)
{
    if (cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking) != cudaSuccess ||
        cudaStreamCreateWithFlags(&s->copies, cudaStreamNonBlocking) != cudaSuccess)
        return CUDA_FAILED;
    if (!ring_open(s, &s->ring, RING_BYTES) || !ring_open(s, &s->pages, PAGES_BYTES) ||
        cudaMalloc((void **)&s->parts, PARTS_BYTES) != cudaSuccess)
        return CUDA_OUT_OF_MEMORY;
    return CUDA_OPENED;
}

static void fill_slots(struct kernels *k, struct kernels_state *s, enum compute mode)
{
    k->device = s->device_name;
    k->isa = s->isa;
    k->mode = mode;
    k->state = s;
    k->threads = 1;
    k->own_memory = true;
    k->alloc = alloc;
    k->release = release;
    k->available = available;
    k->upload = upload;
    k->fault = fault;
    k->send = send;
    k->fetch = fetch;
    k->begin = kv_cuda_begin;
    k->act_bytes = rotate_cuda_act_bytes;
    k->prepare = rotate_cuda_prepare;
    k->matmul = matmul_cuda_run;
    k->dequantize = matmul_cuda_dequantize;
    k->gather = matmul_cuda_gather;
    k->norm = elementwise_cuda_norm;
    k->rope = elementwise_cuda_rope;
    k->kv_store = kv_cuda_store;
    k->attention = attention_cuda_run;
    k->activate = elementwise_cuda_activate;
    k->add = elementwise_cuda_add;
    k->scale = elementwise_cuda_scale;
    k->copy_rows = elementwise_cuda_copy_rows;
    k->add_rows = elementwise_cuda_add_rows;
    k->draw = draw_cuda_run;
    k->close = mode == COMPUTE_EXACT ? close_table : close_fast;
}

/* What there is: a driver, new enough, and the device. */
static enum cuda_outcome look(int device, int *capability, int *processors, char *why, size_t size)
{
    int driver = 0, n = 0, major = 0, minor = 0;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e != cudaSuccess || driver == 0)
        return CUDA_NO_DRIVER;
    e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        snprintf(why, size, "it is for CUDA %d.%d, needed is %d.%d", driver / 1000,
                 driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
        return CUDA_OLD_DRIVER;
    }
    if (e == cudaErrorNoDevice || (e == cudaSuccess && device >= n)) {
        snprintf(why, size, "%d found", e == cudaSuccess ? n : 0);
        return CUDA_NO_DEVICE;
    }
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(processors, cudaDevAttrMultiProcessorCount, device);
    if (e == cudaSuccess)
        e = cudaSetDevice(device);
    if (e != cudaSuccess) {
        snprintf(why, size, "%s", cudaGetErrorString(e));
        return CUDA_FAILED;
    }
    *capability = 10 * major + minor;
    if (*capability >= CAPABILITY_LEAST)
        return CUDA_OPENED;
    snprintf(why, size, "compute capability %d.%d, needed is %d.%d", major, minor,
             CAPABILITY_LEAST / 10, CAPABILITY_LEAST % 10);
    return CUDA_TOO_OLD;
}

extern "C" __attribute__((visibility("default"))) enum cuda_outcome
oftd_cuda_open(int abi, size_t kernels_bytes, int device, struct kernels **exact,
               struct kernels **fast, char *why, size_t size)
{
    int capability = 0, processors = 0;
    *exact = *fast = NULL;
    *why = 0;
    if (abi != CUDA_PLUGIN_ABI || kernels_bytes != sizeof(struct kernels))
        return CUDA_WRONG_ABI;
    enum cuda_outcome o = look(device, &capability, &processors, why, size);
    if (o != CUDA_OPENED)
        return o;
    struct cuda_table *t = (struct cuda_table *)calloc(1, sizeof *t);
    if (!t)
        return CUDA_OUT_OF_MEMORY;
    pthread_mutex_init(&t->copy_lock, NULL);
    struct kernels_state *s = &t->state;
    s->device = device;
    s->processors = processors;
    s->copy_lock = &t->copy_lock;
    snprintf(s->device_name, sizeof s->device_name, "cuda:%d", device);
    snprintf(s->isa, sizeof s->isa, "sm_%d", capability);
    fill_slots(&t->exact, s, COMPUTE_EXACT);
    fill_slots(&t->fast, s, COMPUTE_FAST);
    o = open_state(s);
    if (o != CUDA_OPENED) {
        snprintf(why, size, "%s", cudaGetErrorString(cudaGetLastError()));
        close_table(&t->exact);
        return o;
    }
    *exact = &t->exact;
    *fast = &t->fast;
    return CUDA_OPENED;
}

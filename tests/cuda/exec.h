// Runs one CUDA C++ kernel of CubeCL's on the CPU: threads of a block are fibers, warps meet at warp operations,
// blocks at __syncthreads. Included before the (transformed) source by exec.py.
//
// Strict where a GPU is not: dynamic shared memory ends at an inaccessible page and begins as NaN, threads that wait
// at different barriers end the process, and MOCK_SEED=N runs blocks, warps and lanes in a different order in every
// phase between barriers, which changes results that depend on a missing barrier.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <tuple>
#include <type_traits>
#include <utility>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#undef __cluster_dims__
#undef __grid_constant__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __forceinline__ inline

struct MockDim { unsigned x, y, z; };
static MockDim threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;
enum { MOCK_READY, MOCK_WARP, MOCK_BLOCK, MOCK_DONE, MOCK_SPIN };
struct alignas(16) MockValue { unsigned char bytes[32]; };
struct MockWarp { MockValue in[32], out[32]; unsigned char pred[32]; unsigned mask, ballot; };
struct MockLane { void *sp; MockDim id; int state; int index; int line; };
static MockLane *mock_lanes, *mock_self;
static MockWarp *mock_warps;
static void *mock_main_sp;
static char *mock_stacks;
static const size_t MOCK_STACK = 256 << 10;
static char *mock_smem;
static const size_t MOCK_SMEM = 256 << 10;

extern "C" void mock_swap(void **save, void *to);
asm(".text\n.hidden mock_swap\n.globl mock_swap\nmock_swap:\n push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
static inline void mock_yield(int state) {
    if (!mock_lanes) { fprintf(stderr, "mock exec: sync in a kernel thought free of them\n"); abort(); }
    MockLane *me = mock_self; me->state = state; mock_swap(&me->sp, mock_main_sp);
}
static inline void mock_sync(int line) { if (mock_lanes) mock_self->line = line; mock_yield(MOCK_BLOCK); }
#define __syncthreads() mock_sync(__LINE__)
static inline void __syncwarp(unsigned = 0) { mock_yield(MOCK_WARP); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline unsigned __activemask() { return 0xffffffffu; }
static inline MockWarp &mock_warp() { return mock_warps[mock_self->index / 32]; }
static inline int mock_lane() { return mock_self->index % 32; }
template <class T> static T mock_exchange(T v, int from) {
    static_assert(sizeof(T) <= 16, "");
    memcpy(mock_warp().in[mock_lane()].bytes, &v, sizeof v);
    mock_yield(MOCK_WARP);
    if (from < 0 || from > 31 || !(mock_warp().mask >> from & 1)) return v;
    T r; memcpy(&r, mock_warp().out[from].bytes, sizeof r); return r;
}
template <class T> static T __shfl_sync(unsigned, T v, int lane, int = 32) { return mock_exchange(v, lane & 31); }
template <class T> static T __shfl_xor_sync(unsigned, T v, int m, int = 32) { return mock_exchange(v, mock_lane() ^ m); }
template <class T> static T __shfl_up_sync(unsigned, T v, unsigned d, int = 32) { return mock_exchange(v, mock_lane() - (int)d); }
template <class T> static T __shfl_down_sync(unsigned, T v, unsigned d, int = 32) { return mock_exchange(v, mock_lane() + (int)d); }
static inline unsigned __ballot_sync(unsigned, int p) { mock_warp().pred[mock_lane()] = !!p; mock_yield(MOCK_WARP); return mock_warp().ballot; }
static inline int __all_sync(unsigned m, int p) { unsigned b = __ballot_sync(m, p); return b == mock_warp().mask; }
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline unsigned __brev(unsigned v) { unsigned r = 0; for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i); return r; }
static inline int __mulhi(int a, int b) { return (long long)a * b >> 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
template <class T> static inline T mock_min(T a, T b) { if constexpr (std::is_floating_point<T>::value) return fmin(a, b); else return a < b ? a : b; }
template <class T> static inline T mock_max(T a, T b) { if constexpr (std::is_floating_point<T>::value) return fmax(a, b); else return a > b ? a : b; }
template <class A, class B> static inline auto min(A a, B b) { typedef typename std::common_type<A, B>::type T; return mock_min<T>(a, b); }
template <class A, class B> static inline auto max(A a, B b) { typedef typename std::common_type<A, B>::type T; return mock_max<T>(a, b); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
#define __expf expf
static inline unsigned abs(unsigned x) { return x; }
#define MOCK_HALF(fn, of) \
    static inline __half h##fn(__half x) { return __float2half(of(__half2float(x))); } \
    static inline __nv_bfloat16 h##fn(__nv_bfloat16 x) { return __float2bfloat16(of(__bfloat162float(x))); } \
    static inline __half2 h2##fn(__half2 x) { return __half2(h##fn(x.x), h##fn(x.y)); } \
    static inline __nv_bfloat162 h2##fn(__nv_bfloat162 x) { return __nv_bfloat162(h##fn(x.x), h##fn(x.y)); }
static inline float mock_rsqrt(float x) { return 1.0f / sqrtf(x); }
MOCK_HALF(exp, expf) MOCK_HALF(log, logf) MOCK_HALF(sqrt, sqrtf) MOCK_HALF(rsqrt, mock_rsqrt) MOCK_HALF(sin, sinf) MOCK_HALF(cos, cosf)
MOCK_HALF(ceil, ceilf) MOCK_HALF(floor, floorf) MOCK_HALF(trunc, truncf) MOCK_HALF(rint, rintf) MOCK_HALF(tanh, tanhf)

// Atomics: one thread runs at a time.
template <class T, class P> static T mock_atom_add(P p, T v) { T *q = (T *)p; T o = *q; *q = (T)(o + v); return o; }
template <class T, class P> static T mock_atom_min(P p, T v) { T *q = (T *)p; T o = *q; if (v < o) *q = v; return o; }
template <class T, class P> static T mock_atom_max(P p, T v) { T *q = (T *)p; T o = *q; if (o < v) *q = v; return o; }
template <class T, class P> static T mock_atom_and(P p, T v) { T *q = (T *)p; T o = *q; *q = o & v; return o; }
template <class T, class P> static T mock_atom_or(P p, T v) { T *q = (T *)p; T o = *q; *q = o | v; return o; }
template <class T, class P> static T mock_atom_xor(P p, T v) { T *q = (T *)p; T o = *q; *q = o ^ v; return o; }
template <class T, class P> static T mock_atom_exch(P p, T v) { T *q = (T *)p; T o = *q; *q = v; return o; }
template <class T, class P> static T mock_atom_cas(P p, T c, T v) { T *q = (T *)p; T o = *q; if (o == c) *q = v; return o; }
#define MOCK_ATOMIC(name, op) template <class T, class U> static T name(T *p, U v) { return mock_atom_##op<T>(p, (T)v); }
MOCK_ATOMIC(atomicAdd, add) MOCK_ATOMIC(atomicMin, min) MOCK_ATOMIC(atomicMax, max) MOCK_ATOMIC(atomicAnd, and) MOCK_ATOMIC(atomicOr, or) MOCK_ATOMIC(atomicXor, xor) MOCK_ATOMIC(atomicExch, exch)
template <class T, class U, class V> static T atomicCAS(T *p, U c, V v) { return mock_atom_cas<T>(p, (T)c, (T)v); }
static inline unsigned mock_to_shared(const void *p) { return (unsigned)((const char *)p - mock_smem); }
static inline char *mock_from_shared(unsigned long long p) { return p < MOCK_SMEM ? mock_smem + p : (char *)p; }
static inline unsigned long long __cvta_generic_to_shared(const void *p) { return mock_to_shared(p); }

// Tensor cores through wmma: a fragment is opaque, so lane 0 holds the whole tile and computes alone.
namespace nvcuda { namespace wmma {
struct row_major {}; struct col_major {}; struct matrix_a {}; struct matrix_b {}; struct accumulator {};
namespace precision { struct tf32 {}; }
enum layout_t { mem_row_major, mem_col_major };
template <class T> struct Element { typedef T type; };
template <> struct Element<precision::tf32> { typedef float type; };
template <class Use, int M, int N, int K> struct Size;
template <int M, int N, int K> struct Size<matrix_a, M, N, K> { enum { R = M, C = K }; };
template <int M, int N, int K> struct Size<matrix_b, M, N, K> { enum { R = K, C = N }; };
template <int M, int N, int K> struct Size<accumulator, M, N, K> { enum { R = M, C = N }; };
template <class Use, int M, int N, int K, class T, class L = void> struct fragment {
    typedef typename Element<T>::type E;
    enum { R = Size<Use, M, N, K>::R, C = Size<Use, M, N, K>::C, num_elements = R * C };
    E x[R * C];
};
static inline float __float_to_tf32(float v) { uint32_t u; memcpy(&u, &v, 4); u = (u + 0x1000) & 0xffffe000u; memcpy(&v, &u, 4); return v; }
static inline bool mine() { return mock_lane() == 0; }
template <class F, class V> static void fill_fragment(F &f, V v) { if (mine()) for (int i = 0; i < F::num_elements; i++) f.x[i] = (typename F::E)v; }
template <class Use, int M, int N, int K, class T, class L, class P> static void load_matrix_sync(fragment<Use, M, N, K, T, L> &f, P *p, unsigned ld) {
    mock_yield(MOCK_WARP);
    typedef fragment<Use, M, N, K, T, L> F;
    if (mine()) for (int r = 0; r < F::R; r++) for (int c = 0; c < F::C; c++) f.x[r * F::C + c] = std::is_same<L, col_major>::value ? p[c * ld + r] : p[r * ld + c];
}
template <int M, int N, int K, class T, class P> static void load_matrix_sync(fragment<accumulator, M, N, K, T> &f, P *p, unsigned ld, layout_t l) {
    mock_yield(MOCK_WARP);
    if (mine()) for (int r = 0; r < M; r++) for (int c = 0; c < N; c++) f.x[r * N + c] = l == mem_col_major ? p[c * ld + r] : p[r * ld + c];
}
template <int M, int N, int K, class T, class P> static void store_matrix_sync(P *p, const fragment<accumulator, M, N, K, T> &f, unsigned ld, layout_t l) {
    if (mine()) for (int r = 0; r < M; r++) for (int c = 0; c < N; c++) p[l == mem_col_major ? c * ld + r : r * ld + c] = f.x[r * N + c];
    mock_yield(MOCK_WARP);
}
template <int M, int N, int K, class D, class A, class LA, class B, class LB, class C>
static void mma_sync(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, A, LA> &a, const fragment<matrix_b, M, N, K, B, LB> &b, const fragment<accumulator, M, N, K, C> &c) {
    if (!mine()) return;
    float s[M][N], u[M][K], v[K][N];
    for (int i = 0; i < M; i++) for (int k = 0; k < K; k++) u[i][k] = (float)a.x[i * K + k];
    for (int k = 0; k < K; k++) for (int j = 0; j < N; j++) v[k][j] = (float)b.x[k * N + j];
    for (int i = 0; i < M; i++) for (int j = 0; j < N; j++) s[i][j] = (float)c.x[i * N + j];
    for (int i = 0; i < M; i++) for (int k = 0; k < K; k++) for (int j = 0; j < N; j++) s[i][j] += u[i][k] * v[k][j];
    for (int i = 0; i < M; i++) for (int j = 0; j < N; j++) d.x[i * N + j] = (typename Element<D>::type)s[i][j];
}
} }

// mma.sync.m16n8k{8,16}: registers of all lanes are gathered, every lane computes its own four sums.
struct MockTf32 {};
template <class T> static unsigned mock_bits(T v) { static_assert(sizeof(T) == 4, ""); unsigned u; memcpy(&u, &v, 4); return u; }

static inline float mock_half_of(const __half *, unsigned r, int h) { unsigned short u = r >> (16 * h); __half x; memcpy(&x, &u, 2); return __half2float(x); }
static inline float mock_half_of(const __nv_bfloat16 *, unsigned r, int h) { unsigned u = (r >> (16 * h)) << 16; float x; memcpy(&x, &u, 4); return x; }
struct MockAB { unsigned a[4], b[2]; };
template <class T, int K> static void mock_mma(float *d, const unsigned *a, const unsigned *b, const float *c) {
    MockAB mine; memset(&mine, 0, sizeof mine);
    const int na = std::is_same<T, MockTf32>::value ? K / 2 : K / 4, nb = na / 2;
    memcpy(mine.a, a, 4 * na); memcpy(mine.b, b, 4 * nb);
    memcpy(mock_warp().in[mock_lane()].bytes, &mine, sizeof mine);
    mock_yield(MOCK_WARP);
    const MockWarp &w = mock_warp(); int g = mock_lane() / 4, t = mock_lane() % 4;
    for (int i = 0; i < 4; i++) {
        int row = g + 8 * (i / 2), col = 2 * t + i % 2; float s = c[i];
        for (int k = 0; k < K; k++) {
            float x, y; MockAB p, q;
            if constexpr (std::is_same<T, MockTf32>::value) {
                memcpy(&p, w.out[row % 8 * 4 + k % 4].bytes, sizeof p); memcpy(&q, w.out[col * 4 + k % 4].bytes, sizeof q);
                memcpy(&x, &p.a[row / 8 + 2 * (k / 4)], 4); memcpy(&y, &q.b[k / 4], 4);
            } else {
                memcpy(&p, w.out[row % 8 * 4 + k % 8 / 2].bytes, sizeof p); memcpy(&q, w.out[col * 4 + k % 8 / 2].bytes, sizeof q);
                x = mock_half_of((T *)0, p.a[row / 8 + 2 * (k / 8)], k % 2); y = mock_half_of((T *)0, q.b[k / 8], k % 2);
            }
            s += x * y;
        }
        d[i] = s;
    }
}
template <int N, bool TRANS> static void mock_ldmatrix(unsigned *out, unsigned long long address) {
    const char *row = mock_from_shared(address);
    memcpy(mock_warp().in[mock_lane()].bytes, &row, sizeof row);
    mock_yield(MOCK_WARP);
    int g = mock_lane() / 4, t = mock_lane() % 4;
    for (int m = 0; m < N; m++) {
        unsigned short e[2];
        for (int h = 0; h < 2; h++) {
            int r = TRANS ? 2 * t + h : g, c = TRANS ? g : 2 * t + h; const char *p;
            memcpy(&p, mock_warp().out[8 * m + r].bytes, sizeof p); memcpy(&e[h], p + 2 * c, 2);
        }
        out[m] = e[0] | (unsigned)e[1] << 16;
    }
    mock_yield(MOCK_WARP);
}
static inline void mock_cp_async(unsigned long long to, unsigned long long from, unsigned size, unsigned source_size) {
    // Of an empty copy only the place is written, and only the place has to be aligned.
    if (to % size || (source_size && from % size)) { fprintf(stderr, "mock exec: cp.async of %u of %u bytes from %llx to %llx\n", source_size, size, from, to); __builtin_trap(); }
    char *d = mock_from_shared(to); if (source_size > size) source_size = size;
    if (source_size) memcpy(d, (const void *)from, source_size); memset(d + source_size, 0, size - source_size);
}
namespace cuda {
enum thread_scope { thread_scope_thread, thread_scope_block };
template <thread_scope S> struct barrier {
    int expected, left; unsigned phase; typedef unsigned arrival_token;
    unsigned arrive(int n = 1) { unsigned p = phase; left -= n; if (left <= 0) { phase++; left = expected; } return p; }
    void wait(unsigned p) { while (phase == p) mock_yield(MOCK_SPIN); }
    void wait_parity(bool p) { while ((phase & 1) == (unsigned)p) mock_yield(MOCK_SPIN); }
    void arrive_and_wait() { wait(arrive()); }
};
template <thread_scope S> static void init(barrier<S> *b, int n) { b->expected = b->left = n; b->phase = 0; }
template <class B> static void memcpy_async(void *d, const void *s, size_t n, B &) { memcpy(d, s, n); }
namespace device {
template <class B> static const void *barrier_native_handle(B &b) { return &b; }
namespace experimental { static inline void fence_proxy_async_shared_cta() {} }
} }
using cuda::init;

// The order of a phase: a permutation of 0..n that the seed and the number of the phase choose; as it is without a seed.
struct MockOrder {
    unsigned long long factor, shift, n;
    MockOrder(unsigned count) : factor(1), shift(0), n(count) {
        static const char *setting = getenv("MOCK_SEED");
        static const unsigned long long seed = setting ? strtoull(setting, 0, 10) : 0;
        static unsigned long long phase = 0;
        if (!seed || !n) return;
        unsigned long long z = (seed + ++phase) * 0x9E3779B97F4A7C15ull;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
        z ^= z >> 27;
        // Primes: one of them does not divide n, so that the multiples are all different.
        static const unsigned long long primes[] = {1000003, 999983, 611953, 104729};
        for (int i = 0; i < 4; i++) if (n % primes[(z + i) % 4]) { factor = primes[(z + i) % 4]; break; }
        shift = z >> 32;
    }
    unsigned operator()(unsigned i) const { return n ? (i * factor + shift) % n : i; }
};
extern "C" void mock_position(char *text, size_t size) {
    snprintf(text, size, "block %u %u %u, thread %u %u %u", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
}
static void (*mock_body)();
static void mock_start() { mock_body(); mock_self->state = MOCK_DONE; void *dummy; mock_swap(&dummy, mock_main_sp); abort(); }
static void mock_block(unsigned n, void (*body)()) {
    mock_body = body;
    unsigned warps = (n + 31) / 32;
    static MockLane *lanes = (MockLane *)malloc(1024 * sizeof(MockLane));
    static MockWarp *all = (MockWarp *)malloc(32 * sizeof(MockWarp));
    if (!mock_stacks) mock_stacks = (char *)mmap(0, 1024 * MOCK_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mock_lanes = lanes; mock_warps = all;
    for (unsigned i = 0; i < n; i++) {
        MockLane &l = lanes[i];
        l.id = MockDim{i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        l.state = MOCK_READY; l.index = i;
        void **top = (void **)(mock_stacks + (i + 1) * MOCK_STACK - 64);
        *--top = 0; *--top = (void *)mock_start;
        for (int k = 0; k < 6; k++) *--top = 0;
        l.sp = top;
    }
    for (unsigned alive = n; alive;) {
        MockOrder of_warps(warps);
        for (unsigned v = 0; v < warps; v++) {
            unsigned w = of_warps(v), from = 32 * w, to = from + 32 < n ? from + 32 : n;
            for (;;) {
                MockOrder of_lanes(to - from);
                for (unsigned j = 0; j < to - from; j++) {
                    unsigned i = from + of_lanes(j);
                    if (lanes[i].state != MOCK_READY) continue;
                    mock_self = &lanes[i]; threadIdx = lanes[i].id;
                    mock_swap(&mock_main_sp, lanes[i].sp);
                }
                // A warp operation is of the whole warp: those that still wait at a cuda::barrier come to it later.
                bool late = false;
                for (unsigned i = from; i < to; i++) late |= lanes[i].state == MOCK_SPIN;
                if (late) break;
                unsigned mask = 0, ballot = 0;
                for (unsigned i = from; i < to; i++) if (lanes[i].state == MOCK_WARP) { mask |= 1u << (i - from); ballot |= (unsigned)all[w].pred[i - from] << (i - from); lanes[i].state = MOCK_READY; }
                if (!mask) break;
                all[w].mask = mask; all[w].ballot = ballot & mask; memcpy(all[w].out, all[w].in, sizeof all[w].in);
            }
        }
        alive = 0;
        bool spins = false;
        for (unsigned i = 0; i < n; i++) spins |= lanes[i].state == MOCK_SPIN;
        int line = 0;
        for (unsigned i = 0; i < n && !spins; i++) {
            if (lanes[i].state != MOCK_BLOCK) continue;
            if (line && lanes[i].line != line) {
                fprintf(stderr, "mock exec: block %u %u %u waits at different barriers, in lines %d and %d\n", blockIdx.x, blockIdx.y, blockIdx.z, line, lanes[i].line);
                _exit(99);
            }
            line = lanes[i].line;
        }
        for (unsigned i = 0; i < n; i++) if (lanes[i].state == MOCK_SPIN || (!spins && lanes[i].state == MOCK_BLOCK)) lanes[i].state = MOCK_READY;
        for (unsigned i = 0; i < n; i++) alive += lanes[i].state != MOCK_DONE;
    }
    mock_lanes = 0;
}
static void **mock_params;
template <class F> struct MockCall;
template <class... A> struct MockCall<void (*)(A...)> {
    template <size_t... I> static void go(void (*f)(A...), void **p, std::index_sequence<I...>) { f(*(typename std::remove_cv<typename std::remove_reference<A>::type>::type *)p[I]...); }
    static void call(void (*f)(A...), void **p) { go(f, p, std::index_sequence_for<A...>()); }
};
template <class F, F f> static void mock_one() { MockCall<F>::call(f, mock_params); }
template <class F, F f> static void mock_grid(void **params, const unsigned *g, const unsigned *b, char *shared, unsigned smem, bool syncs) {
    mock_params = params; mock_smem = shared;
    gridDim = MockDim{g[0], g[1], g[2]}; blockDim = MockDim{b[0], b[1], b[2]};
    unsigned n = b[0] * b[1] * b[2];
    MockOrder of_x(g[0]), of_y(g[1]), of_z(g[2]), of_threads(n);
    for (unsigned z = 0; z < g[2]; z++) for (unsigned y = 0; y < g[1]; y++) for (unsigned x = 0; x < g[0]; x++) {
        blockIdx = MockDim{of_x(x), of_y(y), of_z(z)};
        if (smem) memset(mock_smem, 0xff, smem);
        if (syncs) { mock_block(n, mock_one<F, f>); continue; }
        for (unsigned j = 0; j < n; j++) { unsigned i = of_threads(j); threadIdx = MockDim{i % b[0], i / b[0] % b[1], i / (b[0] * b[1])}; mock_one<F, f>(); }
    }
}

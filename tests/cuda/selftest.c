// The rig by itself: compiles a kernel with the real NVRTC, loads it into the mock driver, runs it. With the name of a
// fault as its argument it runs a kernel that has it, which must end the process with code 99.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long long CUdeviceptr;
int nvrtcCreateProgram(void **, const char *, const char *, int, const char *const *, const char *const *);
int nvrtcCompileProgram(void *, int, const char *const *);
int nvrtcGetPTXSize(void *, size_t *);
int nvrtcGetPTX(void *, char *);
int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *), cuMemAlloc_v2(CUdeviceptr *, size_t);
int cuModuleLoadData(void **, const void *), cuModuleGetFunction(void **, void *, const char *), cuStreamCreate(void **, unsigned), cuStreamSynchronize(void *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);

#define HEAD "#include <cuda_fp16.h>\n#include <mma.h>\ntypedef unsigned int uint32_t;\ntypedef unsigned long long int uint64_t;\n" \
    "struct __align__(16) float_4 { float x, y, z, w; };\n" \
    "extern \"C\" __global__ void __launch_bounds__(64)  k(float const* const __restrict__ a, float* const __restrict__ o, uint32_t* const __restrict__ n) {\n" \
    "extern __shared__ __align__(16) char s[];\n float* t = reinterpret_cast<float*>(s);\n t[threadIdx.x] = a[blockIdx.x * 64 + threadIdx.x];\n __syncthreads();\n"
static const struct { const char *name, *source; } faults[] = {
    {"beyond", HEAD "o[blockIdx.x * 64 + threadIdx.x + 64] = 1;\n}\n"},
    {"before", HEAD "o[blockIdx.x * 64 + threadIdx.x] = a[(int)threadIdx.x - 2048];\n}\n"},
    {"freed", HEAD "o[threadIdx.x] = 1;\n}\n"},
    {"shared", HEAD "o[threadIdx.x] = t[threadIdx.x + 64];\n}\n"},
    {"misaligned", HEAD "float_4 v = *reinterpret_cast<float_4 const*>(a + 1 + threadIdx.x % 2);\n o[threadIdx.x] = v.x + v.w;\n}\n"},
    {"barriers", HEAD "if (threadIdx.x < 32) {\n __syncthreads();\n o[threadIdx.x] = t[1];\n } else {\n __syncthreads();\n o[threadIdx.x] = t[2];\n }\n}\n"},
};
// Its warps meet at a cuda::barrier, which the last thread passes at once, and then exchange values.
static const char *source =
    "#include <cuda/barrier>\n#include <cuda_fp16.h>\n#include <mma.h>\ntypedef unsigned int uint32_t;\ntypedef unsigned long long int uint64_t;\n"
    "extern \"C\" __global__ void __launch_bounds__(64)  k(float const* const __restrict__ a, float* const __restrict__ o, uint32_t* const __restrict__ n) {\n"
    "extern __shared__ __align__(16) char s[];\n float* t = reinterpret_cast<float*>(s);\n t[threadIdx.x] = a[blockIdx.x * 64 + threadIdx.x];\n __syncthreads();\n"
    "typedef cuda::barrier<cuda::thread_scope_block> B;\n B* const m = reinterpret_cast<B*>(&s[256]);\n if (threadIdx.x == 0) init(m, 64);\n __syncthreads();\n m->arrive_and_wait();\n"
    "float v = t[63 - threadIdx.x];\n for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(__activemask(), v, d);\n"
    "uint32_t r; asm volatile(\"atom.relaxed.add.u32 %0, [%1], %2;\" : \"=r\"(r) : \"l\"(n), \"r\"(1u) );\n"
    "o[blockIdx.x * 64 + threadIdx.x] = v;\n}\n";

int cuMemFree_v2(CUdeviceptr), cuCtxDetach(void *);

int main(int arguments, char **argument) {
    const char *fault = arguments > 1 ? argument[1] : NULL;
    for (unsigned i = 0; fault && i < sizeof faults / sizeof *faults; i++) if (!strcmp(fault, faults[i].name)) source = faults[i].source;
    void *program, *context, *module, *function, *stream;
    char include[600], arch[64];
    snprintf(include, sizeof include, "--include-path=%s", getenv("MOCK_INCLUDE"));
    snprintf(arch, sizeof arch, "--gpu-architecture=sm_%s", getenv("MOCK_SM"));
    const char *options[] = {arch, include};
    nvrtcCreateProgram(&program, source, 0, 0, 0, 0);
    if (nvrtcCompileProgram(program, 2, options)) return 1;
    size_t size;
    nvrtcGetPTXSize(program, &size);
    char *ptx = malloc(size);
    nvrtcGetPTX(program, ptx);
    cuInit(0);
    cuDevicePrimaryCtxRetain(&context, 0);
    cuCtxSetCurrent(context);
    cuStreamCreate(&stream, 1);
    if (cuModuleLoadData(&module, ptx) || cuModuleGetFunction(&function, module, "k")) return 2;
    CUdeviceptr in, out, count;
    if (cuMemAlloc_v2(&in, 512) || cuMemAlloc_v2(&out, 512) || cuMemAlloc_v2(&count, 4)) return 3;
    for (int i = 0; i < 128; i++) ((float *)in)[i] = i;
    *(unsigned *)count = 0;
    void *params[] = {&in, &out, &count};
    if (fault && !strcmp(fault, "freed")) cuMemFree_v2(out);
    if (fault && !strcmp(fault, "unknown")) cuCtxDetach(context);
    if (cuLaunchKernel(function, 2, 1, 1, 64, 1, 1, 320, stream, params, 0)) return 4;
    cuStreamSynchronize(stream);
    const float *sums = (float *)out, wanted[] = {1520, 496, 3568, 2544};
    for (int i = 0; i < 4; i++) if (sums[32 * i] != wanted[i]) {
        printf("sum %d is %g, not %g\n", i, sums[32 * i], wanted[i]);
        return 5;
    }
    return *(unsigned *)count == 128 ? 0 : 6;
}

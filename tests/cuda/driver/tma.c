// Descriptors of tensor maps (sm_90): the rules of cuTensorMapEncode*.
#include "driver.h"

static int element_size(int type) {
    static const int sizes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
    return type >= 0 && type < 13 ? sizes[type] : 1;
}

static CUresult check(const char *what, int type, unsigned rank, void *at, const uint64_t *size, const uint64_t *stride,
                      unsigned inner, int interleave, int swizzle) {
    unsigned row = inner * element_size(type);
    int span = swizzle == 1 ? 32 : swizzle == 2 ? 64 : swizzle >= 3 ? 128 : 0;
#define BAD(...) do { write_report("PROBLEM", __VA_ARGS__); return INVALID_VALUE; } while (0)
    if ((uintptr_t)at % 16) BAD("%s: the address %p", what, at);
    if (rank < 1 || rank > 5) BAD("%s: rank %u", what, rank);
    for (unsigned i = 0; i < rank; i++) if (!size[i] || size[i] > 1ull << 32) BAD("%s: size %u is %llu", what, i, (unsigned long long)size[i]);
    for (unsigned i = 0; i + 1 < rank; i++) if (stride[i] % 16 || stride[i] >= 1ull << 40) BAD("%s: stride %u is %llu", what, i, (unsigned long long)stride[i]);
    if (!interleave && row % 16) BAD("%s: an inner box of %u bytes", what, row);
    if (span && (int)row > span) BAD("%s: an inner box of %u bytes with swizzle %d", what, row, span);
    return OK;
}
CUresult cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *at, const uint64_t *size, const uint64_t *stride,
                                const unsigned *box, const unsigned *step, int interleave, int swizzle, int l2, int beyond) {
    for (unsigned i = 0; i < rank && i < 5; i++) if (!box[i] || box[i] > 256) BAD("tiled tensor map: box %u is %u", i, box[i]);
    return check("tiled tensor map", type, rank, at, size, stride, box[0], interleave, swizzle);
}
CUresult cuTensorMapEncodeIm2col(void *map, int type, unsigned rank, void *at, const uint64_t *size, const uint64_t *stride,
                                 const int *lower, const int *upper, unsigned channels, unsigned pixels, const unsigned *step,
                                 int interleave, int swizzle, int l2, int beyond) {
    int most = rank == 3 ? 32768 : rank == 4 ? 128 : 8;
    for (unsigned i = 0; i + 2 < rank; i++)
        if (lower[i] < -most || lower[i] >= most || upper[i] < -most || upper[i] >= most) BAD("im2col tensor map: corners %d %d", lower[i], upper[i]);
    if (channels > 256 || pixels > 1024) BAD("im2col tensor map: %u channels, %u pixels", channels, pixels);
    return check("im2col tensor map", type, rank, at, size, stride, channels, interleave, swizzle);
}

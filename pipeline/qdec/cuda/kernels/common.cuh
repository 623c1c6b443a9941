// What all kernels share: the shape of a block, packed bits, and sums over a window.
//
// A block is 256 threads and works on one tile (a slice of the window) of up to 8 windows, so that
// what it reads from the tables serves several windows. blockIdx.x is the tile, blockIdx.y the
// group of windows. (`components` has a block for each window.) Where warps vote, they do with all 32
// lanes.
#pragma once

#include <cuda_fp16.h>

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

namespace qdec {

constexpr int kThreads = 256;
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;
constexpr int kMostWindows = 8;  // of a block; each of its warps finishes one
constexpr unsigned kAllLanes = 0xffffffffu;

constexpr unsigned kSick = 1;  // flags of a head
constexpr unsigned kParity = 2;  // in partial sums only

// What is said of a window before its payload; also the partial sums over one tile.
struct alignas(16) Head {
    float doubt;     // sum of softplus(-|logit|)
    float margin;    // min |logit|
    unsigned count;  // residual events, or likely edges
    unsigned flags;
};

// Four neighbouring elements of a tensor, loaded or stored at once.
template <typename Element>
struct alignas(4 * sizeof(Element)) Quad {
    Element at[4];
};

__device__ inline float as_float(float value) { return value; }
__device__ inline float as_float(__half value) { return __half2float(value); }

// Windows of this block: the first, and how many.
struct Group {
    int first;
    int count;
};

__device__ inline Group group_of(int windows, int group) {
    const int first = static_cast<int>(blockIdx.y) * group;
    return {first, min(group, windows - first)};
}

// Bits by which packed bytes are off the words that they are read in.
__device__ inline int skew_of(const unsigned char* bytes) {
    return 8 * static_cast<int>(reinterpret_cast<size_t>(bytes) & 3);
}

__device__ inline int words_for(int bytes) { return (bytes + 6) >> 2; }  // whatever the skew

// Copies `bytes` bytes of each window, from its byte `from` on, to shared memory, in whole words:
// window g's are at to[g * words_for(bytes)], its first bit at skew_of its first byte. Absent
// windows (offset < 0) are zeros. The words lie in the arena, which begins and ends on a word.
__device__ inline void stage(const unsigned char* arena, const long long* offsets, Group group,
                             int from, int bytes, unsigned* to) {
    const int words = words_for(bytes);
    for (int i = static_cast<int>(threadIdx.x); i < group.count * words; i += kThreads) {
        const int g = i / words, word = i - g * words;
        const long long offset = offsets[group.first + g];
        unsigned value = 0;
        if (offset >= 0) {
            const unsigned char* begin = arena + offset + from;
            const int skew = skew_of(begin) >> 3;
            if (4 * word < skew + bytes)
                value = reinterpret_cast<const unsigned*>(begin - skew)[word];
        }
        to[i] = value;
    }
}

__device__ inline unsigned bit_at(const unsigned* words, int bit) {
    return (words[bit >> 5] >> (bit & 31)) & 1u;
}

// The slice of `total` things that a tile is to look at.
struct Slice {
    int begin;
    int end;
};

__device__ inline Slice slice_of(int total) {
    const int tiles = static_cast<int>(gridDim.x);
    const int each = (total + tiles - 1) / tiles;
    const int begin = min(static_cast<int>(blockIdx.x) * each, total);
    return {begin, min(begin + each, total)};
}

__device__ inline Head nothing() { return {0.0f, INFINITY, 0u, 0u}; }

__device__ inline void see(Head& head, float logit) {
    const float size = fabsf(logit);
    head.doubt += log1pf(expf(-size));
    head.margin = fminf(head.margin, size);
}

__device__ inline Head both(Head a, Head b) {
    const unsigned flags = ((a.flags | b.flags) & kSick) | ((a.flags ^ b.flags) & kParity);
    return {a.doubt + b.doubt, fminf(a.margin, b.margin), a.count + b.count, flags};
}

// The heads of a warp's lanes together, in every lane; always summed in the same order.
__device__ inline Head over_warp(Head head) {
    for (int step = kLanes / 2; step; step >>= 1)
        head.doubt += __shfl_xor_sync(kAllLanes, head.doubt, step);
    // Floats that are not negative are ordered as their bits are.
    head.margin = __uint_as_float(__reduce_min_sync(kAllLanes, __float_as_uint(head.margin)));
    head.count = __reduce_add_sync(kAllLanes, head.count);
    head.flags = (__reduce_or_sync(kAllLanes, head.flags) & kSick) |
                 (__reduce_xor_sync(kAllLanes, head.flags) & kParity);
    return head;
}

// Leaves this tile's sums of each window in `partials` ((windows, tiles)), and says whether this
// block is the last of its group to do so. Then all that the group's blocks wrote can be read.
// `counters` holds a zero per group, before as after.
__device__ inline bool finished(const Head (&parts)[kMostWindows][kWarps], Group group,
                                Head* partials, unsigned* counters) {
    __shared__ bool last;
    __syncthreads();
    const int tiles = static_cast<int>(gridDim.x), g = static_cast<int>(threadIdx.x);
    if (g < group.count) {
        Head sum = nothing();
        for (int warp = 0; warp < kWarps; ++warp) sum = both(sum, parts[g][warp]);
        partials[static_cast<size_t>(group.first + g) * tiles + blockIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // releases what this block wrote, and below acquires what others did
        last = atomicAdd(&counters[blockIdx.y], 1u) == gridDim.x - 1;
        if (last) counters[blockIdx.y] = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// A window's sums over all tiles, in every lane of the warp that asks.
__device__ inline Head over_tiles(const Head* partials, int window) {
    const int tiles = static_cast<int>(gridDim.x);
    Head sum = nothing();
    for (int tile = static_cast<int>(threadIdx.x) % kLanes; tile < tiles; tile += kLanes) {
        // Past the first-level cache, which knows nothing of what other blocks write.
        const Head* partial = &partials[static_cast<size_t>(window) * tiles + tile];
        const uint4 raw = __ldcg(reinterpret_cast<const uint4*>(partial));
        sum = both(sum, {__uint_as_float(raw.x), __uint_as_float(raw.y), raw.z, raw.w});
    }
    return over_warp(sum);
}

// A sick window is as unsure as can be.
__device__ inline Head sick_head(unsigned count) { return {INFINITY, 0.0f, count, kSick}; }

}  // namespace qdec

// A soft network's output to the log-odds of a window's edges.
//
// Edge e has the places ptr[e] to ptr[e + 1]: elements of the network's output, and the priors that
// they are added to. Most have one; those with several (where the window's end cuts edges off)
// happen if an odd number of these do. The record of a window is its head (edges whose log-odds are
// above `likely` are counted), then the edges' log-odds.
//
// If any element of a window's output is not a number, or 1e4 or more in size, all its log-odds are
// NaN. That is known when the last block of a group finishes, and it writes them.
//
// Reads per window: the output once from memory. Writes: the record, in whole sectors.
#include "common.cuh"

namespace qdec {

constexpr float kWild = 1e4f;

__device__ inline void put(float* to, float value) { *to = value; }
__device__ inline void put(__half* to, float value) { *to = __float2half_rn(value); }

// Whether this tile's slice of a window's output is out of bounds, as this thread sees it.
template <typename Real>
__device__ bool wild(const Real* change, int elements) {
    bool found = false;
    const Slice slice = slice_of(elements / 4);
    for (int i = slice.begin + static_cast<int>(threadIdx.x); i < slice.end; i += kThreads) {
        const Quad<Real> quad = reinterpret_cast<const Quad<Real>*>(change)[i];
        for (int k = 0; k < 4; ++k)
            if (!(fabsf(as_float(quad.at[k])) < kWild)) found = true;  // true for NaN
    }
    return found;
}

// With P = 1 / (1 + exp(-l)): 1 - 2 P = prod (1 - 2 P_i), and 1 - 2 P = -tanh(l / 2).
template <typename Real>
__device__ float odd_number(const Real* change, const int* places, const float* priors, int begin,
                            int end) {
    double product = 1;
    for (int i = begin; i < end; ++i) {
        const float odds = as_float(change[places[i]]) + priors[i];
        product *= -tanh(static_cast<double>(odds) / 2);
    }
    return static_cast<float>(log1p(-product) - log1p(product));
}

template <typename Real, typename Odds>
__device__ void edges(const Real* change, int windows, int windows_each, int elements,
                      const int* ptr, const int* places, const float* priors, int count,
                      float likely, unsigned char* results, const long long* result_offsets,
                      Head* partials, unsigned* counters) {
    __shared__ Head parts[kMostWindows][kWarps];
    const Group group = group_of(windows, windows_each);
    const int warp = static_cast<int>(threadIdx.x) / kLanes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int edge = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
    const int begin = edge < count ? ptr[edge] : 0, end = edge < count ? ptr[edge + 1] : 0;
    const int place = begin < end ? places[begin] : 0;
    const float prior = begin < end ? priors[begin] : 0.0f;

    for (int g = 0; g < group.count; ++g) {
        const int window = group.first + g;
        Head head = nothing();
        if (result_offsets[window] >= 0) {
            const Real* said = change + static_cast<size_t>(window) * elements;
            if (edge < count) {
                const float odds = end - begin == 1
                                       ? as_float(said[place]) + prior
                                       : odd_number(said, places, priors, begin, end);
                unsigned char* record = results + result_offsets[window] + sizeof(Head);
                put(reinterpret_cast<Odds*>(record) + edge, odds);
                see(head, odds);
                head.count = odds > likely;
            }
            if (wild(said, elements)) head.flags = kSick;
        }
        head = over_warp(head);
        if (lane == 0) parts[g][warp] = head;
    }
    if (!finished(parts, group, partials, counters)) return;

    const int window = group.first + warp;
    if (warp >= group.count || result_offsets[window] < 0) return;
    const Head sum = over_tiles(partials, window);
    unsigned char* record = results + result_offsets[window];
    if (sum.flags & kSick)
        for (int i = lane; i < count; i += kLanes)
            put(reinterpret_cast<Odds*>(record + sizeof(Head)) + i, NAN);
    if (lane == 0) *reinterpret_cast<Head*>(record) = sum.flags & kSick ? sick_head(0u) : sum;
}

}  // namespace qdec

// From what the network says, to the log-odds.
#define EDGES(name, Real, Odds)                                                                   \
    extern "C" __global__ void __launch_bounds__(qdec::kThreads)                                  \
        name(const Real* change, int windows, int windows_each, int elements, const int* ptr,     \
             const int* places, const float* priors, int count, float likely,                     \
             unsigned char* results, const long long* result_offsets, qdec::Head* partials,       \
             unsigned* counters) {                                                                \
        qdec::edges<Real, Odds>(change, windows, windows_each, elements, ptr, places, priors,     \
                                count, likely, results, result_offsets, partials, counters);      \
    }

EDGES(edges_f16_f16, __half, __half)
EDGES(edges_f16_f32, __half, float)
EDGES(edges_f32_f16, float, __half)
EDGES(edges_f32_f32, float, float)
